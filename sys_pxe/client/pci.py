"""PCI devices: hide them from dom0 by xen-pciback, and give them back.

Xen's pciback driver holds a device so that no driver of dom0 can touch it;
Qubes gives devices to qubes from exactly that state
(drivers/xen/xen-pciback/pci_stub.c: new_slot, bind, unbind, remove_slot).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.errors import SysPxeError

SYS_PCI = Path("/sys/bus/pci")
PCIBACK = "pciback"
STORAGE = 0x01
NETWORK = 0x02
ETHERNET = 0x0200


@dataclass(frozen=True)
class Device:
    """A PCI function: address (``0000:00:03.0``) and 16-bit class code."""

    address: str
    class_code: int

    @property
    def base_class(self) -> int:
        """The upper 8 bits of the class code."""
        return self.class_code >> 8


def devices(sys_pci: Path = SYS_PCI) -> list[Device]:
    """Return all PCI functions in the order of their addresses."""
    found = []
    for folder in sorted((sys_pci / "devices").iterdir()):
        code = int((folder / "class").read_text("ascii"), 16) >> 8
        found.append(Device(folder.name, code))
    return found


def driver(device: Device, sys_pci: Path = SYS_PCI) -> str | None:
    """Return the name of the driver that holds the device, or None."""
    link = sys_pci / "devices" / device.address / "driver"
    return link.readlink().name if link.is_symlink() else None


def modalias(device: Device, sys_pci: Path = SYS_PCI) -> str:
    """Return the name under which modprobe knows the device's driver."""
    path = sys_pci / "devices" / device.address / "modalias"
    return path.read_text("ascii").strip()


def inner_modaliases(device: Device, sys_pci: Path = SYS_PCI) -> list[str]:
    """Return the modprobe names of what a device's driver found behind it.

    A virtio card is a device on a bus of its own behind the PCI function, and
    needs a second driver; nobody loads it in an initramfs without udev's rules.
    """
    folder = sys_pci / "devices" / device.address
    return [
        path.read_text("ascii").strip()
        for path in sorted(folder.glob("virtio*/modalias"))
    ]


def hide(device: Device, sys_pci: Path = SYS_PCI) -> None:
    """Take the device from its driver and bind it to pciback.

    Raises SysPxeError if it is not held by pciback afterwards.
    """
    pciback = sys_pci / "drivers" / PCIBACK
    held_by = driver(device, sys_pci)
    if held_by == PCIBACK:
        return
    try:
        if held_by is not None:
            unbind = sys_pci / "drivers" / held_by / "unbind"
            files.write_control(unbind, device.address)
        files.write_control(pciback / "new_slot", device.address)
        files.write_control(pciback / "bind", device.address)
    except OSError as error:
        raise _not_hidden(device, str(error)) from None
    if driver(device, sys_pci) != PCIBACK:
        raise _not_hidden(device, "pciback did not take it")


def _not_hidden(device: Device, why: str) -> SysPxeError:
    return SysPxeError(
        f"the PCI device {device.address} (class {device.class_code:04x}) "
        f"cannot be hidden from dom0: {why}",
        "boot this release under Xen, with the xen-pciback module of the "
        "same kernel",
    )


def release(device: Device, sys_pci: Path = SYS_PCI) -> None:
    """Give the device back to its own driver. Raises SysPxeError."""
    pciback = sys_pci / "drivers" / PCIBACK
    try:
        files.write_control(pciback / "unbind", device.address)
        files.write_control(pciback / "remove_slot", device.address)
        files.write_control(sys_pci / "drivers_probe", device.address)
    except OSError as error:
        raise SysPxeError(
            f"the PCI device {device.address} cannot be released from "
            f"pciback: {error}"
        ) from None


def hide_all(sys_pci: Path = SYS_PCI) -> list[Device]:
    """Hide every network and storage device; return them."""
    run.run(["modprobe", "xen-pciback"], timeout=60)
    chosen = [d for d in devices(sys_pci) if d.base_class in (STORAGE, NETWORK)]
    for device in chosen:
        hide(device, sys_pci)
    return chosen


def interfaces(device: Device, sys_pci: Path = SYS_PCI) -> list[str]:
    """Return the network interfaces that hang off a device.

    A virtio card has its interface one level below the PCI function.
    """
    folder = sys_pci / "devices" / device.address
    found = [*folder.glob("net/*"), *folder.glob("virtio*/net/*")]
    return sorted(p.name for p in found)


def driver_modules(interface: str, sys_net: Path) -> list[str]:
    """Return the kernel modules of an interface's driver chain."""
    folder = (sys_net / interface / "device").resolve()
    found = []
    while re.fullmatch(r"virtio[0-9]+|[0-9a-f:.]+", folder.name):
        module = folder / "driver" / "module"
        if module.is_symlink():
            found.append(module.readlink().name)
        folder = folder.parent
        if folder.name.startswith("pci"):
            break
    return list(dict.fromkeys(found))
