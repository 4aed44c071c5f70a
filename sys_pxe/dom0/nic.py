"""Which network card the sys-pxe qube gets: the named one or the only free one.

The Salt formula calls it in dom0::

    python3 -m sys_pxe.dom0.nic choose|assign|check QUBE [ID]

A card that another qube has, started or not, is never taken. Qubes OS 4.3 names
a PCI device by its port, the path through the bridges: ``00_1f.6`` on the root
bus, ``00_1c.0-00_00.0`` behind a bridge (core-admin, qubes/utils.py).
"""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sys_pxe.errors import InvalidInput, SysPxeError, UsageError

# PCI class 02, subclass 00: Ethernet controller; Wi-Fi cards are 0280
_WIRED = "p0200"
_VERBS = ("choose", "assign", "check")
_ID_MAX = 64
# an assignment of whatever is in the slot has another name
_ANY = " ('dom0:ID:*' if it says 'not assigned')"
_PILLAR = "/srv/pillar/sys-pxe/init.sls"


@dataclass(frozen=True)
class Card:
    """A wired network card and the qubes that have it."""

    port: str
    sbdf: str
    description: str
    assigned: frozenset[str]
    attached: frozenset[str]

    @property
    def holders(self) -> frozenset[str]:
        """All qubes that it is assigned or attached to."""
        return self.assigned | self.attached

    def line(self) -> str:
        """Return how a list of cards shows it."""
        of = ", ".join(sorted(self.holders))
        return f"{self.port}  {self.description}" + (f"  [{of}]" if of else "")


def spelling(untrusted_id: str) -> str:
    """Return one spelling for all that a PCI id can be written as.

    ``dom0:00_1f.6``, ``0000:00:1f.6`` and ``00:1F.6`` are one device.
    """
    one = untrusted_id.strip().lower().removeprefix("dom0:")
    return one.replace(":", "_").removeprefix("0000_")


def listing(cards: Sequence[Card]) -> str:
    """Return the hint that lists the cards."""
    if not cards:
        return "dom0 sees no wired network card (qvm-pci list)"
    lines = "".join(f"\n  {card.line()}" for card in cards)
    if all(card.holders for card in cards):
        return (
            f"'qvm-pci unassign QUBE dom0:ID' frees one of these{_ANY}:{lines}"
        )
    return f"name a free one as sys-pxe:nic in {_PILLAR}:{lines}"


def choose(cards: Sequence[Card], qube: str, wanted: str = "") -> Card:
    """Return the card that the qube is to have.

    ``wanted`` is a PCI id, or empty for the one that the qube has already or
    the only one that no qube has. Raises InvalidInput, with the list of the
    cards as its hint, when that is none, several, or another qube's.
    """
    if wanted:
        return _unshared(_named(cards, wanted), cards, qube)
    own = [card for card in cards if qube in card.assigned]
    if own:
        return _unshared(own[0], cards, qube)
    free = [card for card in cards if not card.holders]
    if len(free) == 1:
        return free[0]
    how_many = (
        "several wired network cards are"
        if free
        else ("no wired network card is")
    )
    raise InvalidInput(f"{how_many} without a qube", listing(cards))


def _named(cards: Sequence[Card], wanted: str) -> Card:
    same = spelling(wanted)
    for card in cards:
        if same in (spelling(card.port), spelling(card.sbdf)):
            return card
    raise InvalidInput(
        f"{wanted[:_ID_MAX]!r} is no wired network card of this machine",
        listing(cards),
    )


def _unshared(card: Card, cards: Sequence[Card], qube: str) -> Card:
    if others := sorted(card.holders - {qube}):
        raise InvalidInput(
            f"the network card {card.port} belongs to {', '.join(others)}, "
            "and is not taken away",
            f"'qvm-pci unassign {others[0]} dom0:{card.port}' frees it{_ANY};"
            f" of all cards, {listing(cards)}",
        )
    return card


class Machine:
    """The cards of this machine and who has them, through qubesd."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._devices = {
            device.port_id: device
            for device in app.domains["dom0"]
            .devices["pci"]
            .get_exposed_devices()
            if any(repr(i).startswith(_WIRED) for i in device.interfaces)
        }

    def cards(self) -> list[Card]:
        """Return the wired cards in the order of their ports."""
        assigned: dict[str, set[str]] = {port: set() for port in self._devices}
        attached: dict[str, set[str]] = {port: set() for port in self._devices}
        for qube in self._app.domains:
            if qube.klass == "AdminVM":
                continue
            pci = qube.devices["pci"]
            for found, held in (
                (assigned, pci.get_assigned_devices()),
                (attached, pci.get_attached_devices()),
            ):
                for assignment in held:
                    for port in self._ports(assignment):
                        found[port].add(qube.name)
        return [
            Card(
                port=port,
                sbdf=str(device.data.get("sbdf", port)),
                description=str(device.description),
                assigned=frozenset(assigned[port]),
                attached=frozenset(attached[port]),
            )
            for port, device in sorted(self._devices.items())
        ]

    def _ports(self, assignment: Any) -> list[str]:
        # the port alone counts too: the card was swapped, the port is taken
        return [
            port
            for port, device in self._devices.items()
            if assignment.port_id == port or assignment.matches(device)
        ]

    def assign(self, qube: str, card: Card) -> bool:
        """Let the qube have this wired card and no other.

        Returns whether the qube runs: then it has the card from its next start.
        """
        vm = self._app.domains[qube]
        pci = vm.devices["pci"]
        held = False
        for assignment in list(pci.get_assigned_devices()):
            ports = self._ports(assignment)
            held = held or card.port in ports
            if ports and card.port not in ports:
                pci.unassign(assignment)
        if not held:
            protocol = importlib.import_module("qubesadmin.device_protocol")
            # few onboard cards can be reset alone; sys-net has the same option
            options = {"no-strict-reset": "True"}
            device = self._devices[card.port]
            pci.assign(
                protocol.DeviceAssignment(
                    device, mode="required", options=options
                )
            )
        return bool(vm.is_running())


def has(cards: Sequence[Card], qube: str, card: Card) -> bool:
    """Return whether the qube has this card and no other."""
    return [c for c in cards if qube in c.assigned] == [card]


def _run(verb: str, qube: str, wanted: str) -> int:
    # in dom0 only, and without type hints: hence not a plain import
    try:
        qubesadmin: Any = importlib.import_module("qubesadmin")
        errors: Any = importlib.import_module("qubesadmin.exc")
    except ImportError:
        raise SysPxeError(
            "this Python has no qubesadmin", "call it in dom0"
        ) from None
    try:
        machine = Machine(qubesadmin.Qubes())
        cards = machine.cards()
        card = choose(cards, qube, wanted)
        if verb == "check":
            return 0 if has(cards, qube, card) else 1
        later = verb == "assign" and machine.assign(qube, card)
    except KeyError as error:
        raise InvalidInput(f"there is no qube named {error}") from None
    except errors.QubesException as error:
        raise SysPxeError(f"qubesd: {error}") from None
    when = ", from its next start" if later else ""
    sys.stdout.write(f"{qube}: {card.port}  {card.description}{when}\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status; ``check`` also returns 1."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if len(given) not in (2, 3) or given[0] not in _VERBS:
            raise UsageError(
                f"usage: python3 -m sys_pxe.dom0.nic {'|'.join(_VERBS)} "
                "QUBE [PCI-ID]"
            )
        verb, qube, *wanted = given
        return _run(verb, qube, wanted[0] if wanted else "")
    except SysPxeError as error:
        sys.stderr.write(error.explain() + "\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
