"""The boot network card: found, used alone, and given back before dom0 runs.

All cards are held by pciback from the start. One at a time is released until
the one that the firmware booted from is there; at the end it goes back, and
the machine is left with no interface but ``lo``.
"""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from sys_pxe import run
from sys_pxe.client import interface, pci
from sys_pxe.errors import SysPxeError

# a driver makes its interface some moments after it took the device (seconds)
_APPEARS = 5.0
# for the link and an answer while there are other cards to ask (seconds)
_MOMENT = 10.0

Answer = TypeVar("Answer")


class Card:
    """The released card: its PCI device and its interface's name."""

    def __init__(self, device: pci.Device, name: str) -> None:
        self.device = device
        self.name = name
        self.mac = interface.mac(name)


def find(boot_mac: str) -> Card:
    """Release the card with this MAC address; all others stay hidden.

    Raises SysPxeError.
    """
    seen: list[str] = []
    for card in _each():
        if card.mac == boot_mac:
            return card
        seen.append(card.mac)
        give_back(card)
    if not seen:
        raise _none()
    raise SysPxeError(
        f"no network card has the address {boot_mac} that this PC booted "
        f"from (found: {', '.join(dict.fromkeys(seen))})",
        "the driver of that card may be missing in this release",
    )


def answering(
    ask: Callable[[Card, float], Answer], patience: float
) -> tuple[Card, Answer]:
    """Release one card after the other until ``ask`` has an answer on one.

    For PCs whose loader cannot say which card it used. ``ask`` gets the seconds
    that it has, and raises SysPxeError without an answer. Where there are
    several cards each is asked for a moment first, then with all ``patience``.
    """
    cards = [d for d in pci.devices() if d.class_code == pci.ETHERNET]
    failures: dict[str, SysPxeError] = {}
    for seconds in (_MOMENT, patience) if len(cards) > 1 else (patience,):
        for card in _each():
            try:
                return card, ask(card, seconds)
            except SysPxeError as error:
                failures[card.mac] = error
            give_back(card)
    if not failures:
        raise _none()
    if len(failures) == 1:
        raise failures.popitem()[1]
    raise SysPxeError(
        f"no network card of this PC gets an answer: {', '.join(failures)}",
        "check that the sys-pxe qube runs, that a cable leads to its network, "
        "and that this PC is in site.yaml",
    )


def _none() -> SysPxeError:
    return SysPxeError(
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
        for inner in pci.inner_modaliases(device):
            run.run(["modprobe", inner], check=False, timeout=60)
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
