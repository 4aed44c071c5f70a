"""The boot network card: found, used alone, and given back before dom0 runs.

All cards are held by pciback from the start. One at a time is released until
the one that the firmware booted from is there; at the end it goes back, and
the machine is left with no interface but ``lo``.
"""

import time
from collections.abc import Iterator

from sys_pxe import run
from sys_pxe.client import interface, pci
from sys_pxe.errors import SysPxeError

# a driver makes its interface some moments after it took the device (seconds)
_APPEARS = 5.0


class Card:
    """The released card: its PCI device and its interface's name."""

    def __init__(self, device: pci.Device, name: str) -> None:
        self.device = device
        self.name = name
        self.mac = interface.mac(name)


def find(boot_mac: str | None) -> Card:
    """Release the card with this MAC address, or else the first that has a
    link; all others stay hidden. Raises SysPxeError."""
    seen: list[str] = []
    for want_link in (True, False):
        for card in _each():
            if boot_mac is None and want_link:
                fits = _links(card)
            else:
                fits = boot_mac is None or card.mac == boot_mac
            if fits:
                return card
            seen.append(card.mac)
            give_back(card)
        if boot_mac is not None:
            break
    if boot_mac is not None and seen:
        raise SysPxeError(
            f"no network card has the address {boot_mac} that this PC booted "
            f"from (found: {', '.join(dict.fromkeys(seen))})",
            "the driver of that card may be missing in this release",
        )
    raise SysPxeError(
        "this PC has no wired network card with a driver in this release",
        "see 'lspci -nn' of the golden image for the card's driver",
    )


def _each() -> Iterator[Card]:
    for device in pci.devices():
        if device.class_code != pci.ETHERNET:
            continue
        # the driver first, so that it takes the device when it is released
        run.run(["modprobe", pci.modalias(device)], check=False, timeout=60)
        pci.release(device)
        name = _appeared(device)
        if name is None:
            pci.hide(device)
        else:
            yield Card(device, name)


def _appeared(device: pci.Device) -> str | None:
    end = time.monotonic() + _APPEARS
    while time.monotonic() < end:
        found = pci.interfaces(device)
        if found:
            return found[0]
        time.sleep(0.1)
    return None


def _links(card: Card) -> bool:
    interface.bring_up(card.name)
    try:
        interface.wait_for_carrier(card.name, 6.0, lambda _left: None)
    except SysPxeError:
        return False
    return True


def give_back(card: Card) -> None:
    """Link down, address gone, driver unbound and unloaded, pciback bound."""
    interface.take_down(card.name)
    modules = pci.driver_modules(card.name, interface.SYS_NET)
    pci.hide(card.device)
    if modules:
        # what is built in or in use elsewhere stays; it holds no device here
        run.run(["modprobe", "-r", *modules], check=False, timeout=30)


def prove_off() -> list[str]:
    """Return the interfaces that are left, which is ``lo`` alone.

    Raises SysPxeError for any other interface, or for a network device that
    pciback does not hold.
    """
    left = interface.present()
    loose = [
        d.address
        for d in pci.devices()
        if d.base_class == pci.NETWORK and pci.driver(d) != pci.PCIBACK
    ]
    if left != [interface.LOOPBACK] or loose:
        raise SysPxeError(
            f"dom0 would still have a network: interfaces {', '.join(left)}, "
            f"devices without pciback: {', '.join(loose) or 'none'}",
            "report this with the name of the network card",
        )
    return left
