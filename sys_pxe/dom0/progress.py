"""Progress on stderr: a bar on a terminal, otherwise a line now and then.

The clock and the stream are given, so tests need neither time nor terminal.
"""

import sys
import time
from collections.abc import Callable
from typing import IO

MIB = 1 << 20
_WIDTH = 30
_TERMINAL_EVERY = 0.2
_LINE_EVERY = 5.0
_LINE_STEP = 10


class Reporter:
    """Where steps and bars of one command go; ``quiet`` drops them."""

    def __init__(
        self,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        quiet: bool = False,
    ) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.clock = clock
        self.quiet = quiet

    def step(self, text: str) -> None:
        """Say on a line of its own what begins now."""
        if not self.quiet:
            self.stream.write(f"{text}\n")
            self.stream.flush()

    def bar(self, label: str, total: int, unit: str = "bytes") -> "Bar":
        """Return a bar that runs from 0 to ``total`` bytes or other units."""
        return Bar(self, label, total, unit)


class Bar:
    """One bar; ``unit`` is "bytes" or the word for what is counted."""

    def __init__(
        self, reporter: Reporter, label: str, total: int, unit: str
    ) -> None:
        self._to = reporter
        self._label = label
        self._total = total
        self._unit = unit
        self._begun = self._shown_at = reporter.clock()
        self._shown_percent = 0
        self._drawn = 0
        self.value = 0

    def add(self, count: int) -> None:
        """Move the bar on."""
        self.set(self.value + count)

    def set(self, value: int, total: int | None = None) -> None:
        """Move the bar to a value; a better total may be known by now."""
        self.value = value
        self._total = self._total if total is None else total
        if self._to.quiet:
            return
        now = self._to.clock()
        since = now - self._shown_at
        if self._to.stream.isatty():
            if since >= _TERMINAL_EVERY:
                self._shown_at = now
                self._draw()
            return
        percent = self._percent()
        if since >= _LINE_EVERY or percent >= self._shown_percent + _LINE_STEP:
            self._shown_at, self._shown_percent = now, percent
            self._to.stream.write(self.text() + "\n")
            self._to.stream.flush()

    def end(self) -> None:
        """Leave the final state on the screen."""
        if self._to.quiet:
            return
        if self._to.stream.isatty():
            self._draw()
            self._to.stream.write("\n")
        elif self._shown_percent < self._percent():
            self._to.stream.write(self.text() + "\n")
        self._to.stream.flush()

    def _percent(self) -> int:
        return 100 * self.value // self._total if self._total else 100

    def _draw(self) -> None:
        full = _WIDTH * min(self.value, self._total) // max(self._total, 1)
        shown = f"[{'#' * full}{'.' * (_WIDTH - full)}] {self.text()}"
        self._to.stream.write("\r" + shown.ljust(self._drawn))
        self._drawn = len(shown)
        self._to.stream.flush()

    def text(self) -> str:
        """Return label, percent, count, rate and time left in words."""
        seconds = self._to.clock() - self._begun
        parts = [f"{self._label}: {self._percent():3d} %"]
        if self._unit == "bytes":
            parts.append(
                f"{self.value / MIB:.1f} of {self._total / MIB:.1f} MiB"
            )
        else:
            parts.append(f"{self.value} of {self._total} {self._unit}")
        if seconds > 0 and self.value:
            rate = self.value / seconds
            if self._unit == "bytes":
                parts.append(f"{rate / MIB:.1f} MiB/s")
            left = max(self._total - self.value, 0) / rate
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration as ``12 s``, ``3 min 20 s``, ``5 h 2 min``, ``9 days``.

    The larger it is, the less its end matters.
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} days"
