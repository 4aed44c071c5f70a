"""Which network card the qube gets."""

import pytest

from sys_pxe.dom0 import nic
from sys_pxe.dom0.nic import Card
from sys_pxe.errors import InvalidInput

QUBE = "sys-pxe"
ROOT, BRIDGED = "00_1f.6", "00_1c.0-00_00.0"


def card(
    port: str = ROOT,
    assigned: str = "",
    attached: str = "",
    sbdf: str = "",
) -> Card:
    return Card(
        port=port,
        sbdf=sbdf or port,
        description=f"Ethernet controller: card at {port}",
        assigned=frozenset(assigned.split()),
        attached=frozenset(attached.split()),
    )


@pytest.mark.parametrize(
    "text",
    [
        *("00_1f.6", "00:1f.6", "0000:00:1f.6", "0000_00_1f.6"),
        *("dom0:00_1f.6", "00:1F.6", " 00:1f.6 "),
    ],
)
def test_all_spellings_of_an_id_are_one(text: str) -> None:
    assert nic.choose([card(ROOT), card(BRIDGED)], QUBE, text).port == ROOT


@pytest.mark.parametrize("text", ["02:00.0", "02_00.0", BRIDGED])
def test_a_card_behind_a_bridge_has_two_names(text: str) -> None:
    cards = [card(ROOT), card(BRIDGED, sbdf="02:00.0")]
    assert nic.choose(cards, QUBE, text).port == BRIDGED


def test_another_segment_is_another_card() -> None:
    with pytest.raises(InvalidInput, match="no wired network card"):
        nic.choose([card(ROOT)], QUBE, "0001:00:1f.6")


def test_the_only_free_card_is_taken() -> None:
    cards = [card(ROOT, assigned="sys-net"), card(BRIDGED)]
    assert nic.choose(cards, QUBE).port == BRIDGED


def test_the_card_that_it_has_stays_though_another_is_free() -> None:
    cards = [card(ROOT), card(BRIDGED, assigned=QUBE)]
    assert nic.choose(cards, QUBE).port == BRIDGED


@pytest.mark.parametrize("wanted", ["", ROOT])
@pytest.mark.parametrize(
    "taken",
    [card(assigned="sys-net"), card(attached="sys-net")],
    ids=["assigned", "attached"],
)
def test_a_card_of_another_qube_is_refused(taken: Card, wanted: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        nic.choose([taken], QUBE, wanted)
    assert "sys-net" in caught.value.explain()


@pytest.mark.parametrize("wanted", ["", ROOT])
def test_a_shared_card_is_refused_though_it_is_ours(wanted: str) -> None:
    shared = card(assigned=f"{QUBE} sys-net")
    with pytest.raises(InvalidInput, match="belongs to sys-net"):
        nic.choose([shared, card(BRIDGED)], QUBE, wanted)


def test_no_card_at_all_is_said() -> None:
    with pytest.raises(InvalidInput) as caught:
        nic.choose([], QUBE)
    assert "dom0 sees no wired network card" in caught.value.hint


def test_two_free_cards_are_listed_with_what_they_are() -> None:
    cards = [card(ROOT), card(BRIDGED), card("00_19.0", assigned="sys-net")]
    with pytest.raises(InvalidInput) as caught:
        nic.choose(cards, QUBE)
    assert "several wired network cards" in caught.value.message
    for one in cards:
        assert f"{one.port}  {one.description}" in caught.value.hint
    assert "[sys-net]" in caught.value.hint


def test_an_unknown_id_is_cut_before_it_is_shown() -> None:
    with pytest.raises(InvalidInput) as caught:
        nic.choose([card()], QUBE, "9" * 5000)
    assert len(caught.value.message) < 200


def test_has_means_this_card_and_no_other() -> None:
    ours, free = card(assigned=QUBE), card(BRIDGED)
    both = [ours, card(BRIDGED, assigned=QUBE)]
    assert nic.has([ours, free], QUBE, ours)
    assert not nic.has([ours, free], QUBE, free)
    assert not nic.has(both, QUBE, both[0])


@pytest.mark.parametrize(
    "arguments", [[], ["choose"], ["steal", QUBE], ["assign", QUBE, "a", "b"]]
)
def test_a_wrong_call_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert nic.main(arguments) == 2
    assert "usage:" in capsys.readouterr().err
