"""Each row of the boot matrix: from the first DHCP packet to Xen's first line
and to the initramfs, and the bytes until then. The peer is the BIOS row, which
is what people netboot with today."""

import sys
import time

from sys_pxe.errors import SysPxeError
from sys_pxe.lab import traffic
from sys_pxe.lab.machine import Machine
from sys_pxe.lab.world import BOOT_SECONDS, World
from tests.bench import rows
from tests.matrix import READY, Row, booting, named, start

BUILD = rows.FOLDER.parent
ROUNDS = 3
# a stick starts Xen before anything is asked of the network
ROWS = [row for row in READY if row.path != "stick"]
# not the row of plain PXE, whose card loses packets that are sent again
PEER = ROWS[1]
XEN = r"\(XEN\) Xen version"
# the first that the client program says
INITRAMFS = r"sys-pxe: hidden from dom0"
TFTP_MAX = 2_000_000
BYTES_AIM = 1 / 1.3
_PAUSE, _ASK_SECONDS = 0.05, 120.0

Found = dict[str, float]


def first_question(world: World, machine: Machine) -> float:
    """Return when DHCP was asked first, in seconds from power-on."""
    begun = machine.console.started
    while time.monotonic() - begun < _ASK_SECONDS:
        if traffic.counted(world.lan)["dhcp"]:
            return time.monotonic() - begun
        time.sleep(_PAUSE)
    raise SysPxeError(f"{machine.name} asked for no address")


def measured(world: World, row: Row) -> Found:
    """Boot once, as far as the initramfs."""
    with booting(world, row) as machine:
        asked = first_question(world, machine)
        xen = machine.wait_for(XEN, BOOT_SECONDS).seconds
        initramfs = machine.wait_for(INITRAMFS, BOOT_SECONDS).seconds
        sent = traffic.counted(world.lan)
    found = {
        "xen": xen - asked,
        "initramfs": initramfs - asked,
        "tftp": float(sent["tftp"]),
        "bytes": float(sent["tftp"] + sent["http"]),
    }
    print(f"  {named(row)}: {found}", file=sys.stderr, flush=True)
    return found


def table(found: dict[Row, list[Found]]) -> list[rows.Row]:
    """Return the rows of what was measured."""
    made = []
    for row, runs in found.items():
        name = named(row)

        def both(key: str, runs: list[Found] = runs) -> dict[str, list[float]]:
            return {
                "ours": [one[key] for one in runs],
                "theirs": [one[key] for one in found[PEER]],
            }

        tftp = both("tftp")["ours"]
        # none is no ratio
        made.append(rows.against_limit(f"{name}, by TFTP", "bytes", TFTP_MAX,
                                       [max(n, 1) for n in tftp]))  # fmt: skip
        for key, what, unit, aim in (
            ("xen", "first DHCP packet to Xen", "s", None),
            ("initramfs", "first DHCP packet to the initramfs", "s", None),
            ("bytes", "bytes of boot files", "bytes", BYTES_AIM),
        ):
            made.append(rows.compared(f"{name}, {what}", named(PEER), unit,
                                      both(key), aim,
                                      more_is_better=False))  # fmt: skip
    return made


def bench() -> list[rows.Row]:
    found: dict[Row, list[Found]] = {row: [] for row in ROWS}
    folder = BUILD / "bench-matrix"
    with World(folder, BUILD / "cache", print) as world:
        start(world)
        for _ in range(ROUNDS):
            for row, runs in found.items():
                runs.append(measured(world, row))
    return table(found)
