"""Who else answers DHCP on our LAN: asked as firmware asks, for three seconds.

Only when somebody wants to know, and not often. The answers come from the LAN:
hints that nobody vouches for, read strictly and kept in bounds.
"""

import os
import selectors
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from sys_pxe import dhcp, names
from sys_pxe.errors import InvalidInput

PATIENCE = 3.0
# between two questions, however often somebody wants to know
PAUSE = 15.0
SERVERS_MAX = 32
_ROUNDS = 2
_MESSAGE_MAX = 2048
# option 93 of a BIOS, and of UEFI by PXE and by HTTP: a proxy may answer one
# of them only
ARCHITECTURES = (0, 7, dhcp.HTTP_ARCHITECTURE)
_NO_ADDRESS = "0.0.0.0"  # noqa: S104 (compared and bound to one card)


@dataclass(frozen=True)
class Server:
    """Who answered, by the sender's address; a proxy gives no addresses."""

    address: str
    proxy: bool


def mac_of(interface: str) -> str:
    """Return a card's MAC address (OSError, InvalidInput)."""
    text = Path("/sys/class/net", interface, "address").read_text("ascii")
    return names.parse_mac(text.strip(), interface)


def mtu_of(interface: str) -> int | None:
    """Return a card's MTU, or None when there is no such card."""
    try:
        text = Path("/sys/class/net", interface, "mtu").read_text("ascii")
    except OSError:
        return None
    return int(text)


class Neighbours:
    """The question, and what came of the last one. Times are monotonic."""

    def __init__(
        self, selector: selectors.BaseSelector, interface: str
    ) -> None:
        self._selector = selector
        self._interface = interface
        self._socket: socket.socket | None = None
        self._mac = b""
        self._own = ""
        self._transaction = 0
        self._rounds = 0
        self._started = -PAUSE
        self._coming: set[Server] = set()
        self._found: set[Server] = set()
        self._ended: float | None = None
        self._error: str | None = None

    @property
    def due(self) -> float | None:
        """When :meth:`tend` has something to do, if it waits for that."""
        if self._socket is None:
            return None
        return self._started + PATIENCE * self._rounds / _ROUNDS

    def ask(self, own: str, now: float) -> None:
        """Begin to ask, unless that was done a moment ago.

        ``own`` is our address: what comes from it is our own dnsmasq's.
        """
        if self._socket is not None or now - self._started < PAUSE:
            return
        self._started, self._own, self._rounds = now, own, 0
        self._coming = set()
        self._transaction = int.from_bytes(os.urandom(4), "big")
        try:
            mac = mac_of(self._interface)
            self._mac = bytes.fromhex(mac.replace(":", ""))
            self._socket = self._opened()
        except (OSError, InvalidInput) as error:
            self._end(now, str(error))
            return
        self._selector.register(
            self._socket, selectors.EVENT_READ, lambda _now: self._read()
        )
        self.tend(now)

    def _opened(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            for option in (socket.SO_REUSEADDR, socket.SO_BROADCAST):
                sock.setsockopt(socket.SOL_SOCKET, option, 1)
            device = self._interface.encode("ascii")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            sock.bind((_NO_ADDRESS, dhcp.CLIENT_PORT))
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        return sock

    def tend(self, now: float) -> None:
        """Ask once more, or end the question, when that is due."""
        if self._socket is None or self.due is None or now < self.due:
            return
        if self._rounds == _ROUNDS:
            self._end(now, None)
            return
        self._rounds += 1
        for architecture in ARCHITECTURES:
            text = dhcp.message(
                dhcp.DISCOVER,
                self._transaction,
                self._mac,
                None,
                dhcp.firmware(architecture),
            )
            try:
                to_all = ("255.255.255.255", dhcp.SERVER_PORT)
                self._socket.sendto(text, to_all)
            except OSError as error:
                self._end(now, str(error))
                return

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            untrusted, sender = self._socket.recvfrom(_MESSAGE_MAX)
            reply = dhcp.parse(untrusted, self._transaction, self._mac)
        except (OSError, InvalidInput):
            return
        server = found(reply, sender[0])
        if server is None or sender[0] == self._own:
            return
        if len(self._coming) < SERVERS_MAX:
            self._coming.add(server)

    def _end(self, now: float, error: str | None) -> None:
        self.close()
        self._found, self._error, self._ended = self._coming, error, now

    def close(self) -> None:
        """Stop asking."""
        if self._socket is not None:
            if self._socket in self._selector.get_map():
                self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None

    def state(self, now: float) -> dict[str, object]:
        """Return what the last question brought, and its age in seconds."""
        known = sorted(self._found, key=lambda s: (s.address, s.proxy))
        return {
            "age": None if self._ended is None else int(now - self._ended),
            "error": self._error,
            "others": [asdict(server) for server in known],
        }


def found(reply: dhcp.Reply, sender: str) -> Server | None:
    """Return who made an offer that firmware may follow, or None."""
    if reply.kind != dhcp.OFFER:
        return None
    proxy = str(reply.address) == _NO_ADDRESS
    kind = reply.options.get(dhcp.CLASS, b"")
    if proxy and not kind.startswith((dhcp.PXE_CLASS, dhcp.HTTP_CLASS)):
        return None
    return Server(sender, proxy)
