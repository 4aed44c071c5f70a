"""A ROM that is not iPXE: what is taken out of a request, and what is not."""

import struct

import pytest

from sys_pxe.lab import rom

COOKIE = b"\x63\x82\x53\x63"


def frame(options: bytes, port: int = 67, ihl: int = 5) -> bytes:
    """Return a DHCP request as a client broadcasts it (RFC 2131)."""
    bootp = struct.pack("!BBBB", 1, 1, 6, 0).ljust(236, b"\0") + COOKIE
    data = bootp + options
    udp = struct.pack("!HHHH", 68, port, 8 + len(data), 0xABCD) + data
    head = struct.pack("!BBH", 0x40 | ihl, 0, 4 * ihl + len(udp))
    ip = (head + struct.pack("!HHBBH", 0, 0, 64, 17, 0)).ljust(4 * ihl, b"\0")
    return b"\xff" * 6 + b"\x52\x54\0\0\0\1" + b"\x08\x00" + ip + udp


@pytest.mark.parametrize("ihl", [5, 6])
def test_what_only_ipxe_sends_is_taken_out(ihl: int) -> None:
    own = b"\x35\1\1" + b"\x3c\x20PXEClient:Arch:00000:UNDI:002001"
    ipxe = b"\x4d\4iPXE" + b"\xaf\5\xb1\1\1\xeb\3"
    rest = b"\0\x61\2\0\0\xff"
    made = rom.disguised(frame(own + ipxe + rest, ihl=ihl))
    assert made.endswith(own + bytes(len(ipxe)) + rest)
    at = 14 + 4 * ihl
    # no checksum: what it was made of has changed
    assert made[at + 6 : at + 8] == b"\0\0"
    before = frame(own + ipxe + rest, ihl=ihl)
    assert made[: at + 6] == before[: at + 6]


@pytest.mark.parametrize("options", [b"", b"\x4d", b"\x4d\xff", b"\x01\xffx"])
def test_options_that_are_cut_short_keep_their_length(options: bytes) -> None:
    before = frame(options)
    assert len(rom.disguised(before)) == len(before)


def test_only_udp_over_ipv4_has_a_port() -> None:
    good = frame(b"\xff", port=69)
    assert rom.port_of(good) == 69
    assert rom.port_of(good[:12] + b"\x86\xdd" + good[14:]) is None
    assert rom.port_of(good[:23] + b"\x06" + good[24:]) is None
    assert rom.port_of(good[:33]) is None
    assert rom.port_of(good[:40]) is None
    assert rom.port_of(b"") is None
