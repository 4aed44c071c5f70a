"""The formula's network script on a card in a network namespace. Needs root.

The tables are made as Qubes' agent makes them: input is dropped, custom-input
is left to others.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sys_pxe import run
from sys_pxe.agent import firewall
from sys_pxe.lab.network import inside

SCRIPT = Path(__file__).resolve().parents[2] / "salt/sys-pxe/files/network"
NAMESPACE = f"formula-{os.getpid()}"
OUTSIDE = f"{NAMESPACE}-out"
CONNECT = (
    "import socket, sys\n"
    "s = socket.socket(); s.settimeout(0.5)\n"
    "try: s.connect((sys.argv[1], int(sys.argv[2])))\n"
    "except ConnectionRefusedError: print('let in')\n"
    "except TimeoutError: pass\n"
)
TABLES = b"""
table ip qubes {
    chain custom-input {}
    chain input {
        type filter hook input priority filter; policy drop;
        jump custom-input
        ct state related,established accept
        iif lo accept
    }
}
"""
SETTINGS = {
    "INTERFACE": "lan",
    "ADDRESS": "192.0.2.1/24",
    "ADDRESS6": "fd00:192:0:2::1/64",
    "UDP_PORTS": "67,69,4011",
    "TCP_PORTS": "80",
}


def there(*argv: str, stdin: bytes = b"", check: bool = True) -> run.Result:
    """Run a program in the namespace."""
    return run.run(inside(NAMESPACE, list(argv)), stdin=stdin, check=check)


def script(check: bool = True, **settings: str) -> run.Result:
    """Run the formula's script."""
    environment = {**SETTINGS, **settings}
    given = [f"{key}={value}" for key, value in environment.items()]
    return there("env", *given, str(SCRIPT), check=check)


def addresses(interface: str = "lan") -> set[str]:
    """Return the global addresses of a card."""
    shown = there(
        *("ip", "-json", "address", "show", "dev", interface),
        *("scope", "global"),
    )
    return {
        f"{one['local']}/{one['prefixlen']}"
        for card in json.loads(shown.stdout)
        for one in card.get("addr_info", ())
        if "local" in one
    }


def rules(chain: str) -> list[Any]:
    """Return the rules of a chain of the table ip qubes."""
    shown = there("nft", "--json", "list", "chain", "ip", "qubes", chain)
    return [
        one["rule"]["expr"]
        for one in json.loads(shown.stdout)["nftables"]
        if "rule" in one
    ]


@pytest.fixture
def card() -> Iterator[None]:
    """The qube's cards ``lan`` and ``other``, and who is behind them."""
    for name in (NAMESPACE, OUTSIDE):
        run.run(["ip", "netns", "add", name])
    try:
        for name in ("lan", "other"):
            end = ["type", "veth", "peer", "name", name, "netns", OUTSIDE]
            there("ip", "link", "add", name, *end)
            run.run(inside(OUTSIDE, ["ip", "link", "set", name, "up"]))
        there("ip", "link", "set", "other", "up")
        there("nft", "-f", "-", stdin=TABLES)
        yield
    finally:
        for name in (NAMESPACE, OUTSIDE):
            run.run(["ip", "netns", "del", name])


def answers(interface: str, port: int) -> bool:
    """Return whether a TCP connection from behind a card is let in.

    Nothing listens: what is let in is refused at once, the rest times out.
    """
    network = {"lan": "192.0.2", "other": "192.0.3"}[interface]
    add = ["ip", "address", "add", f"{network}.9/24", "dev", interface]
    run.run(inside(OUTSIDE, add))
    connect = ["python3", "-c", CONNECT, f"{network}.1", str(port)]
    return run.run(inside(OUTSIDE, connect)).stdout == b"let in\n"


@pytest.mark.usefixtures("card")
def test_the_card_gets_its_addresses_and_goes_up() -> None:
    script()
    assert addresses() == {"192.0.2.1/24", "fd00:192:0:2::1/64"}
    shown = there("ip", "-json", "link", "show", "dev", "lan").stdout
    assert "UP" in json.loads(shown)[0]["flags"]


@pytest.mark.usefixtures("card")
def test_a_second_run_changes_nothing() -> None:
    script()
    before = (rules("custom-input"), rules("sys-pxe"), addresses())
    script()
    assert (rules("custom-input"), rules("sys-pxe"), addresses()) == before
    assert len(before[0]) == 1
    assert len(before[1]) == 3


@pytest.mark.usefixtures("card")
def test_another_address_takes_the_place_of_the_first() -> None:
    script()
    script(ADDRESS="192.0.2.9/25")
    assert "192.0.2.9/25" in addresses()
    assert "192.0.2.1/24" not in addresses()


@pytest.mark.usefixtures("card")
def test_the_rules_of_others_stay() -> None:
    mine = ["ip", "qubes", "custom-input", "tcp", "dport", "22", "accept"]
    there("nft", "add", "rule", *mine)
    script()
    script()
    assert len(rules("custom-input")) == 2


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(
    ("interface", "port", "expected"),
    [("lan", 80, True), ("lan", 22, False), ("other", 80, False)],
)
def test_only_our_ports_are_open_and_only_on_the_card(
    interface: str, port: int, expected: bool
) -> None:
    script()
    there("ip", "address", "add", "192.0.3.1/24", "dev", "other")
    assert answers(interface, port) is expected


@pytest.mark.usefixtures("card")
def test_the_agent_sees_which_ports_are_open() -> None:
    def seen(protocol: str, port: int, interface: str = "lan") -> bool | None:
        listed = there("nft", "--json", "list", "ruleset").stdout
        packet = firewall.Packet(interface, 0, protocol, port)
        return firewall.Ruleset(json.loads(listed)).lets_in(packet)

    assert seen("udp", 67) is False
    script()
    for port in (67, 69, 4011):
        assert seen("udp", port) is True
    assert seen("tcp", 80) is True
    assert seen("tcp", 81) is False
    assert seen("udp", 67, "other") is False
    there("nft", "flush", "chain", "ip", "qubes", "custom-input")
    assert seen("udp", 67) is False
    there("nft", "flush", "ruleset")
    assert seen("udp", 67) is True


@pytest.mark.usefixtures("card")
def test_router_advertisements_do_not_configure_the_card() -> None:
    script()
    for setting in ("accept_ra", "autoconf"):
        path = f"/proc/sys/net/ipv6/conf/lan/{setting}"
        assert there("cat", path).stdout == b"0\n"


@pytest.mark.usefixtures("card")
def test_without_qubes_tables_nothing_is_opened() -> None:
    there("nft", "flush", "ruleset")
    failed = script(check=False)
    assert failed.status != 0
    assert addresses() == set()


@pytest.mark.usefixtures("card")
def test_a_card_that_does_not_come_is_named_and_nothing_is_opened() -> None:
    failed = script(check=False, INTERFACE="lan2", CARD_SECONDS="1")
    assert failed.status == 1
    assert b"there is no network card lan2" in failed.stderr
    assert rules("custom-input") == []


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("missing", SETTINGS)
def test_a_missing_setting_is_an_error(missing: str) -> None:
    assert script(check=False, **{missing: ""}).status != 0
    assert addresses() == set()
