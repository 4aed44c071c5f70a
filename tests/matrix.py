"""The rows of the boot matrix, and how a PC of one is switched on."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sys_pxe.dom0 import securekeys
from sys_pxe.dom0.state import State
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import rom, tpm, traffic, uefi
from sys_pxe.lab.machine import Machine
from sys_pxe.lab.world import DESKS, World

DESK = DESKS[0]
FIRST = "r1"


@dataclass(frozen=True)
class Row:
    """``nic`` is QEMU's name; with ``rom`` the iPXE that QEMU's cards bring.

    In the path "pxe" such a ROM stands for one that is not iPXE. In the path
    "stick" the network is for the client program alone.
    """

    firmware: str
    path: str
    secure_boot: bool
    nic: str
    rom: bool = False


READY = (
    Row("bios", "pxe", False, "rtl8139", rom=True),
    Row("bios", "ipxe", False, "e1000e", rom=True),
    Row("uefi", "pxe", False, "virtio-net-pci"),
    Row("uefi", "http", False, "virtio-net-pci"),
    Row("uefi", "ipxe", False, "e1000e", rom=True),
    Row("uefi", "pxe", True, "virtio-net-pci"),
    Row("uefi", "http", True, "virtio-net-pci"),
    Row("bios", "stick", False, "virtio-net-pci"),
    Row("uefi", "stick", False, "virtio-net-pci"),
)


def named(row: Row) -> str:
    secure = "-secure" if row.secure_boot else ""
    return f"{row.firmware}-{row.path}{secure}-{row.nic}"


def start(world: World) -> None:
    """Make keys and a site, build and push a release, and make it active."""
    world.create_key()
    world.command("key", "create", "--secure-boot")
    # first, as images for UEFI hold the options of its profiles
    world.write_site()
    world.build(FIRST, world.golden())
    world.start_agent()
    world.command("release", "push", FIRST, shown=False)
    world.command("site", "push")
    world.command("channel", "set", "stable", FIRST)


def firmware(world: World, row: Row) -> tuple[str, ...]:
    variables = world.folder / "variables.fd"
    order = () if row.path != "http" else uefi.HTTP_ONLY
    if not row.secure_boot:
        return (*uefi.plain(variables), *order)
    place = securekeys.exports(State(world.state))
    keys = {
        name: (place / f"{name}.esl").read_bytes() for name in securekeys.NAMES
    }
    return (*uefi.secure(variables, keys, int(time.time())), *order)


def stick(world: World) -> Path:
    """Return the image of a boot stick, made from the active release."""
    made = world.folder / "stick.img"
    world.command("media", "build", str(made), "--profile", DESK.profile)
    return made


@contextmanager
def booting(world: World, row: Row) -> Iterator[Machine]:
    """Switch a PC on that is as the row says; with Secure Boot it has a TPM."""
    traffic.count(world.lan)
    options = () if row.rom else ("romfile=",)
    hardware: dict[str, object] = {"nic": row.nic, "nic_options": options}
    if row.firmware == "uefi":
        hardware["board"] = uefi.BOARD
        hardware["firmware"] = firmware(world, row)
    if row.path == "stick":
        hardware["stick"] = stick(world)
    elif row.firmware == "uefi":
        hardware["nic_options"] = (*options, "bootindex=0")
    with ExitStack() as stack:
        if row.secure_boot:
            seeds = world.folder / "tpm"
            hardware["tpm"] = stack.enter_context(tpm.emulated(seeds))
        machine = world.machine(DESK, **hardware)
        if row.rom and row.path == "pxe":
            stack.enter_context(rom.plain(world.lan, machine.tap))
        stack.enter_context(machine)
        try:
            yield machine
        except BaseException:
            # what failed is of interest, not that QEMU has ended over it
            with suppress(SysPxeError):
                machine.screenshot(world.folder / f"{named(row)}.png")
            raise
