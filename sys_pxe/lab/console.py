"""A machine's serial console: all it said, when it said it, and a keyboard."""

import codecs
import re
import secrets
import shlex
import socket
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass

from sys_pxe.errors import SysPxeError

LINES_SHOWN = 20
# the UART's queue in Xen holds few characters; a person does not type faster
_TYPED_AT_ONCE = 16
_TYPING_PAUSE = 0.03
# a serial line comes in single characters: one look at the text for many
_GATHER_SECONDS = 0.02
_READ_MAX = 1 << 20

# control sequences, ECMA-48 section 5.4; strings to BEL or ST; two-letter ones
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|[ -/]+[0-~]|[0-Z\\`-~])"
)
_ESCAPE_MAX = 256
# a driver or Xen may say something right behind the prompt
_PROMPT = r"[#$] *((\[ *[0-9]+\.|\(XEN\) ).*)?$"
_XEN_LINE = re.compile(r"\(XEN\) [^\n]*\n")
_DROPPED = dict.fromkeys([*range(9), *range(11, 32), 127])


def typed(line: str, mark: str) -> str:
    """Return what to type so that a line's output stands between markers."""
    # the quotes keep the echo of what is typed from looking like a marker
    return (
        f"printf 'B''EGIN-{mark}\\n'; eval {shlex.quote(line)}; "
        f"printf '\\nE''ND-{mark} %s\\n' $?\n"
    )


class PlainText:
    """Turns what a terminal gets, piece by piece, into plain lines."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""

    def feed(self, piece: bytes) -> str:
        """Return the text of a piece, without escapes and control codes."""
        text = self._pending + self._decoder.decode(piece)
        text = _ESCAPE.sub("", text)
        start = text.rfind("\x1b")
        # an escape that is cut in two waits for its other half
        if start < 0 or len(text) - start > _ESCAPE_MAX:
            start = len(text)
        self._pending = text[start:]
        return text[:start].translate(_DROPPED)


@dataclass(frozen=True)
class Seen:
    """A match in what the console said, and when: seconds from power-on."""

    match: re.Match[str]
    seconds: float


class Console:
    """One end of a socket whose other end is the machine's serial port."""

    def __init__(self, name: str, end: socket.socket) -> None:
        self.name = name
        self.started = time.monotonic()
        self._socket = end
        self._text = ""
        self._ends: list[int] = []
        self._times: list[float] = []
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(
            target=self._read, name=f"console-{name}", daemon=True
        )
        self._reader.start()

    @property
    def text(self) -> str:
        """All that the console said so far, as plain lines."""
        with self._news:
            return self._text

    def last_lines(self, count: int = LINES_SHOWN) -> str:
        """Return the last lines that the console said."""
        return "\n".join(self.text.rstrip().splitlines()[-count:])

    def wait_for(self, pattern: str, timeout: float, after: int = 0) -> Seen:
        """Wait until the console has said ``pattern`` (multi-line mode).

        ``timeout`` is in seconds; text before the position ``after`` does not
        count. Raises SysPxeError, with the last lines, when the time is over
        or the machine has ended.
        """
        wanted = re.compile(pattern, re.MULTILINE)
        until = time.monotonic() + timeout
        with self._news:
            while True:
                match = wanted.search(self._text, after)
                if match is not None:
                    return Seen(match, self._when(match.end()))
                left = until - time.monotonic()
                if self._ended or left <= 0:
                    break
                self._news.wait(left)
        why = "it ended" if self._ended else f"not within {timeout:g} s"
        raise SysPxeError(
            f"{self.name}: {pattern!r} did not come on the console ({why}); "
            f"its last lines:\n{self.last_lines()}"
        )

    def send(self, text: str) -> None:
        """Type text, not faster than the machine reads it."""
        data = text.encode()
        try:
            for start in range(0, len(data), _TYPED_AT_ONCE):
                self._socket.sendall(data[start : start + _TYPED_AT_ONCE])
                time.sleep(_TYPING_PAUSE)
        except OSError:
            raise SysPxeError(f"{self.name}: the machine is off") from None

    def login(self, timeout: float, after: int = 0) -> float:
        """Log in as root, who has no password, and make the shell quiet.

        What was said before the position ``after`` does not count. Returns the
        seconds from power-on to the prompt.
        """
        asked = self.wait_for(r"login:", timeout, after)
        self.send("root\n")
        prompt = self.wait_for(_PROMPT, timeout, asked.match.end())
        # no echo, no line breaks, no kernel messages between the answers
        self.command("stty -echo cols 500; dmesg -n 1; export TERM=dumb", 60)
        return prompt.seconds

    def command(self, line: str, timeout: float) -> str:
        """Run a shell command line; return what it printed, all of it.

        Raises SysPxeError when its exit status is not 0.
        """
        mark = secrets.token_hex(4)
        before = len(self.text)
        self.send(typed(line, mark))
        # the line break before the end marker is ours
        seen = self.wait_for(
            rf"BEGIN-{mark}\n((?s:.*?))\nEND-{mark} ([0-9]+)$", timeout, before
        )
        # Xen writes to the same port whenever it likes, also within a line
        printed = _XEN_LINE.sub("", seen.match[1])
        status = int(seen.match[2])
        if status != 0:
            raise SysPxeError(
                f"{self.name}: {line!r} ended with status {status}, "
                f"it said {printed.strip()!r}"
            )
        return printed

    def close(self) -> None:
        """Hang up and wait until the reader has ended."""
        self._socket.close()
        self._reader.join(5)

    def _when(self, position: int) -> float:
        return self._times[bisect_left(self._ends, position)] - self.started

    def _read(self) -> None:
        plain = PlainText()
        while True:
            try:
                piece = self._socket.recv(_READ_MAX)
            except OSError:
                piece = b""
            with self._news:
                self._text += plain.feed(piece)
                self._ends.append(len(self._text))
                self._times.append(time.monotonic())
                self._ended = not piece
                self._news.notify_all()
            if not piece:
                return
            time.sleep(_GATHER_SECONDS)
