"""Which PCs asked to boot from the network, as dnsmasq's log tells it.

Everything comes from the LAN, unauthenticated: it informs people and decides
nothing. Kept in memory, in bounds, since the agent was started. Pure.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from sys_pxe import names
from sys_pxe.errors import InvalidInput

# of PCs that the site does not name; the oldest goes first
STRANGERS_MAX = 256
LINE_MAX = 1024
# questions whose vendor class is known and whose MAC address is still to come
_QUESTIONS_MAX = 64
_LINE = re.compile(rb"dnsmasq-dhcp\[[0-9]+\]: ([0-9]{1,10}) (.*)")
_CLASS = re.compile(
    rb"vendor class: (?:((?:PXE|HTTP)Client):Arch:([0-9]{5})(?![0-9])"
    rb"|sys-pxe$)"
)
_IPXE = b"user class: iPXE"
# with log-dhcp: kind(card), perhaps the address that is asked for, MAC
_QUESTION = re.compile(
    rb"(?:DHCPDISCOVER|PXE)\([^ )]{1,15}\) (?:[0-9.]{7,15} )?"
    rb"([0-9a-f]{2}(?::[0-9a-f]{2}){5})(?: |$)"
)
# a PC whose first question is the client program's own
STICK = "stick"
# vendor class and number (option 93) of what is known by a word
_FIRMWARE = {
    (b"PXEClient", 0): "bios",
    (b"PXEClient", 7): "uefi",
    (b"PXEClient", 9): "uefi",
    (b"HTTPClient", 16): "uefi-http",
}


@dataclass(frozen=True)
class Asked:
    """A PC that asked: how its firmware boots; seconds since 1970."""

    mac: str
    firmware: str
    seen: int


class Log:
    """What came of dnsmasq's log so far."""

    def __init__(self) -> None:
        self._rest = b""
        self._skips = False
        self._classes: dict[bytes, str] = {}
        self._ipxe: set[bytes] = set()
        self._asked: dict[str, Asked] = {}
        self._known: Collection[str] = ()
        self._ignored = ""

    def ignore(self, mac: str) -> None:
        """Say which MAC address asks on our own behalf."""
        self._ignored = mac

    def feed(self, untrusted: bytes, now: int) -> list[bytes]:
        """Take a piece of the log; return the whole lines in it, cut short.

        ``now`` is in seconds since 1970.
        """
        *whole, self._rest = (self._rest + untrusted).split(b"\n")
        found = []
        for untrusted_line in whole:
            if not self._skips:
                self._line(untrusted_line[:LINE_MAX], now)
                found.append(untrusted_line[:LINE_MAX])
            self._skips = False
        if len(self._rest) > LINE_MAX:
            # its end is still to come and belongs to no line of ours
            if not self._skips:
                found.append(self._rest[:LINE_MAX])
            self._rest, self._skips = b"", True
        return found

    def _line(self, untrusted_line: bytes, now: int) -> None:
        line = _LINE.fullmatch(untrusted_line)
        if line is None:
            return
        question, untrusted_text = line.groups()
        if named := _CLASS.match(untrusted_text):
            self._classes[question] = _firmware(named[1], named[2])
            self._ipxe.discard(question)
            while len(self._classes) > _QUESTIONS_MAX:
                oldest = next(iter(self._classes))
                del self._classes[oldest]
                self._ipxe.discard(oldest)
        elif untrusted_text == _IPXE and question in self._classes:
            self._ipxe.add(question)
        elif asked := _QUESTION.match(untrusted_text):
            firmware = self._classes.pop(question, None)
            if firmware is not None:
                later = question in self._ipxe or firmware == STICK
                self._ipxe.discard(question)
                self._add(asked[1].decode("ascii"), firmware, later, now)

    def _add(
        self, untrusted_mac: str, firmware: str, later: bool, now: int
    ) -> None:
        try:
            mac = names.parse_mac(untrusted_mac, "DHCP")
        except InvalidInput:
            return  # no card has a group address
        if mac == self._ignored:
            return
        # the newest is the last
        before = self._asked.pop(mac, None)
        if later and before is not None:
            # iPXE names itself PXEClient, also where firmware loaded it by
            # HTTP; the client program follows on both, or on a boot stick
            firmware = before.firmware
        self._asked[mac] = Asked(mac, firmware, now)
        self._forget()

    def _forget(self) -> None:
        strangers = [mac for mac in self._asked if mac not in self._known]
        for mac in strangers[: max(len(strangers) - STRANGERS_MAX, 0)]:
            del self._asked[mac]

    def keep(self, known: Collection[str]) -> None:
        """Say which MAC addresses the site names; these are not forgotten."""
        self._known = known
        self._forget()

    def asked(self) -> list[Asked]:
        """Return the PCs that asked, newest last."""
        return list(self._asked.values())


def _firmware(kind: bytes | None, number: bytes | None) -> str:
    if kind is None or number is None:
        return STICK
    return _FIRMWARE.get((kind, int(number)), f"other-{int(number)}")
