"""A DHCP client for one lease (RFC 2131), as dom0 has none to borrow.

The messages are those of sys_pxe.dhcp. They travel over a packet socket,
because an interface without an address gets no UDP. The lease is not
renewed: the network is gone long before half of it has passed.
"""

import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from sys_pxe import dhcp
from sys_pxe.dhcp import MASK, Reply
from sys_pxe.errors import InvalidInput, SysPxeError

PATIENCE = 60.0
# option 93 of UEFI on x86-64
_UEFI = 7

_ETH_IP = 0x0800


@dataclass(frozen=True)
class Lease:
    """What the DHCP server gave; ``boot_server`` is siaddr, or the server."""

    address: IPv4Interface
    gateway: IPv4Address | None
    boot_server: IPv4Address


def lease_of(ack: Reply) -> Lease:
    """Return the lease that an ACK gives, or InvalidInput."""
    mask = ack.address_option(MASK)
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
        server = IPv4Address(ack.options[dhcp.SERVER])
    return Lease(address, ack.address_option(dhcp.ROUTER), server)


def udp_packet(payload: bytes) -> bytes:
    """Return an IPv4 packet that broadcasts the payload from 0.0.0.0."""
    udp = struct.pack(
        "!HHHH", dhcp.CLIENT_PORT, dhcp.SERVER_PORT, 8 + len(payload), 0
    )
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
    if (source, target) != (dhcp.SERVER_PORT, dhcp.CLIENT_PORT) or length < 8:
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
            text = dhcp.message(
                dhcp.DISCOVER, transaction, hardware, None, dhcp.firmware(_UEFI)
            )
            broadcast = (interface, _ETH_IP, 0, 0, b"\xff" * 6)
            link.sendto(udp_packet(text), broadcast)
            until = min(end, time.monotonic() + 1.0)
            while (left := until - time.monotonic()) > 0:
                reply = _await(link, transaction, hardware, (dhcp.OFFER,), left)
                if reply is not None and reply.boot_server is not None:
                    return reply.boot_server
    return None


def _attempt(
    link: socket.socket, interface: str, mac: bytes, pause: float
) -> Lease | None:
    transaction = int.from_bytes(os.urandom(4), "big")
    broadcast = (interface, _ETH_IP, 0, 0, b"\xff" * 6)

    def ask(kind: int, offer: Reply | None) -> Reply | None:
        text = dhcp.message(kind, transaction, mac, offer)
        link.sendto(udp_packet(text), broadcast)
        wanted = (
            (dhcp.OFFER,) if kind == dhcp.DISCOVER else (dhcp.ACK, dhcp.NAK)
        )
        return _await(link, transaction, mac, wanted, pause)

    offer = ask(dhcp.DISCOVER, None)
    reply = ask(dhcp.REQUEST, offer) if offer is not None else None
    if reply is None or reply.kind != dhcp.ACK:
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
            reply = dhcp.parse(payload, transaction, mac)
        except InvalidInput:
            continue
        if reply.kind in wanted and reply.names_server:
            return reply
    return None
