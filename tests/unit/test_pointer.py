"""Pointers: one text for each, and nothing else is one."""

import pytest
from hypothesis import given

from sys_pxe import pointer
from sys_pxe.errors import InvalidInput
from sys_pxe.pointer import Pointer
from tests import documents

TEXT = pointer.write(documents.pointer())


@given(documents.pointers)
def test_text_and_value_round_trip(value: Pointer) -> None:
    text = pointer.write(value)
    assert pointer.parse(text) == value
    assert pointer.write(pointer.parse(text)) == text


def test_each_mutation_is_refused_or_another_pointer() -> None:
    known = pointer.parse(TEXT)
    for text in documents.mutations(TEXT):
        try:
            found = pointer.parse(text)
        except InvalidInput:
            continue
        assert found != known
        assert pointer.write(found) == text


def test_each_truncation_is_refused() -> None:
    for end in range(len(TEXT)):
        with pytest.raises(InvalidInput):
            pointer.parse(TEXT[:end])


def test_each_wrong_order_of_lines_is_refused() -> None:
    for text in documents.reordered(TEXT):
        with pytest.raises(InvalidInput):
            pointer.parse(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rollback no", "rollback maybe", "line 6: expected 'yes' or 'no'"),
        ("rollback no", "rollback YES", "line 6: expected 'yes' or 'no'"),
        ("floor 1", "floor 0", "line 7: 0 is not in 1 to"),
        ("floor 1\n", "", "line 7: 'end' (expected 'floor'"),
        ("serial 7", "serial 0", "line 3: 0 is not in 1 to"),
        ("release r1 3", "release r1", "(expected 'release' and 2 words)"),
        ("release r1 3", "release r1 -3", "is not a decimal number"),
        ("channel stable", "channel ../x", "line 2: '../x' is not a name"),
        ("pointer 1", "manifest 1", "(expected 'sys-pxe pointer 1')"),
    ],
)
def test_each_rule_has_its_message(old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        pointer.parse(TEXT.replace(old.encode(), new.encode()))
    assert message in caught.value.message
