"""DHCP messages: what is asked, and what an answer may do to the client."""

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import dhcp as messages
from sys_pxe.client import dhcp
from sys_pxe.errors import InvalidInput, SysPxeError

MAC = bytes.fromhex("525400000001")
XID = 0x01020304
OFFER, ACK = 2, 5
MASK = (1, bytes([255, 255, 255, 0]))
SERVER = (54, bytes([192, 0, 2, 1]))


def reply(
    *options: tuple[int, bytes],
    kind: int = ACK,
    xid: int = XID,
    mac: bytes = MAC,
    siaddr: str = "192.0.2.1",
    op: int = 2,
    address: str = "192.0.2.10",
    file: bytes = b"",
) -> bytes:
    head = struct.pack(
        "!BBBBIHH4s4s4s4s16s64s128s",
        *(op, 1, 6, 0, xid, 0, 0, bytes(4)),
        *(IPv4Address(address).packed, IPv4Address(siaddr).packed),
        *(bytes(4), mac, b"", file),
    )
    body = b"".join(
        bytes([n, len(v)]) + v for n, v in ((53, bytes([kind])), *options)
    )
    return head + b"\x63\x82\x53\x63" + body + b"\xff"


def lease(*options: tuple[int, bytes], **changes: str) -> dhcp.Lease:
    return dhcp.lease_of(
        messages.parse(reply(SERVER, *options, **changes), XID, MAC)  # type: ignore[arg-type]
    )


def test_an_ack_gives_address_mask_gateway_and_boot_server() -> None:
    got = lease(MASK, (3, bytes([192, 0, 2, 254, 192, 0, 2, 253])))
    assert str(got.address) == "192.0.2.10/24"
    assert str(got.gateway) == "192.0.2.254"
    assert str(got.boot_server) == "192.0.2.1"


def test_without_router_and_siaddr_the_dhcp_server_is_the_boot_server() -> None:
    got = lease(MASK, siaddr="0.0.0.0")
    assert got.gateway is None
    assert str(got.boot_server) == "192.0.2.1"


@pytest.mark.parametrize(
    "mask",
    [b"", b"\xff\xff", bytes([255, 0, 255, 0]), bytes([0, 0, 0, 255])],
)
def test_a_lease_without_a_real_netmask_is_refused(mask: bytes) -> None:
    with pytest.raises(InvalidInput):
        lease((1, mask))


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"]
)
def test_a_lease_of_an_address_that_no_host_has_is_refused(
    address: str,
) -> None:
    with pytest.raises(InvalidInput):
        lease(MASK, address=address)


def test_a_lease_without_netmask_is_refused() -> None:
    with pytest.raises(InvalidInput, match="netmask"):
        lease()


@pytest.mark.parametrize(
    "untrusted",
    [
        b"",
        reply(SERVER)[:239],
        reply(SERVER, xid=XID + 1),
        reply(SERVER, mac=bytes.fromhex("525400000002")),
        reply(SERVER, op=1),
        reply(SERVER).replace(b"\x63\x82\x53\x63", b"\x63\x82\x53\x64"),
        reply(SERVER)[:-3],
        reply(SERVER)[:-1] + bytes([12]),
        reply(SERVER)[:-1] + bytes([12, 200]) + b"short",
        reply(SERVER, (53, b"\5")),  # the type twice is not one type
    ],
)
def test_what_is_no_whole_answer_to_this_client_is_refused(
    untrusted: bytes,
) -> None:
    with pytest.raises(InvalidInput):
        messages.parse(untrusted, XID, MAC)


@pytest.mark.parametrize("said", [(), ((54, b"\1\2"),), (SERVER, SERVER)])
def test_who_does_not_say_its_address_is_known_as_such(
    said: tuple[tuple[int, bytes], ...],
) -> None:
    """The client takes no address of it; it is another server all the same."""
    assert not messages.parse(reply(*said), XID, MAC).names_server
    assert messages.parse(reply(SERVER), XID, MAC).names_server


def test_padding_and_what_follows_the_end_are_skipped() -> None:
    text = reply((0, b""), SERVER)
    text = text.replace(b"\0\0\x36", b"\0\0\0\x36") + b"\x01\x04junk"
    got = messages.parse(text, XID, MAC)
    assert got.kind == ACK
    assert set(got.options) == {53, 54}


def test_a_long_option_comes_in_parts() -> None:
    """RFC 3396: the parts of an option are joined."""
    got = messages.parse(reply(SERVER, (3, b"\xc0\0"), (3, b"\2\1")), XID, MAC)
    assert str(got.address_option(3)) == "192.0.2.1"


@given(st.binary(max_size=700))
def test_garbage_is_a_reply_or_invalid(untrusted: bytes) -> None:
    try:
        messages.parse(untrusted, XID, MAC)
    except InvalidInput:
        return


@given(st.binary(max_size=80), st.sampled_from([0, 2, 5, 6, 255]))
def test_garbage_in_options_is_a_lease_or_invalid(
    untrusted: bytes, kind: int
) -> None:
    text = reply(SERVER, kind=kind)[:-1] + untrusted
    try:
        got = messages.parse(text, XID, MAC)
    except InvalidInput:
        return
    try:
        dhcp.lease_of(got)
    except InvalidInput:
        return


@given(st.binary(max_size=100))
def test_garbage_from_the_wire_brings_no_message_or_bytes(
    untrusted: bytes,
) -> None:
    got = dhcp.udp_payload(untrusted)
    assert got is None or len(got) <= len(untrusted)


@given(st.integers(0, 255), st.integers(0, 65535))
def test_lying_lengths_give_no_more_than_is_there(
    first: int, size: int
) -> None:
    packet = bytearray(to_client(b"payload"))
    packet[0] = 0x40 | (first & 15)
    packet[24:26] = struct.pack("!H", size)
    got = dhcp.udp_payload(bytes(packet))
    assert got is None or len(got) <= len(packet)


def to_client(payload: bytes) -> bytes:
    """Return what we send, with the ports of an answer."""
    packet = bytearray(dhcp.udp_packet(payload))
    packet[20:24] = struct.pack("!HH", 67, 68)
    return bytes(packet)


def test_a_packet_to_port_68_is_ours_and_padding_is_cut() -> None:
    assert dhcp.udp_payload(to_client(b"hello") + b"pad") == b"hello"


@pytest.mark.parametrize(
    ("at", "value"), [(0, 0x65), (9, 6), (21, 66), (23, 67), (25, 7)]
)
def test_packets_for_others_are_ignored(at: int, value: int) -> None:
    packet = bytearray(to_client(b"hello"))
    packet[at] = value
    assert dhcp.udp_payload(bytes(packet)) is None


def test_our_packet_has_a_right_checksum_and_goes_to_all() -> None:
    packet = dhcp.udp_packet(b"x" * 300)
    words = sum(struct.unpack("!10H", packet[:20]))
    assert (words & 0xFFFF) + (words >> 16) == 0xFFFF
    assert struct.unpack_from("!H", packet, 2)[0] == len(packet)
    assert packet[16:20] == b"\xff" * 4
    assert struct.unpack_from("!HHH", packet, 20) == (68, 67, 308)


def test_a_request_repeats_the_offers_address_and_server() -> None:
    offer = messages.parse(reply(SERVER, MASK, kind=OFFER), XID, MAC)
    request = messages.message(3, XID, MAC, offer)
    # BOOTP relays drop what is shorter than 300 bytes (RFC 1542)
    assert len(request) >= 300
    assert request[28:34] == MAC
    assert bytes([50, 4, 192, 0, 2, 10]) in request
    assert bytes([54, 4, 192, 0, 2, 1]) in request
    assert bytes([50, 4]) not in messages.message(1, XID, MAC, None)[240:]


def test_an_interface_that_is_not_there_is_a_plain_error() -> None:
    with pytest.raises(SysPxeError, match="no-such-if"):
        dhcp.obtain("no-such-if", MAC.hex(":"), 0.2, lambda left: None)


NAMED = (67, b"snponly.efi")


@pytest.mark.parametrize(
    ("options", "changes", "server"),
    [
        # a proxy: no address, and itself whatever it says beside
        ((), {"address": "0.0.0.0", "siaddr": "0.0.0.0"}, "192.0.2.1"),
        ((), {"address": "0.0.0.0", "siaddr": "192.0.2.9"}, "192.0.2.1"),
        # one server for both, by either field
        ((), {"file": b"snponly.efi", "siaddr": "192.0.2.9"}, "192.0.2.9"),
        ((NAMED,), {"siaddr": "192.0.2.9"}, "192.0.2.9"),
        ((NAMED,), {"siaddr": "0.0.0.0"}, "192.0.2.1"),
        # a router that gives addresses, and calls itself the next server
        ((), {"siaddr": "192.0.2.1"}, None),
    ],
)
def test_who_boots_firmware_is_told_from_who_gives_addresses(
    options: tuple[tuple[int, bytes], ...],
    changes: dict[str, object],
    server: str | None,
) -> None:
    got = messages.parse(reply(SERVER, *options, kind=2, **changes), XID, MAC)  # type: ignore[arg-type]
    found = got.boot_server
    assert (None if found is None else str(found)) == server


def test_nobody_is_found_on_an_interface_that_is_not_there() -> None:
    with pytest.raises(SysPxeError, match="nothing0"):
        dhcp.boot_server("nothing0", "52:54:00:00:00:01", 1.0)
