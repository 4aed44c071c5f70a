"""How documents and chunks travel to a service: ``NAME SIZE LF`` and bytes.

Both ends stream: neither holds more than one frame's header and a buffer in
memory. Sizes are in bytes and checked before anything is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from sys_pxe import names
from sys_pxe.errors import InvalidInput

HEADER_MAX = 128
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Header:
    """A frame's name (a word, or a chunk's digest) and size in bytes."""

    name: str
    size: int


def header(name: str, size: int) -> bytes:
    """Return the bytes that announce a frame."""
    return f"{name} {size}\n".encode("ascii")


def frame(name: str, content: bytes) -> bytes:
    """Return a whole small frame."""
    return header(name, len(content)) + content


def read_header(untrusted_stream: IO[bytes], limit: int) -> Header | None:
    """Return the next frame's header, or None at the end of the stream.

    Raises InvalidInput for anything malformed or larger than ``limit`` bytes.
    """
    untrusted_line = untrusted_stream.readline(HEADER_MAX)
    if not untrusted_line:
        return None
    try:
        untrusted_text = untrusted_line.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidInput("frame: its header is not ASCII") from None
    parts = untrusted_text.split(" ")
    if len(parts) != 2 or not parts[1].endswith("\n"):
        raise InvalidInput("frame: its header is not NAME SIZE")
    name = parts[0]
    if len(name) == 64:
        names.parse_sha256(name, "frame")
    else:
        names.parse_name(name, "frame")
    size = names.parse_int(parts[1][:-1], f"frame {name}", 0, limit)
    return Header(name, size)


def read_body(untrusted_stream: IO[bytes], head: Header) -> Iterator[bytes]:
    """Yield a frame's bytes; InvalidInput if the stream ends before them."""
    left = head.size
    while left:
        untrusted_part = untrusted_stream.read(min(left, _BUFFER))
        if not untrusted_part:
            raise InvalidInput(
                f"frame {head.name}: the stream ended {left} bytes too early",
                "the transfer was cut; send it again, it goes on where it was",
            )
        left -= len(untrusted_part)
        yield untrusted_part


def read_small(untrusted_stream: IO[bytes], name: str, limit: int) -> bytes:
    """Return the whole body of the next frame, which must have this name."""
    head = read_header(untrusted_stream, limit)
    if head is None or head.name != name:
        found = "nothing" if head is None else head.name
        raise InvalidInput(f"frame: found {found} (expected {name})")
    return b"".join(read_body(untrusted_stream, head))
