"""What the person in front of the PC sees: stages, bytes, rate, time left.

``render`` turns a state into the 80x24 text of the PC's own screen, and
``line`` into one line for a serial console; both are pure. ``Screen`` writes
them.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from sys_pxe import names
from sys_pxe.errors import SysPxeError

WIDTH, HEIGHT = 80, 24
_BAR = 50
# rows for the failure's message and hint, and those of them for the message
_FAILURE_ROWS, _MESSAGE_ROWS = 7, 4
_CLEAR = "\x1b[2J"
_HOME = "\x1b[H"
_NO_CURSOR = "\x1b[?25l"
_BOLD, _RED, _GREEN, _PLAIN = "\x1b[1m", "\x1b[1;31m", "\x1b[1;32m", "\x1b[0m"

STAGES = {
    "network": "Network",
    "manifest": "Signatures",
    "ram": "Memory",
    "fetch": "Download",
    "root": "System in RAM",
    "pool": "Qubes in RAM",
    "handover": "Network off",
}


@dataclass
class State:
    """What is shown. Bytes, seconds; ``seconds`` is stage -> time it took."""

    client: str = ""
    release: str = ""
    stage: str = "network"
    note: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    failure: SysPxeError | None = None
    next_step: str = ""


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def left(state: State) -> str:
    """Return the time left, or an empty text while it is not known."""
    if state.rate < 1 or state.done >= state.total:
        return ""
    seconds = int((state.total - state.done) / state.rate) + 1
    return f"{seconds // 60}:{seconds % 60:02d} left"


def bar(state: State) -> str:
    """Return a bar of the bytes done."""
    done = min(state.done, state.total)
    filled = _BAR * done // state.total if state.total else 0
    return "[" + "#" * filled + "." * (_BAR - filled) + "]"


def line(state: State) -> str:
    """Return the state as one line."""
    name = STAGES.get(state.stage, state.stage)
    parts = [f"sys-pxe: {name}"]
    if state.stage == "fetch" and state.total:
        parts.append(f"{100 * state.done // state.total}%")
        parts.append(f"{size(state.done)} of {size(state.total)}")
        parts.append(f"{size(state.rate)}/s")
        parts.append(left(state))
    parts.append(names.printable(state.note, 200))
    return ", ".join(part for part in parts if part)


def _row(text: str) -> str:
    """Return an indented row that fits: printable ASCII, not too long."""
    return "  " + names.printable(text, WIDTH - 4)


def wrap(text: str, width: int) -> list[str]:
    """Return the text in lines of at most ``width`` characters."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        current = ""
        # a word that is longer than a line, such as a path, is cut
        words = (
            word[i : i + width]
            for word in paragraph.split()
            for i in range(0, len(word), width)
        )
        for word in words:
            if current and len(current) + 1 + len(word) > width:
                lines.append(current)
                current = word
            else:
                current = f"{current} {word}".strip()
        lines.append(current)
    return lines


def render(state: State) -> str:
    """Return the whole screen as text with escape codes."""
    rows = [f"{_BOLD}  sys-pxe: Qubes OS from the network, in RAM{_PLAIN}"]
    who = state.client or "this PC"
    what = f", release {state.release}" if state.release else ""
    rows += [_row(who + what), ""]
    rows += [_stage_row(state, key, name) for key, name in STAGES.items()]
    rows.append("")
    if state.failure is not None:
        rows += _failure_rows(state)
    elif state.stage == "fetch" and state.total:
        rows += _fetch_rows(state)
    elif state.note:
        rows.append(_row(state.note))
    padded = [row + "\x1b[K" for row in rows[:HEIGHT]]
    return _HOME + _NO_CURSOR + "\r\n".join(padded) + "\x1b[J"


def _stage_row(state: State, key: str, name: str) -> str:
    if key in state.seconds:
        return f"  {_GREEN}[ok]{_PLAIN} {name:<16}{state.seconds[key]:7.1f} s"
    if key == state.stage and state.failure is not None:
        return f"  {_RED}[!!]{_PLAIN} {name}"
    if key == state.stage:
        return f"  {_BOLD}[..] {name}{_PLAIN}"
    return f"       {name}"


def _fetch_rows(state: State) -> list[str]:
    percent = 100 * state.done // state.total
    numbers = f"{size(state.done)} of {size(state.total)}"
    pace = [f"{size(state.rate)}/s", left(state)]
    rows = [
        f"  {bar(state)} {percent:3d} %",
        "  " + ", ".join([numbers, *(p for p in pace if p)]),
    ]
    return [*rows, _row(state.note)] if state.note else rows


def _failure_rows(state: State) -> list[str]:
    if state.failure is None:
        return []
    rows = [f"  {_RED}This PC cannot go on.{_PLAIN}", ""]
    # what does not fit is on the consoles; what comes next is always here
    said = wrap(state.failure.message, WIDTH - 4)[:_MESSAGE_ROWS]
    rows += [_row(text) for text in said]
    if state.failure.hint:
        rows += ["", f"  {_BOLD}What to do:{_PLAIN}"]
        advice = wrap(state.failure.hint, WIDTH - 4)
        rows += [_row(text) for text in advice[: _FAILURE_ROWS - len(said)]]
    return [*rows, "", _row(state.next_step)]


class Screen:
    """Writes a state to the PC's screen and to its other consoles."""

    def __init__(self, screen: Path, consoles: list[Path]) -> None:
        self._screen = screen
        self._consoles = consoles
        self._last_line = ""
        self._send(screen, _CLEAR)

    def show(self, state: State, *, log: bool) -> None:
        """Draw the screen; with ``log``, also a line for the consoles."""
        self._send(self._screen, render(state))
        text = line(state)
        if log and text != self._last_line:
            self._last_line = text
            self.say(text)
        elif state.failure is not None and log:
            self.say(text)

    def say(self, text: str) -> None:
        """Write lines to the consoles that are not the screen."""
        for console in self._consoles:
            self._send(console, text.replace("\n", "\r\n") + "\r\n")

    @staticmethod
    def _send(device: Path, text: str) -> None:
        try:
            fd = os.open(device, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            return
        try:
            os.write(fd, text.encode("ascii", "replace"))
        except OSError:
            # a console that does not take our text must not stop a boot
            return
        finally:
            os.close(fd)


def find() -> Screen:
    """Return this machine's screen: tty1, and the consoles besides."""
    active = Path("/sys/class/tty/console/active").read_text("ascii").split()
    consoles = [Path("/dev") / c for c in active if not c.startswith("tty0")]
    return Screen(Path("/dev/tty1"), consoles)
