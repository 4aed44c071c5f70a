"""Progress: a bar on a terminal, a line now and then elsewhere."""

from io import StringIO

import pytest

from sys_pxe.dom0.progress import MIB, Reporter, duration


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_every_ten_percent() -> None:
    out, clock = StringIO(), Clock()
    bar = Reporter(out, clock).bar("push r1", 100 * MIB)
    for _ in range(100):
        clock.now += 0.25
        bar.add(MIB)
    bar.end()
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[4] == (
        "push r1:  50 %, 50.0 of 100.0 MiB, 4.0 MiB/s, 12 s left"
    )


def test_a_log_gets_a_line_every_five_seconds_when_it_is_slow() -> None:
    out, clock = StringIO(), Clock()
    bar = Reporter(out, clock).bar("push r1", 1000 * MIB)
    for _ in range(12):
        clock.now += 1
        bar.add(MIB)
    assert len(out.getvalue().splitlines()) == 2


def test_a_terminal_gets_one_line_that_is_drawn_anew() -> None:
    out, clock = Terminal(), Clock()
    bar = Reporter(out, clock).bar("push r1", 10 * MIB)
    for _ in range(10):
        clock.now += 1
        bar.add(MIB)
    bar.end()
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().count("\r") == 11
    assert "[##############################] push r1: 100 %" in out.getvalue()


def test_nothing_to_do_is_no_division_by_zero() -> None:
    out = Terminal()
    bar = Reporter(out, Clock()).bar("push r1", 0)
    bar.add(0)
    bar.end()
    assert "100 %" in out.getvalue()


def test_quiet_says_nothing() -> None:
    out = StringIO()
    reporter = Reporter(out, Clock(), quiet=True)
    reporter.step("1/5")
    bar = reporter.bar("x", 5)
    bar.add(5)
    bar.end()
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (200, "3 min 20 s")),
        *((7199, "119 min 59 s"), (7200, "2 h 0 min"), (90_061, "25 h 1 min")),
        (800_000, "9 days"),
    ],
)
def test_durations_are_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
