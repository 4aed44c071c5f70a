"""Frames: streams that are cut, too large or not frames at all."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import frames
from sys_pxe.errors import InvalidInput
from sys_pxe.frames import Header
from tests import documents

DIGEST = documents.sha("x")


@given(st.lists(st.tuples(documents.name, st.binary(max_size=300)), max_size=5))
def test_frames_round_trip(sent: list[tuple[str, bytes]]) -> None:
    stream = BytesIO(b"".join(frames.frame(n, c) for n, c in sent))
    got = []
    while (head := frames.read_header(stream, 300)) is not None:
        got.append((head.name, b"".join(frames.read_body(stream, head))))
    assert got == sent


def test_a_chunk_is_announced_by_its_digest() -> None:
    stream = BytesIO(frames.header(DIGEST, 7))
    assert frames.read_header(stream, 7) == Header(DIGEST, 7)


def test_the_end_of_the_stream_is_no_frame() -> None:
    assert frames.read_header(BytesIO(b""), 9) is None


@pytest.mark.parametrize(
    ("untrusted", "message"),
    [
        (b"x", "frame: its header is not NAME SIZE"),
        (b"x\n", "frame: its header is not NAME SIZE"),
        (b"x 1", "frame: its header is not NAME SIZE"),
        (b"x 1 2\n", "frame: its header is not NAME SIZE"),
        (b"x" * 500 + b" 1\n", "frame: its header is not NAME SIZE"),
        (b"x -1\n", "frame x: '-1' is not a decimal number"),
        (b"x 01\n", "frame x: '01' is not a decimal number"),
        (b"x 101\n", "frame x: 101 is not in 0 to 100"),
        (b"../x 1\n", "frame: '../x' is not a name"),
        (b"\xff 1\n", "frame: its header is not ASCII"),
        (b"F" * 64 + b" 1\n", "is not a SHA-256 digest"),
    ],
)
def test_a_bad_header_is_named(untrusted: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        frames.read_header(BytesIO(untrusted), 100)
    assert message in caught.value.message


@pytest.mark.parametrize("have", [0, 1, 9])
def test_a_cut_body_says_how_much_is_missing(have: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(frames.read_body(BytesIO(bytes(have)), Header("x", 10)))
    assert f"ended {10 - have} bytes too early" in caught.value.message
    assert "send it again" in caught.value.hint


def test_a_body_leaves_the_next_frame_alone() -> None:
    stream = BytesIO(frames.frame("a", b"1234") + frames.frame("b", b""))
    assert frames.read_small(stream, "a", 9) == b"1234"
    assert frames.read_small(stream, "b", 9) == b""


@pytest.mark.parametrize(
    ("untrusted", "found"), [(b"", "nothing"), (b"b 0\n", "b")]
)
def test_another_frame_than_the_wanted_one(
    untrusted: bytes, found: str
) -> None:
    with pytest.raises(InvalidInput, match=f"found {found}"):
        frames.read_small(BytesIO(untrusted), "a", 9)
