"""The screen in front of a person: 80x24, whatever the state is."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe.client import screen
from sys_pxe.client.screen import State
from sys_pxe.errors import SysPxeError

GOLDEN = Path(__file__).parent / "golden" / "screen"
MIB = 1 << 20
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TEXT = st.text(st.characters(codec="utf-8"), max_size=300)

FETCHING = State(
    client="desk-01",
    release="2026-11-a",
    stage="fetch",
    note="asking the server again (connection refused)",
    done=300 * MIB,
    total=1200 * MIB,
    rate=10.0 * MIB,
    seconds={"network": 4.2, "manifest": 0.31, "ram": 0.05},
)
FAILED = State(
    client="desk-01",
    stage="network",
    failure=SysPxeError(
        "no answer from a DHCP server on eth0 (52:54:00:00:00:01) within 60 s",
        "check that the sys-pxe qube runs, that the cable leads to its "
        "network, and that this PC is in site.yaml",
    ),
    next_step="This PC restarts in 60 s.",
)


def rows(state: State) -> list[str]:
    """Return what a person sees."""
    return [_ESCAPE.sub("", r) for r in screen.render(state).split("\r\n")]


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("start", State()),
        ("waiting", State(note="waiting for a link on eth0, 12 s left")),
        ("fetch", FETCHING),
        ("failure", FAILED),
    ],
)
def test_the_screen_is_as_it_was_approved(name: str, state: State) -> None:
    seen = "".join(row.rstrip() + "\n" for row in rows(state))
    assert seen == (GOLDEN / f"{name}.txt").read_text("ascii")


def test_fetching_shows_bytes_rate_and_time_left() -> None:
    seen = "\n".join(rows(FETCHING))
    for words in ("300 MiB of 1.17 GiB", "10 MiB/s", "1:31 left", "25 %"):
        assert words in seen


def test_a_failure_says_what_and_what_to_do_and_what_comes_next() -> None:
    seen = " ".join("\n".join(rows(FAILED)).split())
    assert FAILED.failure
    for words in (
        FAILED.failure.message, "What to do: " + FAILED.failure.hint,
        FAILED.next_step, "[!!] Network",
    ):  # fmt: skip
        assert words in seen


def test_a_failure_without_a_hint_promises_none() -> None:
    state = State(failure=SysPxeError("broken"), next_step="It restarts.")
    assert "What to do" not in screen.render(state)


def test_the_time_left_is_not_guessed_without_a_rate() -> None:
    assert screen.left(State(done=1, total=2)) == ""
    assert screen.left(State(done=2, total=2, rate=1.0)) == ""
    assert "left" not in "\n".join(rows(State(stage="fetch", total=10)))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (5 * MIB, "5 MiB"),
     (1536 * MIB, "1.50 GiB"), (5 << 40, "5120.00 GiB")],
)  # fmt: skip
def test_bytes_for_people(count: int, text: str) -> None:
    assert screen.size(count) == text


def test_the_bar_is_as_long_at_each_end() -> None:
    for done in (0, 7, 10):
        assert len(screen.bar(State(done=done, total=10))) == 52
    assert "." not in screen.bar(State(done=10, total=10))
    assert "#" not in screen.bar(State(done=0, total=0))


@given(
    st.builds(
        State,
        client=TEXT,
        release=TEXT,
        stage=st.sampled_from([*screen.STAGES, "else"]),
        note=TEXT,
        done=st.integers(0, 1 << 50),
        total=st.integers(0, 1 << 50),
        rate=st.floats(0, 1e13),
        seconds=st.dictionaries(
            st.sampled_from(list(screen.STAGES)), st.floats(0, 1e9)
        ),
        failure=st.none() | st.builds(SysPxeError, TEXT, TEXT),
        next_step=TEXT,
    )
)
def test_nothing_leaves_the_screen_or_moves_the_cursor(state: State) -> None:
    seen = rows(state)
    assert len(seen) <= screen.HEIGHT
    for row in seen:
        assert len(row) <= screen.WIDTH
        assert row.isascii()
        assert row.isprintable() or row == ""
    line = screen.line(state)
    assert line.isascii()
    assert line.isprintable()


@given(TEXT)
def test_what_comes_next_is_on_the_screen_also_after_a_long_message(
    text: str,
) -> None:
    state = State(
        failure=SysPxeError("word " * 60 + text, "hint " * 60 + text * 5),
        next_step="This PC restarts in 60 s.",
    )
    assert "  This PC restarts in 60 s." in rows(state)


@given(st.text("ab \n", max_size=200), st.integers(5, 40))
def test_wrapped_text_keeps_its_words(text: str, width: int) -> None:
    lines = screen.wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(len(line) <= width for line in lines)


def test_the_consoles_get_each_line_once_and_a_dead_one_stops_nothing(
    tmp_path: Path,
) -> None:
    tty, console = tmp_path / "tty1", tmp_path / "ttyS0"
    for path in (tty, console):
        os.mkfifo(path)
    ends = [os.open(p, os.O_RDONLY | os.O_NONBLOCK) for p in (tty, console)]
    shown = screen.Screen(tty, [tmp_path / "missing", console])
    shown.show(State(note="hello"), log=True)
    shown.show(State(note="hello"), log=True)
    shown.show(State(note="not logged"), log=False)
    drawn, logged = (os.read(end, 1 << 16).decode() for end in ends)
    assert drawn.count("hello") == 2
    assert "not logged" in drawn
    assert logged == "sys-pxe: Network, hello\r\n"
    for end in ends:
        os.close(end)
    # nobody reads them any more
    shown.show(State(note="bye"), log=True)
