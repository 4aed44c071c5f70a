"""The site's address must be on the card that the agent serves."""

import json

import pytest

from sys_pxe import run
from sys_pxe.agent import address
from sys_pxe.errors import SysPxeError
from sys_pxe.site import parse
from tests.agent_world import site_data

SITE = parse(site_data(), "site")


def given(monkeypatch: pytest.MonkeyPatch, *locals_: tuple[str, int]) -> None:
    info = [{"family": "inet", "local": a, "prefixlen": n} for a, n in locals_]
    output = json.dumps([{"ifname": "lan", "addr_info": info}, {}]).encode()

    def fake(argv: list[str], **_: object) -> run.Result:
        assert argv == ["ip", "-json", "-4", "address", "show", "dev", "lan"]
        return run.Result(tuple(argv), 0, output, b"")

    monkeypatch.setattr(run, "run", fake)


def test_the_same_address_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given(monkeypatch, ("192.0.2.77", 24), ("192.0.2.1", 24))
    address.check(SITE, "lan")


@pytest.mark.parametrize(
    ("has", "said"),
    [
        ((), "it has none"),
        ((("192.0.2.2", 24),), "it has 192.0.2.2/24"),
        ((("192.0.2.1", 16),), "it has 192.0.2.1/16"),
    ],
)
def test_another_one_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    has: tuple[tuple[str, int], ...],
    said: str,
) -> None:
    given(monkeypatch, *has)
    with pytest.raises(SysPxeError) as caught:
        address.check(SITE, "lan")
    assert said in caught.value.message
    assert "192.0.2.1/24" in caught.value.message
    assert "change network.address" in caught.value.message


def test_a_card_that_is_not_there_is_named() -> None:
    with pytest.raises(SysPxeError) as caught:
        address.check(SITE, "no-such-card")
    assert "no-such-card" in caught.value.message
