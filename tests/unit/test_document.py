"""The line-based documents: one way to write them, none to bend them."""

import pytest

from sys_pxe import document
from sys_pxe.errors import InvalidInput

TEXT = b"sys-pxe thing 1\ncolour red\nend\n"


def read(untrusted: bytes) -> str:
    reader = document.Reader(untrusted, "thing")
    colour = reader.word("colour")
    reader.end()
    return colour


def test_a_document_is_written_and_read() -> None:
    assert document.write("thing", ["colour red"]) == TEXT
    assert read(TEXT) == "red"


@pytest.mark.parametrize(
    ("untrusted", "message"),
    [
        (b"", "thing: ends too early"),
        (b"\n", "thing: line 1: '' (expected 'sys-pxe thing 1')"),
        (TEXT[:-1], "thing: the last line is cut off"),
        (TEXT[:-4], "thing: ends too early"),
        (TEXT + b"\n", "thing: goes on after its end"),
        (TEXT + TEXT, "thing: goes on after its end"),
        (TEXT.replace(b"\n", b"\r\n"), "thing: line 1: 'sys-pxe thing 1?'"),
        (TEXT.replace(b"1", b"2"), "thing: line 1: 'sys-pxe thing 2'"),
        (TEXT.replace(b"thing", b"other"), "thing: line 1: 'sys-pxe other 1'"),
        (TEXT.replace(b"r red", b"r  red"), "thing: line 2: 'colour  red'"),
        (TEXT.replace(b"red", b""), "thing: line 2: 'colour '"),
        (TEXT.replace(b"red", b"red x"), "thing: line 2: 'colour red x'"),
        (TEXT.replace(b"colour", b"color"), "thing: line 2: 'color red'"),
        (TEXT.replace(b"red", b"r\xe9d"), "thing: not ASCII text"),
    ],
)
def test_each_deviation_is_named(untrusted: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(untrusted)
    assert caught.value.message.startswith(message)


def test_a_document_too_large_is_not_looked_at() -> None:
    with pytest.raises(InvalidInput, match="1048577 bytes"):
        document.Reader(b"\xff" * (document.DOCUMENT_MAX + 1), "thing")


def test_messages_show_no_control_characters() -> None:
    with pytest.raises(InvalidInput) as caught:
        read(TEXT.replace(b"red", b"\x1b[2J re"))
    assert "\x1b" not in caught.value.message
