"""Which network card a client uses: the loader's, or one with an answer."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from sys_pxe.client import card, pci
from sys_pxe.client.card import Card
from sys_pxe.errors import SysPxeError

A, B, C = (f"52:54:00:00:00:0{n}" for n in (1, 2, 3))


class Cards:
    """A PC's cards; ``log`` says what was done with them."""

    def __init__(self) -> None:
        self.macs: list[str] = []
        self.log: list[str] = []

    def each(self) -> Iterator[Card]:
        for mac in self.macs:
            self.log.append(f"released {mac[-1]}")
            yield cast(Card, SimpleNamespace(mac=mac, name="eth0"))

    def give_back(self, one: Card) -> None:
        self.log.append(f"back {one.mac[-1]}")


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    made = Cards()
    monkeypatch.setattr(card, "_each", made.each)
    monkeypatch.setattr(card, "give_back", made.give_back)
    monkeypatch.setattr(
        pci,
        "devices",
        lambda: [SimpleNamespace(class_code=pci.ETHERNET) for _ in made.macs],
    )
    return made


def asking(*good: tuple[str, float]) -> Callable[[Card, float], str]:
    """Return a question that these cards answer, given enough seconds."""

    def ask(one: Card, seconds: float) -> str:
        if any(one.mac == mac and seconds >= least for mac, least in good):
            return f"answer {one.mac[-1]}"
        raise SysPxeError(f"no link on {one.mac}")

    return ask


def test_the_loader_s_card_is_taken_and_the_others_go_back(
    cards: Cards,
) -> None:
    cards.macs = [A, B, C]
    assert card.find(B).mac == B
    assert cards.log == ["released 1", "back 1", "released 2"]


def test_a_card_without_a_driver_is_named(cards: Cards) -> None:
    cards.macs = [A, B]
    with pytest.raises(SysPxeError, match=f"the address {C}.*{A}, {B}"):
        card.find(C)
    assert cards.log[-1] == "back 2"


def test_without_a_word_the_card_that_gets_an_answer_is_taken(
    cards: Cards,
) -> None:
    cards.macs = [A, B, C]
    found, answer = card.answering(asking((B, 1)), 60)
    assert (found.mac, answer) == (B, "answer 2")
    assert cards.log == ["released 1", "back 1", "released 2"]


def test_a_slow_switch_port_is_waited_for_in_a_second_round(
    cards: Cards,
) -> None:
    cards.macs = [A, B]
    found, _ = card.answering(asking((A, 60)), 60)
    assert found.mac == A
    assert cards.log == [
        *("released 1", "back 1", "released 2", "back 2", "released 1"),
    ]


def test_one_card_is_not_switched_off_between_rounds(cards: Cards) -> None:
    cards.macs = [A]
    assert card.answering(asking((A, 60)), 60)[1] == "answer 1"
    assert cards.log == ["released 1"]
    # its own error says more than one about all
    with pytest.raises(SysPxeError, match=f"no link on {A}"):
        card.answering(asking(), 60)


def test_no_answer_anywhere_names_all_cards(cards: Cards) -> None:
    cards.macs = [A, B]
    with pytest.raises(SysPxeError, match=f"gets an answer: {A}, {B}"):
        card.answering(asking(), 60)
    assert cards.log.count("back 1") == cards.log.count("back 2") == 2


@pytest.mark.parametrize("known", [A, None])
def test_a_pc_without_a_card_says_so(cards: Cards, known: str | None) -> None:
    with pytest.raises(SysPxeError, match="no wired network card"):
        if known is None:
            card.answering(asking(), 60)
        else:
            card.find(known)
