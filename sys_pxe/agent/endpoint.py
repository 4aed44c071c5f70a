"""The HTTP of the report endpoint: one request of one form, one answer.

Behind nginx, which limits rate and size, holds the body until it is whole, and
passes none of a client's headers on. Whatever deviates is refused. Pure.
"""

import re

REQUEST_MAX = 8192
_BODY_MAX = 4096
_REASONS = {
    204: "No Content",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
}


class RefusedError(Exception):
    """The request is refused with this HTTP status (RFC 9110 15)."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def body_of(untrusted: bytes) -> bytes | None:
    """Return the body of ``POST /report``, None while it is not all there.

    Raises RefusedError.
    """
    if len(untrusted) > REQUEST_MAX:
        raise RefusedError(413)
    untrusted_head, end, untrusted_body = untrusted.partition(b"\r\n\r\n")
    if not end:
        return None
    lines = untrusted_head.split(b"\r\n")
    match = re.fullmatch(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]", lines[0])
    if match is None:
        raise RefusedError(400)
    if match[2] != b"/report":
        raise RefusedError(404)
    if match[1] != b"POST":
        raise RefusedError(405)
    length = _length(lines[1:])
    if len(untrusted_body) > length:
        raise RefusedError(400)
    return untrusted_body if len(untrusted_body) == length else None


def _length(untrusted_lines: list[bytes]) -> int:
    found = []
    for untrusted_line in untrusted_lines:
        key, colon, value = untrusted_line.partition(b":")
        if not colon or key.lower() == b"transfer-encoding":
            raise RefusedError(400)
        if key.lower() == b"content-length":
            found.append(value.strip(b" \t"))
    if not found:
        raise RefusedError(411)
    if len(found) > 1 or not re.fullmatch(rb"[0-9]{1,9}", found[0]):
        raise RefusedError(400)
    if int(found[0]) > _BODY_MAX:
        raise RefusedError(413)
    return int(found[0])


def answer(status: int) -> bytes:
    """Return the whole answer with a status and no body."""
    length = "" if status == 204 else "Content-Length: 0\r\n"
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n{length}"
        "Connection: close\r\n\r\n"
    ).encode("ascii")
