"""Reports: small, printable, and never in the way of a boot."""

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe.client import report

LIMIT = 4096
FIELDS = ("mac", "client", "release", "stage", "bytes", "total", "seconds",
          "message")  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(FIELDS),
        st.text(max_size=3000)
        | st.integers(0, 1 << 60)
        | st.floats(0, 1e15, allow_nan=False),
    )
)
def test_a_report_is_ascii_json_within_its_limit(
    fields: dict[str, str | int | float],
) -> None:
    text = report.body(fields)
    assert len(text) <= LIMIT
    got = json.loads(text.decode("ascii"))
    assert got.keys() == fields.keys()
    for value in got.values():
        assert not isinstance(value, str) or value.isprintable()


def test_plain_values_arrive_as_they_are() -> None:
    fields: dict[str, str | int | float] = {"mac": "52:54:00:00:00:01",
                                            "bytes": 5}  # fmt: skip
    assert json.loads(report.body(fields)) == fields


class Listener:
    """Takes one connection and answers with some bytes, or never."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.got = b""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        peer, _ = self.socket.accept()
        with peer:
            while b"}" not in self.got:
                self.got += peer.recv(4096)
            if self.answer is None:
                self.done.wait(10)
            else:
                peer.sendall(self.answer)

    def close(self) -> None:
        self.done.set()
        self.thread.join()
        self.socket.close()


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    made: list[Listener] = []
    yield made
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", False),
        (b"garbage\r\n\r\n", False),
        (b"", False),
    ],
)
def test_only_a_server_that_says_so_took_it(
    listeners: list[Listener], answer: bytes, taken: bool
) -> None:
    listeners.append(Listener(answer))
    server = listeners[0].address
    assert report.send(server, {"mac": "52:54:00:00:00:01"}) is taken
    assert listeners[0].got.startswith(b"POST /report HTTP/1.1\r\n")


def test_a_silent_server_costs_a_moment(
    listeners: list[Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_TIMEOUT", 0.2)
    listeners.append(Listener(None))
    begin = time.monotonic()
    assert not report.send(listeners[0].address, {"mac": "x"})
    assert time.monotonic() - begin < 2


def test_no_server_is_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    assert not report.send(address, {"mac": "x"})
