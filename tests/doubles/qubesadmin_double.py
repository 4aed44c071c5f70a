"""A strict double of dom0's ``qubesadmin``: what is not expected fails.

Signatures, states and errors are those of qubesadmin 4.3. A service that is
run is a process of :class:`FarEnd`.
"""

import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.doubles.far_end import FarEnd

_STREAMS = {"stdin", "stdout", "stderr"}


class QubesException(Exception):
    """As in qubesadmin.exc: a format, and what belongs into it."""

    def __init__(self, message_format: str, *args: str) -> None:
        super().__init__(message_format % args)


class QubesVMNotFoundError(QubesException, KeyError):
    def __str__(self) -> str:
        return QubesException.__str__(self)


class QubesVMNotRunningError(QubesException):
    pass


class QubesDaemonCommunicationError(QubesException):
    pass


class Qube:
    """One qube; ``start_error`` is what qubesd says to its start."""

    def __init__(self, name: str, far_end: FarEnd, state: str) -> None:
        self.name = name
        self.far_end = far_end
        self.state = state
        self.state_after_start = "Running"
        self.start_error: QubesException | None = None
        self.started = 0
        self.calls: list[str] = []
        # what the next call of a service ends with, before it is run
        self.exit_codes: list[int] = []

    def get_power_state(self) -> str:
        return self.state

    def is_running(self) -> bool:
        return self.state not in ("Halted", "NA")

    def start(self) -> None:
        self.started += 1
        if self.start_error:
            raise self.start_error
        # qubesd leaves alone what is not halted
        if self.state == "Halted":
            self.state = self.state_after_start

    def run_service(
        self,
        service: str,
        user: str | None = None,
        *,
        filter_esc: bool = False,
        localcmd: str | None = None,
        wait: bool = True,
        autostart: bool = True,
        prefix_data: bytes | None = None,
        **kwargs: int,
    ) -> "subprocess.Popen[bytes]":
        assert user is None, "the service's configuration names the user"
        assert (filter_esc, localcmd, wait, prefix_data) == (
            *(False, None, True, None),
        )
        assert kwargs == dict.fromkeys(_STREAMS, subprocess.PIPE)
        if autostart:
            self.start()
        elif not self.is_running():
            raise QubesVMNotRunningError("%s is not running", self.name)
        self.calls.append(service)
        call = service if "+" in service else f"{service}+"
        argv, env = self.far_end.command(call, "dom0")
        if self.exit_codes and (code := self.exit_codes.pop(0)):
            argv = ["/bin/sh", "-c", f"exit {code}"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, env=env, stdin=pipe, stdout=pipe, stderr=pipe
        )


class Qubes:
    """The app; ``domains`` raises KeyError for what there is not."""

    def __init__(self) -> None:
        self.domains: dict[str, Qube] = {}


class Unreachable:
    """Domains of an app whose qubesd does not answer."""

    def __getitem__(self, name: str) -> Qube:
        raise QubesDaemonCommunicationError(
            "Failed to connect to qubesd service: %s",
            "[Errno 13] Permission denied",
        )


@contextmanager
def installed(app: object) -> Iterator[None]:
    """Let ``import qubesadmin`` find this double, for a while."""
    module = types.ModuleType("qubesadmin")
    exc = types.ModuleType("qubesadmin.exc")
    for kind in (
        *(QubesException, QubesVMNotFoundError, QubesVMNotRunningError),
        QubesDaemonCommunicationError,
    ):
        setattr(exc, kind.__name__, kind)
    module.__dict__.update(Qubes=lambda: app, exc=exc)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "qubesadmin", module)
        patch.setitem(sys.modules, "qubesadmin.exc", exc)
        yield
