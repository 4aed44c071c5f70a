"""The daemon's Unix sockets: bounded, and never waiting for a slow peer."""

import selectors
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sys_pxe.agent import sockets
from sys_pxe.agent.sockets import Sockets


class Served:
    """An echo of one line, on a loop that the test turns by hand."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "socket"
        self.selector = selectors.DefaultSelector()
        self.sockets = Sockets(self.selector)
        self.sockets.listen(self.path, self._answer, 100)

    def _answer(self, untrusted: bytes) -> bytes | None:
        return untrusted if untrusted.endswith(b"\n") else None

    def turn(self, now: float = 0.0) -> None:
        while events := self.selector.select(0.02):
            for key, _ in events:
                key.data(now)

    def connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(2)
        peer.connect(str(self.path))
        return peer


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.sockets.close()
    made.selector.close()


def test_a_request_in_pieces_is_answered_once(served: Served) -> None:
    with served.connect() as peer:
        for piece in (b"a", b"b", b"c\n"):
            peer.sendall(piece)
            served.turn()
        assert peer.recv(100) == b"abc\n"
        assert peer.recv(100) == b""


def test_a_request_that_is_too_large_gets_no_answer(served: Served) -> None:
    with served.connect() as peer:
        peer.sendall(b"x" * 101 + b"\n")
        served.turn()
        # closed, with or without unread bytes
        with suppress(ConnectionResetError):
            assert peer.recv(100) == b""


def test_a_silent_peer_is_dropped_and_holds_nobody_up(served: Served) -> None:
    with served.connect() as silent, served.connect() as other:
        served.turn(now=100.0)
        other.sendall(b"hello\n")
        served.turn(now=101.0)
        assert other.recv(100) == b"hello\n"
        served.sockets.expire(100.0 + sockets.PATIENCE)
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.recv(1)
        served.sockets.expire(100.1 + sockets.PATIENCE)
        assert silent.recv(1) == b""


def test_more_peers_than_allowed_are_sent_away(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "CONNECTIONS_MAX", 2)
    peers = []
    for _ in range(3):
        peers.append(served.connect())
        served.turn()
    assert peers[2].recv(1) == b""
    peers[0].sendall(b"hello\n")
    served.turn()
    assert peers[0].recv(100) == b"hello\n"
    with served.connect() as late:
        late.sendall(b"late\n")
        served.turn()
        assert late.recv(100) == b"late\n"
    for peer in peers:
        peer.close()


def test_a_socket_that_a_killed_daemon_left_is_taken_over(
    tmp_path: Path,
) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(tmp_path / "socket"))
    left.close()
    served = Served(tmp_path)
    with served.connect() as peer:
        peer.sendall(b"hello\n")
        served.turn()
        assert peer.recv(100) == b"hello\n"
    served.sockets.close()
    served.selector.close()
    assert not served.path.exists()


def test_only_its_owner_can_reach_a_socket(served: Served) -> None:
    assert served.path.stat().st_mode & 0o077 == 0
