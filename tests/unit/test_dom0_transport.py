"""Calling a service: what comes back is capped, checked and made harmless."""

import sys
import time
from pathlib import Path
from typing import IO

import pytest

from sys_pxe.dom0 import transport
from sys_pxe.dom0.transport import ANSWER_MAX, ProgramTransport, payload_of
from sys_pxe.errors import (
    Busy,
    InvalidInput,
    SysPxeError,
    VerificationError,
)


class Script(ProgramTransport):
    """A transport whose other end is a few lines of Python."""

    def __init__(self, code: str, patience: float = 20) -> None:
        super().__init__(patience)
        self._code = f"import sys, time\n{code}\n"

    def argv(self, service: str, argument: str | None) -> list[str]:
        words = [service] if argument is None else [service, argument]
        return [sys.executable, "-c", self._code, *words]


def test_service_argument_and_payload_arrive_and_the_answer_returns() -> None:
    far = Script(
        "body = sys.stdin.buffer.read()\n"
        "print(sys.argv[1:], len(body), body[:3])"
    )
    answer = far.call("syspxe.Push", "r1", payload_of(b"abc" * 100_000))
    assert answer == b"['syspxe.Push', 'r1'] 300000 b'abc'\n"


def test_without_a_payload_stdin_is_empty() -> None:
    far = Script("print(sys.argv[1:], len(sys.stdin.buffer.read()))")
    assert far.call("syspxe.Status") == b"['syspxe.Status'] 0\n"


def test_an_answer_without_end_is_cut_and_its_sender_stopped() -> None:
    begun = time.monotonic()
    far = Script("while True: sys.stdout.write('x' * 65536)")
    with pytest.raises(InvalidInput, match=f"larger than {ANSWER_MAX}"):
        far.call("syspxe.Status")
    assert time.monotonic() - begun < 15


def test_an_answer_of_exactly_the_limit_is_taken() -> None:
    far = Script(f"sys.stdout.write('x' * {ANSWER_MAX})")
    assert len(far.call("syspxe.Status")) == ANSWER_MAX


def test_messages_without_end_are_cut() -> None:
    far = Script("sys.stderr.write('y' * 5_000_000); sys.exit(1)")
    with pytest.raises(SysPxeError) as caught:
        far.call("syspxe.Status")
    assert len(caught.value.explain()) < 2000


def test_a_far_end_that_reads_nothing_is_not_waited_for() -> None:
    def endless(stream: IO[bytes]) -> None:
        for _ in range(1 << 20):
            stream.write(bytes(1 << 20))

    far = Script("sys.stderr.write('disk full\\n'); sys.exit(1)")
    with pytest.raises(SysPxeError, match="disk full"):
        far.call("syspxe.Push", "r1", endless)


def test_a_far_end_that_hangs_is_ended() -> None:
    far = Script("time.sleep(600)", patience=0.3)
    with pytest.raises(SysPxeError, match=r"did not answer within 0.3 s"):
        far.call("syspxe.Status")


def test_a_far_end_that_takes_no_more_is_ended() -> None:
    def endless(stream: IO[bytes]) -> None:
        for _ in range(1 << 20):
            stream.write(bytes(1 << 20))

    far = Script("time.sleep(600)", patience=0.5)
    with pytest.raises(SysPxeError, match=r"did not answer within 0.5 s"):
        far.call("syspxe.Push", "r1", endless)


def test_a_far_end_that_takes_slowly_is_waited_for() -> None:
    def steady(stream: IO[bytes]) -> None:
        for _ in range(6):
            time.sleep(0.2)
            stream.write(bytes(1 << 20))

    far = Script("print(len(sys.stdin.buffer.read()))", patience=0.8)
    assert far.call("syspxe.Push", "r1", steady) == b"6291456\n"


def test_a_payload_that_fails_ends_the_far_end() -> None:
    def broken(_: IO[bytes]) -> None:
        raise SysPxeError("the release is damaged")

    with pytest.raises(SysPxeError, match="damaged"):
        Script("sys.stdin.read()").call("syspxe.Push", "r1", broken)


def test_a_grandchild_that_keeps_the_pipe_open_does_not_hold_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "PIPE_PATIENCE", 0.3)
    far = Script(
        "import subprocess\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(9)'])"
        "\nprint('done')"
    )
    begun = time.monotonic()
    assert far.call("syspxe.Status") == b"done\n"
    assert time.monotonic() - begun < 6


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (1, SysPxeError),
        (2, SysPxeError),
        (3, InvalidInput),
        (4, VerificationError),
        (5, Busy),
        (77, SysPxeError),
        (-9, SysPxeError),
    ],
)
def test_a_remote_exit_code_becomes_its_error_class(
    status: int, kind: type[SysPxeError]
) -> None:
    error = transport.remote_error("syspxe.X", status, b"no way\nhint: try\n")
    assert type(error) is kind
    assert (error.message, error.hint) == ("syspxe.X: no way", "try")


@pytest.mark.parametrize(
    "untrusted",
    [
        b"\x1b[2J\x1b]0;owned\x07red\n",
        b"\xff\xfe\x00\n",
        "\u202egnp.exe\n".encode(),
        b"a\rb\x08\x7f\n",
        b"one\x0btwo\x0cthree\x1cfour\x85\n",
    ],
)
def test_a_remote_message_cannot_drive_the_terminal(untrusted: bytes) -> None:
    error = transport.remote_error("syspxe.X", 1, untrusted)
    assert all(" " <= c <= "~" for c in error.message)


def test_a_silent_failure_says_its_status() -> None:
    error = transport.remote_error("syspxe.X", 1, b"")
    assert "exit status 1" in error.message


def test_the_local_transport_calls_the_agent_of_this_package() -> None:
    near = transport.LocalTransport(Path("/srv/agent"))
    assert near.argv("syspxe.Push", "r1")[1:] == [
        *("-m", "sys_pxe.agent.rpc", "--root", "/srv/agent"),
        *("syspxe.Push", "r1"),
    ]
    package = Path(near.env()["PYTHONPATH"]) / "sys_pxe"
    assert (package / "dom0" / "transport.py").is_file()
