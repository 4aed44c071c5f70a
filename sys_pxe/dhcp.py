"""DHCP messages (RFC 2131) of a client, built and read. Pure.

What comes from the wire is parsed strictly; it is not authenticated.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from sys_pxe.errors import InvalidInput

CLIENT_PORT, SERVER_PORT = 68, 67
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
# RFC 2132 option numbers
MASK, ROUTER, SERVER, CLASS = 1, 3, 54, 60
# how the vendor class of firmware begins, and of an answer that it follows
PXE_CLASS, HTTP_CLASS = b"PXEClient", b"HTTPClient"
HTTP_ARCHITECTURE = 16
_BOOTREQUEST, _BOOTREPLY = 1, 2
_MAGIC = b"\x63\x82\x53\x63"
_BROADCAST = 0x8000
_ADDRESS, _TYPE, _WANTED, _FILE, _ARCHITECTURE = 50, 53, 55, 67, 93
_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")


def firmware(architecture: int) -> tuple[tuple[int, bytes], ...]:
    """Return what firmware that boots from here says, RFC 4578 2.1 and 2.2.

    ``architecture`` is 0 for a BIOS, 7 for UEFI on x86-64, HTTP_ARCHITECTURE
    for UEFI that boots by HTTP: that one calls itself otherwise (UEFI 2.10,
    24.7, HTTP Boot).
    """
    kind = HTTP_CLASS if architecture == HTTP_ARCHITECTURE else PXE_CLASS
    name = b"%s:Arch:%05d:UNDI:003000" % (kind, architecture)
    return ((CLASS, name), (_ARCHITECTURE, struct.pack("!H", architecture)))


@dataclass(frozen=True)
class Reply:
    """A parsed DHCP reply; ``kind`` is the DHCP message type."""

    kind: int
    address: IPv4Address
    siaddr: IPv4Address
    options: dict[int, bytes]
    file: bytes = b""

    @property
    def names_server(self) -> bool:
        """Whether it says who sent it (RFC 2131, section 4.3.1)."""
        return len(self.options.get(SERVER, b"")) == 4

    @property
    def boot_server(self) -> IPv4Address | None:
        """Who is to boot from, by an offer to a firmware: its sender where it
        gives no address (a proxy), or where it gives a file too."""
        if self.address == IPv4Address(0):
            return self.address_option(SERVER)
        if not self.file and _FILE not in self.options:
            return None
        if self.siaddr == IPv4Address(0):
            return self.address_option(SERVER)
        return self.siaddr

    def address_option(self, number: int) -> IPv4Address | None:
        """Return the first address of an option, or None."""
        value = self.options.get(number, b"")
        return IPv4Address(value[:4]) if len(value) >= 4 else None


def message(
    kind: int,
    transaction: int,
    mac: bytes,
    offer: Reply | None,
    sender: tuple[tuple[int, bytes], ...] = ((CLASS, b"sys-pxe"),),
) -> bytes:
    """Return a DISCOVER, or the REQUEST for an offer."""
    options = [(_TYPE, bytes([kind])), *sender]
    options.append((_WANTED, bytes([MASK, ROUTER])))
    if offer is not None:
        options.append((_ADDRESS, offer.address.packed))
        options.append((SERVER, offer.options[SERVER]))
    zero = bytes(4)
    head = _HEADER.pack(
        *(_BOOTREQUEST, 1, 6, 0, transaction, 0, _BROADCAST),
        *(zero, zero, zero, zero, mac, b"", b"", _MAGIC),
    )
    body = b"".join(bytes([n, len(v)]) + v for n, v in options)
    return (head + body + b"\xff").ljust(300, b"\0")


def parse(untrusted: bytes, transaction: int, mac: bytes) -> Reply:
    """Return the reply to this client and transaction, or InvalidInput."""
    if len(untrusted) < _HEADER.size:
        raise InvalidInput("DHCP: shorter than its header")
    (op, _, _, _, xid, _, _, _, yiaddr, siaddr, _, chaddr, _, file, magic) = (
        _HEADER.unpack_from(untrusted)
    )
    if (op, xid, magic) != (_BOOTREPLY, transaction, _MAGIC):
        raise InvalidInput("DHCP: not a reply to this request")
    if chaddr[:6] != mac:
        raise InvalidInput("DHCP: for another client")
    options = _options(untrusted[_HEADER.size :])
    kind = options.get(_TYPE, b"")
    if len(kind) != 1:
        raise InvalidInput("DHCP: without message type")
    return Reply(
        kind[0],
        IPv4Address(yiaddr),
        IPv4Address(siaddr),
        options,
        file.rstrip(b"\0"),
    )


def _options(untrusted: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(untrusted) and untrusted[at] != 255:
        if untrusted[at] == 0:
            at += 1
            continue
        if at + 2 > len(untrusted):
            raise InvalidInput("DHCP: an option is cut off")
        number, size = untrusted[at], untrusted[at + 1]
        value = untrusted[at + 2 : at + 2 + size]
        if len(value) != size:
            raise InvalidInput("DHCP: an option is cut off")
        found[number] = found.get(number, b"") + value
        at += 2 + size
    return found
