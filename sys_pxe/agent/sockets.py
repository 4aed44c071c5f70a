"""Small servers on Unix sockets: read a little, answer once, close.

Bounded in every direction: connections, bytes and time. One thread, no waiting
for a slow peer.
"""

import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sys_pxe import files

CONNECTIONS_MAX = 64
PATIENCE = 10.0
_READ = 4096

# Gets all bytes so far; returns the answer, or None to go on reading.
Handler = Callable[[bytes], bytes | None]


@dataclass
class _Connection:
    conn: socket.socket
    handler: Handler
    limit: int
    end: float
    untrusted: bytes = b""
    out: bytes = field(default=b"")


class Sockets:
    """Listening sockets and their connections on one selector."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._listeners: list[tuple[socket.socket, Path]] = []
        self._open: dict[int, _Connection] = {}

    def listen(self, path: Path, handler: Handler, limit: int) -> None:
        """Serve ``handler`` at ``path``; requests are below ``limit`` bytes."""
        files.remove(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        files.set_mode(path, 0o600)
        listener.listen(CONNECTIONS_MAX)
        listener.setblocking(False)
        self._listeners.append((listener, path))

        def accept(now: float) -> None:
            self._accept(listener, handler, limit, now)

        self._selector.register(listener, selectors.EVENT_READ, accept)

    def _accept(
        self, listener: socket.socket, handler: Handler, limit: int, now: float
    ) -> None:
        try:
            conn, _ = listener.accept()
        except OSError:
            return
        conn.setblocking(False)
        if len(self._open) >= CONNECTIONS_MAX:
            conn.close()
            return
        one = _Connection(conn, handler, limit, now + PATIENCE)
        self._open[conn.fileno()] = one

        def step(_now: float) -> None:
            self._step(one)

        self._selector.register(conn, selectors.EVENT_READ, step)

    def _step(self, one: _Connection) -> None:
        try:
            if one.out:
                self._send(one)
                return
            untrusted = one.conn.recv(_READ)
            one.untrusted += untrusted
            if not untrusted or len(one.untrusted) > one.limit:
                self._close(one)
                return
            answer = one.handler(one.untrusted)
            if answer is not None:
                one.out = answer
                self._send(one)
        except BlockingIOError:
            return
        except OSError:
            self._close(one)

    def _send(self, one: _Connection) -> None:
        one.out = one.out[one.conn.send(one.out) :]
        if not one.out:
            self._close(one)
            return
        key = self._selector.get_key(one.conn)
        self._selector.modify(one.conn, selectors.EVENT_WRITE, key.data)

    def _close(self, one: _Connection) -> None:
        if self._open.pop(one.conn.fileno(), None) is not None:
            self._selector.unregister(one.conn)
        one.conn.close()

    def expire(self, now: float) -> None:
        """Close the connections that took too long."""
        for one in [c for c in self._open.values() if now > c.end]:
            self._close(one)

    def close(self) -> None:
        """Close all and remove the sockets."""
        for one in list(self._open.values()):
            self._close(one)
        for listener, path in self._listeners:
            self._selector.unregister(listener)
            listener.close()
            files.remove(path)
