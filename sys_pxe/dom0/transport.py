"""How dom0 calls a service of the sys-pxe qube; what returns is untrusted.

A transport only moves bytes. Answers and messages are capped while they are
read, so a qube that was taken over cannot fill dom0's memory or its terminal.
"""

import io
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

from sys_pxe import names, run
from sys_pxe.errors import (
    Busy,
    InvalidInput,
    SysPxeError,
    VerificationError,
)

# the state of 2000 clients, a quote of its TPM in each, is half of it
ANSWER_MAX = 4 << 20
MESSAGE_MAX = 4096
# without a byte taken, or after the last one: the store may have to check what
# it took
PATIENCE = 600.0
# after the end of the program, whose children may hold its pipes
PIPE_PATIENCE = 5.0
ENVIRONMENT = "SYS_PXE_TRANSPORT"

Payload = Callable[[IO[bytes]], None]

_CLASSES: dict[int, type[SysPxeError]] = {
    InvalidInput.exit_code: InvalidInput,
    VerificationError.exit_code: VerificationError,
    Busy.exit_code: Busy,
}


class NotRunning(SysPxeError):
    """The sys-pxe qube is off, or there is none (exit code 1)."""


class Transport(Protocol):
    """Anything that can call a service."""

    def call(
        self,
        service: str,
        argument: str | None = None,
        payload: Payload | None = None,
    ) -> bytes:
        """Return the (untrusted) answer, at most ANSWER_MAX bytes.

        ``payload`` writes what is to be sent to the stream that it is given.
        Raises the error class that belongs to the remote exit code.
        """


def payload_of(content: bytes) -> Payload:
    """Return the payload that consists of these bytes."""

    def write(stream: IO[bytes]) -> None:
        stream.write(content)

    return write


class ChildTransport(ABC):
    """Calls a service by a child process whose pipes are the service's."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience

    @abstractmethod
    def start(self, service: str, argument: str | None) -> "run.Popen[bytes]":
        """Start the child; its stdin, stdout and stderr are pipes."""

    def error(
        self, service: str, status: int, untrusted_message: bytes
    ) -> SysPxeError:
        """Return the error for a child that did not end with status 0."""
        return remote_error(service, status, untrusted_message)

    def call(
        self,
        service: str,
        argument: str | None = None,
        payload: Payload | None = None,
    ) -> bytes:
        """See Transport.call."""
        child = self.start(service, argument)
        watch = _Watch(child, self._patience)
        try:
            answer = _Capped(child.stdout, ANSWER_MAX, child.kill)
            message = _Capped(child.stderr, MESSAGE_MAX)
            _send(child.stdin, payload, watch.moved)
            status = child.wait()
            untrusted_answer = answer.content()
            untrusted_message = message.content()
        finally:
            watch.end()
            run.stop(child)
            _close(child.stdin)
        if watch.expired:
            raise SysPxeError(
                f"{service} did not answer within {self._patience:g} s",
                "look at the sys-pxe qube, then call again",
            )
        if answer.overflowed:
            raise InvalidInput(
                f"{service}: its answer is larger than {ANSWER_MAX} bytes",
                "the sys-pxe qube is broken or was taken over",
            )
        if status != 0:
            raise self.error(service, status, untrusted_message)
        return untrusted_answer


class ProgramTransport(ChildTransport):
    """Calls a service by starting a program that speaks for it."""

    @abstractmethod
    def argv(self, service: str, argument: str | None) -> list[str]:
        """Return the program and its arguments for a call."""

    def env(self) -> dict[str, str]:
        """Return what is added to the program's environment."""
        return {}

    def start(self, service: str, argument: str | None) -> "run.Popen[bytes]":
        """Start the program."""
        return run.spawn(
            self.argv(service, argument),
            stdin=run.PIPE,
            stdout=run.PIPE,
            stderr=run.PIPE,
            env=self.env(),
        )


class LocalTransport(ProgramTransport):
    """Runs the services of an agent's folder on this machine (the lab)."""

    def __init__(self, agent_root: Path, patience: float = PATIENCE) -> None:
        super().__init__(patience)
        self._agent_root = agent_root.absolute()

    def argv(self, service: str, argument: str | None) -> list[str]:
        """Return the command that runs a service of the agent."""
        tail = [service] if argument is None else [service, argument]
        module = [sys.executable, "-m", "sys_pxe.agent.rpc"]
        return [*module, "--root", str(self._agent_root), *tail]

    def env(self) -> dict[str, str]:
        """Return PYTHONPATH, so that the child finds this package."""
        return {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


class _Capped:
    """Reads a pipe to its end in a thread, keeps the first bytes, closes it.

    Nobody else closes it: that would wait for the read that is under way.
    """

    def __init__(
        self,
        pipe: IO[bytes] | None,
        limit: int,
        at_overflow: Callable[[], None] | None = None,
    ) -> None:
        self._pipe = pipe
        self._limit = limit
        self._at_overflow = at_overflow
        self._kept = bytearray()
        self.overflowed = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._pipe and (part := self._pipe.read1(1 << 16)):  # type: ignore[attr-defined]
            room = self._limit - len(self._kept)
            self._kept += part[:room]
            if len(part) > room and not self.overflowed:
                self.overflowed = True
                if self._at_overflow:
                    self._at_overflow()
        _close(self._pipe)

    def content(self) -> bytes:
        """Return what was read; a grandchild may still hold the pipe open."""
        self._thread.join(PIPE_PATIENCE)
        return bytes(self._kept)


class _Watch:
    """Kills a child that takes nothing and does not end, after a time."""

    def __init__(self, child: "run.Popen[bytes]", patience: float) -> None:
        self._child = child
        self._patience = patience
        self._since = time.monotonic()
        self._ended = threading.Event()
        self.expired = False
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def moved(self) -> None:
        """Begin the time anew: the child took something."""
        self._since = time.monotonic()

    def end(self) -> None:
        """Look no longer."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while (left := self._since + self._patience - time.monotonic()) > 0:
            if self._ended.wait(left):
                return
        self.expired = True
        self._child.kill()


class _Sink(io.RawIOBase):
    """Passes bytes on to a pipe at once, and tells that they went."""

    def __init__(self, pipe: IO[bytes], moved: Callable[[], None]) -> None:
        self._pipe = pipe
        self._moved = moved

    def writable(self) -> bool:
        """Say that this is for writing."""
        return True

    def write(self, part: Any) -> int:  # whatever a BufferedWriter holds
        """Write all of a part, as long as the child takes that."""
        self._pipe.write(part)
        self._pipe.flush()
        self._moved()
        return memoryview(part).nbytes


def _send(
    pipe: IO[bytes] | None,
    payload: Payload | None,
    moved: Callable[[], None],
) -> None:
    """Write the payload; a service that stops reading says why itself."""
    if pipe is None:
        return
    try:
        if payload is not None:
            sink = io.BufferedWriter(_Sink(pipe, moved), 1 << 16)
            payload(sink)
            sink.flush()
        pipe.close()
    except BrokenPipeError:
        _close(pipe)


def _close(stream: IO[bytes] | None) -> None:
    if stream is None:
        return
    try:
        stream.close()
    except BrokenPipeError:
        return


def remote_error(
    service: str, status: int, untrusted_message: bytes
) -> SysPxeError:
    """Return the error for a remote exit status and what it printed."""
    text, hints = told(untrusted_message)
    text = text or f"exit status {status}, no message"
    kind = _CLASSES.get(status, SysPxeError)
    return kind(f"{service}: {text}", hints)


def told(untrusted_message: bytes) -> tuple[str, str]:
    """Return message and hint of a remote stderr: printable, bounded."""
    untrusted_text = untrusted_message.decode("ascii", "replace")
    said, hints = [], []
    for line in untrusted_text.splitlines():
        shown = names.printable(line, 400)
        if shown.startswith("hint: "):
            hints.append(shown.removeprefix("hint: "))
        elif shown:
            said.append(shown)
    return " / ".join(said)[:1000], " ".join(hints)[:600]
