"""The boot of the lab's release beside dracut's own livenet.

Both boot by PXE and Xen with the same kernel, the same options and the same
squashfs, each from a server in a LAN of its own. What is compared begins with
systemd's start in the initramfs and ends at switch_root.
"""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files
from sys_pxe.errors import SysPxeError
from sys_pxe.lab.machine import Hardware, Machine
from sys_pxe.lab.world import BOOT_SECONDS, DESKS, RAM_MIB, World
from tests.bench import livenet, rows

RUNS = int(os.environ.get("SYS_PXE_BENCH_RUNS", rows.ROUNDS))
BUILD = rows.FOLDER.parent
DESK = DESKS[0]
RELEASE = "r1"
PEER = "dracut livenet"
STAMPS = ("InitRDTimestampMonotonic", "UserspaceTimestampMonotonic")


@dataclass(frozen=True)
class Figures:
    """What one boot cost: times in seconds, RAM in MiB."""

    initramfs: float
    kernel: float
    ram: float


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def stamps(shown: str) -> tuple[float, float]:
    """Return when the initramfs and the real root began, in seconds."""
    found = dict(re.findall(r"^(\w+)=([0-9]+)\r?$", shown, re.MULTILINE))
    begin, end = (int(found[name]) / 1e6 for name in STAMPS)
    if not 0 < begin < end:
        raise SysPxeError(f"no two times of a boot: {shown!r}")
    return begin, end


def measured(machine: Machine) -> Figures:
    """Boot a machine, wait until it is at rest, and read its figures."""
    with machine:
        machine.login(BOOT_SECONDS)
        # a degraded system is at rest as well
        machine.command(
            "systemctl is-system-running --wait || true", BOOT_SECONDS
        )
        asked = " ".join(f"-p {name}" for name in STAMPS)
        begin, end = stamps(machine.command(f"systemctl show {asked}"))
        found = machine.probe()
    root, ram = found["root"], found["ram_used_mib"]
    if not isinstance(root, dict) or root.get("fstype") != "overlay":
        raise SysPxeError(f"{machine.name}: the root is {root}")
    if not isinstance(ram, int):
        raise SysPxeError(f"{machine.name}: lab-probe found no RAM")
    say(f"  {machine.name}: {end - begin:.2f} s, {ram} MiB")
    return Figures(end - begin, end, ram)


def prepare(world: World) -> Path:
    """Build and publish the release; return the folder of its files."""
    world.create_key()
    world.build(RELEASE, world.golden())
    world.start_agent()
    world.command("release", "push", RELEASE)
    world.write_site()
    world.command("site", "push")
    world.command("channel", "set", "stable", RELEASE)
    return world.state / "releases" / RELEASE


def row(
    what: str,
    unit: str,
    runs: dict[str, list[Figures]],
    figure: Callable[[Figures], float],
    aim: float | None,
) -> rows.Row:
    both = {side: [figure(f) for f in found] for side, found in runs.items()}
    return rows.compared(what, PEER, unit, both, aim, more_is_better=False)


def table(runs: dict[str, list[Figures]], sizes: dict[str, float]) -> list[
    rows.Row
]:  # fmt: skip
    one = {side: [size] for side, size in sizes.items()}
    return [
        row("initramfs start to switch_root", "s", runs,
            lambda f: f.initramfs, 1.0),
        row("RAM in use after login", "MiB", runs, lambda f: f.ram, 1.0),
        row("kernel start to switch_root", "s", runs,
            lambda f: f.kernel, None),
        rows.compared("initramfs", PEER, "MiB", one, None,
                      more_is_better=False),
    ]  # fmt: skip


def bench() -> list[rows.Row]:
    folder, cache = BUILD / "bench-boot", BUILD / "cache"
    with World(folder, cache, say) as world:
        release = prepare(world)
        peer = livenet.initramfs(world.golden(), cache, say)
        served = {
            "xen": release / "xen",
            "kernel": release / "kernel",
            "initramfs": peer,
            "dom0-root.squashfs": release / "dom0-root",
        }
        script = world.agent_root / "current/ipxe" / f"{DESK.name}.ipxe"
        place = files.make_folder(folder / "peer")
        ours = script.read_text("ascii")
        runs: dict[str, list[Figures]] = {"ours": [], "theirs": []}
        with livenet.served_lan(place, served, ours) as lan:
            pc = Hardware(mac=DESK.mac, memory=RAM_MIB)
            for _ in range(RUNS):
                machine = world.machine(DESK, disks=())
                runs["ours"].append(measured(machine))
                other = Machine(lan, "livenet", livenet.TAP, pc, place)
                runs["theirs"].append(measured(other))
        sizes = {
            "ours": (release / "initramfs").stat().st_size / (1 << 20),
            "theirs": peer.stat().st_size / (1 << 20),
        }
    return table(runs, sizes)
