"""Who else answers DHCP: what an offer says, and what is kept of it."""

import selectors
from ipaddress import IPv4Address

import pytest

from sys_pxe import dhcp
from sys_pxe.agent import neighbours
from sys_pxe.agent.neighbours import Neighbours, Server

SERVER = {dhcp.SERVER: bytes([192, 0, 2, 9])}
PXE = {**SERVER, dhcp.CLASS: b"PXEClient"}
HTTP = {**SERVER, dhcp.CLASS: b"HTTPClient"}


def offer(
    address: str, options: dict[int, bytes], kind: int = dhcp.OFFER
) -> dhcp.Reply:
    return dhcp.Reply(kind, IPv4Address(address), IPv4Address(0), options)


@pytest.mark.parametrize(
    ("reply", "want"),
    [
        (offer("192.0.2.50", SERVER), Server("192.0.2.9", False)),
        (offer("192.0.2.50", PXE), Server("192.0.2.9", False)),
        (offer("0.0.0.0", PXE), Server("192.0.2.9", True)),
        (offer("0.0.0.0", HTTP), Server("192.0.2.9", True)),
        # neither an address nor something to boot from
        (offer("0.0.0.0", SERVER), None),
        (offer("0.0.0.0", {**SERVER, dhcp.CLASS: b"android"}), None),
        (offer("192.0.2.50", SERVER, dhcp.ACK), None),
    ],
)
def test_an_offer_is_a_servers_or_a_proxys(
    reply: dhcp.Reply, want: Server | None
) -> None:
    assert neighbours.found(reply, "192.0.2.9") == want


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        (0, b"PXEClient:Arch:00000:"),
        (7, b"PXEClient:Arch:00007:"),
        (16, b"HTTPClient:Arch:00016:"),
    ],
)
def test_it_asks_as_every_firmware_that_boots_from_here(
    architecture: int, name: bytes
) -> None:
    assert architecture in neighbours.ARCHITECTURES
    said = dict(dhcp.firmware(architecture))
    assert said[dhcp.CLASS].startswith(name)
    assert said[93] == bytes([0, architecture])


def test_a_card_that_is_not_there_is_an_error_and_waits() -> None:
    with selectors.DefaultSelector() as selector:
        asks = Neighbours(selector, "nothing0")
        assert asks.state(10.0)["age"] is None
        asks.ask("192.0.2.1", 10.0)
        assert asks.due is None
        state = asks.state(12.0)
        assert (state["age"], state["others"]) == (2, [])
        assert "nothing0" in str(state["error"])
        # asked again in a moment: nothing happens
        asks.ask("192.0.2.1", 10.0 + neighbours.PAUSE - 1)
        assert asks.state(30.0)["age"] == 20
    assert neighbours.mtu_of("nothing0") is None
