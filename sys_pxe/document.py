"""The strict, line-based text that manifests and pointers are written in.

A document is ASCII, at most 1 MiB, of lines ``key value`` in one fixed order,
each ended by a single LF; the first names its type, the last is ``end``. There
is one way to write any value, so the text of a parsed document is the text it
was parsed from. Pure: bytes in, values out.
"""

from sys_pxe import names
from sys_pxe.errors import InvalidInput

DOCUMENT_MAX = 1 << 20


class Reader:
    """Reads one document line by line; each deviation is InvalidInput."""

    def __init__(self, untrusted: bytes, kind: str) -> None:
        self._kind = kind
        self._number = 0
        if len(untrusted) > DOCUMENT_MAX:
            raise InvalidInput(
                f"{kind}: {len(untrusted)} bytes (expected at most "
                f"{DOCUMENT_MAX})"
            )
        try:
            text = untrusted.decode("ascii")
        except UnicodeDecodeError:
            raise InvalidInput(f"{kind}: not ASCII text") from None
        self._lines = text.split("\n")
        if self._lines.pop() != "":
            raise InvalidInput(f"{kind}: the last line is cut off")
        self._expect(f"sys-pxe {kind} 1")

    @property
    def where(self) -> str:
        """The place of the line that was read last, for messages."""
        return f"{self._kind}: line {self._number}"

    def _next(self) -> str:
        if self._number >= len(self._lines):
            raise InvalidInput(f"{self._kind}: ends too early")
        self._number += 1
        return self._lines[self._number - 1]

    def _expect(self, wanted: str) -> None:
        line = self._next()
        if line != wanted:
            raise InvalidInput(
                f"{self.where}: {names.printable(line, 60)!r} "
                f"(expected {wanted!r})"
            )

    def peek(self, key: str) -> bool:
        """Whether the next line has this key."""
        here = self._number
        return here < len(self._lines) and self._lines[here].startswith(
            key + " "
        )

    def words(self, key: str, count: int) -> list[str]:
        """Return the ``count`` words that follow ``key`` on the next line."""
        line = self._next()
        parts = line.split(" ")
        if parts[0] != key or len(parts) != count + 1 or "" in parts:
            raise InvalidInput(
                f"{self.where}: {names.printable(line, 60)!r} (expected "
                f"{key!r} and {count} word{'s' * (count > 1)})"
            )
        return parts[1:]

    def word(self, key: str) -> str:
        """Return the one word that follows ``key`` on the next line."""
        return self.words(key, 1)[0]

    def end(self) -> None:
        """Check that the document ends here."""
        self._expect("end")
        if self._number != len(self._lines):
            raise InvalidInput(f"{self._kind}: goes on after its end")


def write(kind: str, lines: list[str]) -> bytes:
    """Return the bytes of a document of this kind."""
    text = "\n".join([f"sys-pxe {kind} 1", *lines, "end", ""])
    return text.encode("ascii")
