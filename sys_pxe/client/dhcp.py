"""A DHCP client for one lease (RFC 2131), as dom0 has none to borrow.

Messages are built and read by pure functions. They travel over a packet
socket, because an interface without an address gets no UDP. The lease is not
renewed: the network is gone long before half of it has passed.
"""

import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from sys_pxe.errors import InvalidInput, SysPxeError

PATIENCE = 60.0

_CLIENT_PORT, _SERVER_PORT = 68, 67
_BOOTREQUEST, _BOOTREPLY = 1, 2
_DISCOVER, _OFFER, _REQUEST, _ACK, _NAK = 1, 2, 3, 5, 6
_MAGIC = b"\x63\x82\x53\x63"
_BROADCAST = 0x8000
# RFC 2132 option numbers
_MASK, _ROUTER, _ADDRESS, _TYPE, _SERVER = 1, 3, 50, 53, 54
_WANTED, _CLASS = 55, 60
_FILE, _ARCHITECTURE = 67, 93
# what UEFI firmware for x86-64 says, RFC 4578 2.1 and 2.2
_FIRMWARE = ((_CLASS, b"PXEClient:Arch:00007:UNDI:003000"),
             (_ARCHITECTURE, b"\0\x07"))  # fmt: skip
_ETH_IP = 0x0800
_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")


@dataclass(frozen=True)
class Lease:
    """What the DHCP server gave; ``boot_server`` is siaddr, or the server."""

    address: IPv4Interface
    gateway: IPv4Address | None
    boot_server: IPv4Address


@dataclass(frozen=True)
class Reply:
    """A parsed DHCP reply; ``kind`` is the DHCP message type."""

    kind: int
    address: IPv4Address
    siaddr: IPv4Address
    options: dict[int, bytes]
    file: bytes = b""

    @property
    def boot_server(self) -> IPv4Address | None:
        """Who is to boot from, by an offer to a firmware: its sender where it
        gives no address (a proxy), or where it gives a file too."""
        if self.address == IPv4Address(0):
            return self.address_option(_SERVER)
        if not self.file and _FILE not in self.options:
            return None
        if self.siaddr == IPv4Address(0):
            return self.address_option(_SERVER)
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
    sender: tuple[tuple[int, bytes], ...] = ((_CLASS, b"sys-pxe"),),
) -> bytes:
    """Return a DISCOVER, or the REQUEST for an offer."""
    options = [(_TYPE, bytes([kind])), *sender]
    options.append((_WANTED, bytes([_MASK, _ROUTER])))
    if offer is not None:
        options.append((_ADDRESS, offer.address.packed))
        options.append((_SERVER, offer.options[_SERVER]))
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
    if len(kind) != 1 or len(options.get(_SERVER, b"")) != 4:
        raise InvalidInput("DHCP: without message type or server identifier")
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


def lease_of(ack: Reply) -> Lease:
    """Return the lease that an ACK gives, or InvalidInput."""
    mask = ack.address_option(_MASK)
    if mask is None or ack.address == IPv4Address(0):
        raise InvalidInput("DHCP: the lease has no address or no netmask")
    try:
        address = IPv4Interface(f"{ack.address}/{mask}")
    except ValueError:
        raise InvalidInput(f"DHCP: {mask} is not a netmask") from None
    # ipaddress takes 0.0.0.255 for a host mask of /24
    if address.netmask != mask:
        raise InvalidInput(f"DHCP: {mask} is not a netmask")
    if address.is_multicast or address.is_loopback or address.is_reserved:
        raise InvalidInput(f"DHCP: {address.ip} is not an address of a host")
    server = ack.siaddr
    if server == IPv4Address(0):
        server = IPv4Address(ack.options[_SERVER])
    return Lease(address, ack.address_option(_ROUTER), server)


def udp_packet(payload: bytes) -> bytes:
    """Return an IPv4 packet that broadcasts the payload from 0.0.0.0."""
    udp = struct.pack("!HHHH", _CLIENT_PORT, _SERVER_PORT, 8 + len(payload), 0)
    size = 20 + len(udp) + len(payload)
    head = struct.pack(
        *("!BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, socket.IPPROTO_UDP, 0),
        *(bytes(4), b"\xff" * 4),
    )
    words = sum(struct.unpack("!10H", head))
    words = (words & 0xFFFF) + (words >> 16)
    checksum = ~(words + (words >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", checksum) + head[12:] + udp + payload


def udp_payload(untrusted: bytes) -> bytes | None:
    """Return what an IPv4 packet brings to port 68, or None."""
    if len(untrusted) < 28 or untrusted[0] >> 4 != 4:
        return None
    size = (untrusted[0] & 15) * 4
    if untrusted[9] != socket.IPPROTO_UDP or len(untrusted) < size + 8:
        return None
    source, target, length = struct.unpack_from("!HHH", untrusted, size)
    if (source, target) != (_SERVER_PORT, _CLIENT_PORT) or length < 8:
        return None
    return untrusted[size + 8 : size + length]


def obtain(
    interface: str, mac: str, patience: float, waiting: Callable[[int], None]
) -> Lease:
    """Get a lease within ``patience`` seconds, or raise SysPxeError.

    Switch ports that run spanning tree forward nothing for up to 50 s, hence
    the repeated questions; ``waiting`` is told the seconds left.
    """
    try:
        lease = _obtain(interface, mac, patience, waiting)
    except OSError as error:
        raise _broken(interface, mac, error) from None
    if lease is not None:
        return lease
    raise SysPxeError(
        f"no answer from a DHCP server on {interface} ({mac}) within "
        f"{patience:g} s",
        "check that the sys-pxe qube runs, that the cable leads to its "
        "network, and that this PC is in site.yaml",
    )


def _broken(interface: str, mac: str, error: OSError) -> SysPxeError:
    return SysPxeError(
        f"DHCP on {interface} ({mac}): {error.strerror}",
        "check the network card and its cable",
    )


def _obtain(
    interface: str, mac: str, patience: float, waiting: Callable[[int], None]
) -> Lease | None:
    hardware = bytes.fromhex(mac.replace(":", ""))
    end = time.monotonic() + patience
    with socket.socket(
        socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_IP)
    ) as link:
        link.bind((interface, _ETH_IP))
        pause = 1.0
        while (left := end - time.monotonic()) > 0:
            waiting(int(left))
            lease = _attempt(link, interface, hardware, min(pause, left))
            if lease is not None:
                return lease
            pause = min(2 * pause, 4.0)
    return None


def boot_server(
    interface: str, mac: str, patience: float
) -> IPv4Address | None:
    """Return who answers a firmware on this network, None if nobody does.

    Beside another DHCP server the lease does not say it: sys-pxe then answers
    firmware only, and that without an address. Waits up to ``patience``
    seconds; a lost answer is asked for again. Raises SysPxeError.
    """
    try:
        return _boot_server(interface, mac, time.monotonic() + patience)
    except OSError as error:
        raise _broken(interface, mac, error) from None


def _boot_server(interface: str, mac: str, end: float) -> IPv4Address | None:
    hardware = bytes.fromhex(mac.replace(":", ""))
    with socket.socket(
        socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_IP)
    ) as link:
        link.bind((interface, _ETH_IP))
        while time.monotonic() < end:
            transaction = int.from_bytes(os.urandom(4), "big")
            text = message(_DISCOVER, transaction, hardware, None, _FIRMWARE)
            broadcast = (interface, _ETH_IP, 0, 0, b"\xff" * 6)
            link.sendto(udp_packet(text), broadcast)
            until = min(end, time.monotonic() + 1.0)
            while (left := until - time.monotonic()) > 0:
                reply = _await(link, transaction, hardware, (_OFFER,), left)
                if reply is not None and reply.boot_server is not None:
                    return reply.boot_server
    return None


def _attempt(
    link: socket.socket, interface: str, mac: bytes, pause: float
) -> Lease | None:
    transaction = int.from_bytes(os.urandom(4), "big")
    broadcast = (interface, _ETH_IP, 0, 0, b"\xff" * 6)

    def ask(kind: int, offer: Reply | None) -> Reply | None:
        text = message(kind, transaction, mac, offer)
        link.sendto(udp_packet(text), broadcast)
        wanted = (_OFFER,) if kind == _DISCOVER else (_ACK, _NAK)
        return _await(link, transaction, mac, wanted, pause)

    offer = ask(_DISCOVER, None)
    reply = ask(_REQUEST, offer) if offer is not None else None
    if reply is None or reply.kind != _ACK:
        return None
    try:
        return lease_of(reply)
    except InvalidInput:
        return None


def _await(
    link: socket.socket,
    transaction: int,
    mac: bytes,
    wanted: tuple[int, ...],
    pause: float,
) -> Reply | None:
    end = time.monotonic() + pause
    while (left := end - time.monotonic()) > 0:
        link.settimeout(left)
        try:
            payload = udp_payload(link.recv(4096))
        except TimeoutError:
            return None
        if payload is None:
            continue
        try:
            reply = parse(payload, transaction, mac)
        except InvalidInput:
            continue
        if reply.kind in wanted:
            return reply
    return None
