"""How the sys-pxe qube is reached on Qubes OS: qubesadmin, qrexec-client-vm.

dom0 asks qubesd to start the qube and then runs the service by qrexec; policy
does not bind dom0. A qube asks dom0's policy with each call, and dom0 starts
the target. What fails on the way has exit codes of its own (qrexec.h): 125 a
problem of qrexec, 126 refused, 127 no such service.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sys_pxe import names, run
from sys_pxe.dom0.transport import (
    PATIENCE,
    ChildTransport,
    NotRunning,
    ProgramTransport,
    remote_error,
    told,
)
from sys_pxe.errors import SysPxeError, UsageError

if TYPE_CHECKING:
    Child = run.Popen[bytes]

QUBE = "sys-pxe"
TEMPLATE = "tpl-sys-pxe"
CLIENT_VM = "qrexec-client-vm"
PROBLEM, REFUSED, NOT_FOUND = 125, 126, 127
_TEXT_MAX = 400
_HELD = ("Paused", "Suspended")

Say = Callable[[str], None]


class Qube(Protocol):
    """What is used of qubesadmin's QubesVM."""

    def get_power_state(self) -> str:
        """Return one of the states of qubesadmin, ``Running`` for example."""

    def start(self) -> None:
        """Start it; returns when its qrexec is ready."""

    def run_service(
        self,
        service: str,
        *,
        autostart: bool,
        stdin: int,
        stdout: int,
        stderr: int,
    ) -> "Child":
        """Start qrexec-client for a service."""


class Qubes(Protocol):
    """What is used of qubesadmin's collection of qubes."""

    def __getitem__(self, name: str) -> Qube:
        """Return a qube, or raise KeyError."""


@dataclass(frozen=True)
class Admin:
    """A connection to qubesd, and the class of what it complains about."""

    qubes: Qubes
    error: type[Exception]


def connect() -> Admin:
    """Return dom0's connection; qubesadmin is there on Qubes OS alone."""
    try:
        import qubesadmin  # type: ignore  # noqa: PLC0415
        import qubesadmin.exc  # type: ignore  # noqa: PLC0415
    except ImportError:
        raise SysPxeError(
            "this Python has no qubesadmin, which dom0 calls qubes with",
            "run sys-pxe in dom0 as it was installed: /usr/bin/sys-pxe",
        ) from None
    return Admin(qubesadmin.Qubes().domains, qubesadmin.exc.QubesException)


def parse_qube(untrusted_name: str) -> str:
    """Return the name of a qube that is not dom0, or raise UsageError."""
    if (
        not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,30}", untrusted_name)
        or untrusted_name == "dom0"
    ):
        raise UsageError(
            f"{names.printable(untrusted_name, 40)!r} is not the name of a "
            "service qube",
            f"the formula names it {QUBE}",
        )
    return untrusted_name


def descriptor(service: str, argument: str | None) -> str:
    """Return what qrexec calls a call: service, or service+argument."""
    if argument is None:
        return service
    return f"{service}+{names.parse_name(argument, service)}"


class QubesTransport(ChildTransport):
    """Calls from dom0. ``say`` gets a line while the qube is being started."""

    def __init__(
        self,
        qube: str,
        say: Say,
        *,
        start: bool = True,
        admin: Callable[[], Admin] = connect,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(patience)
        self._name = qube
        self._say = say
        self._may_start = start
        self._connect = admin
        self._admin: Admin | None = None

    def start(self, service: str, argument: str | None) -> "Child":
        """Start the qube if it is off, then qrexec-client."""
        call = descriptor(service, argument)
        self._admin = self._admin or self._connect()
        try:
            try:
                qube = self._admin.qubes[self._name]
            except KeyError:
                raise self._missing() from None
            self._wake(qube)
            # the user is the one that the service's configuration forces
            return qube.run_service(
                call,
                autostart=False,
                stdin=run.PIPE,
                stdout=run.PIPE,
                stderr=run.PIPE,
            )
        except (self._admin.error, OSError) as error:
            raise SysPxeError(
                f"{service}: dom0 cannot call the qube {self._name}: "
                f"{_text(error)}",
                "call it in dom0, with sudo; journalctl -u qubesd shows what "
                "qubesd says",
            ) from None

    def error(
        self, service: str, status: int, untrusted_message: bytes
    ) -> SysPxeError:
        """Return the error, with what to do about those of qrexec."""
        return explained(
            self._name, service, status, untrusted_message, _IN_DOM0
        )

    def _missing(self) -> NotRunning:
        return NotRunning(
            f"there is no qube named {self._name}",
            "make it with the formula: sudo qubesctl top.enable sys-pxe, then "
            f"sudo qubesctl --targets={TEMPLATE},{QUBE} state.apply",
        )

    def _wake(self, qube: Qube) -> None:
        state = qube.get_power_state()
        if state == "Running":
            return
        if state in _HELD:
            raise SysPxeError(
                f"the qube {self._name} is {state.lower()}",
                f"let it go on: qvm-unpause {self._name}",
            )
        if not self._may_start:
            raise NotRunning(
                f"the qube {self._name} is off",
                f"start it: qvm-start {self._name}",
            )
        self._say(f"the qube {self._name} is off; starting it")
        self._start(qube)
        state = qube.get_power_state()
        if state != "Running":
            raise SysPxeError(
                f"the qube {self._name} does not run after its start: it is "
                f"{names.printable(state, 20)}",
                f"wait until 'qvm-ls {self._name}' says Halted or Running, "
                "then call again",
            )

    def _start(self, qube: Qube) -> None:
        assert self._admin is not None
        try:
            qube.start()
        except self._admin.error as error:
            raise SysPxeError(
                f"the qube {self._name} does not start: {_text(error)}",
                f"'qvm-pci list' shows which qube has the network card, "
                f"'qvm-prefs {self._name}' its memory; journalctl -u qubesd "
                f"and /var/log/libvirt/libxl/libxl-driver.log say more",
            ) from None


class QrexecTransport(ProgramTransport):
    """Calls from an admin qube, as far as dom0's policy allows them."""

    def __init__(self, qube: str, patience: float = PATIENCE) -> None:
        super().__init__(patience)
        self._name = qube

    def argv(self, service: str, argument: str | None) -> list[str]:
        """Return the command that asks dom0 for a call."""
        return [CLIENT_VM, self._name, descriptor(service, argument)]

    def error(
        self, service: str, status: int, untrusted_message: bytes
    ) -> SysPxeError:
        """Return the error, with what to do about those of qrexec."""
        return explained(
            self._name, service, status, untrusted_message, _IN_QUBE
        )


# exit status -> what happened and what to do
_IN_DOM0 = {
    PROBLEM: (
        "qrexec could not run {service} in the qube {qube}",
        "see /var/log/qubes/qrexec.{qube}.log; apply the formula's states to "
        "{template} and {qube} again, then restart the qube: "
        "qvm-shutdown --wait {qube}",
    ),
    REFUSED: (
        "qrexec refused {service} in the qube {qube}",
        "no policy binds dom0, so a file of the service cannot be executed: "
        "sudo qubesctl --skip-dom0 --targets={template} state.apply "
        "sys-pxe.install, then qvm-shutdown --wait {qube}",
    ),
    NOT_FOUND: (
        "the qube {qube} does not have the service {service}",
        "install it: sudo qubesctl --skip-dom0 --targets={template} "
        "state.apply sys-pxe.install, then qvm-shutdown --wait {qube}",
    ),
}
# dom0 tells a qube no reason: what it refuses, and what it could not start
_IN_QUBE = {
    PROBLEM: (
        "qrexec could not run {service} in the qube {qube}",
        "in dom0: see /var/log/qubes/qrexec.{qube}.log, and that the "
        "formula's states were applied to {template} and {qube}",
    ),
    REFUSED: (
        "dom0 refused to let this qube call {service} in {qube}",
        "in dom0: 'qvm-tags THIS-QUBE add sys-pxe-admin' allows it (or "
        "sys-pxe-viewer, to read while {qube} runs); 'qvm-start {qube}' shows "
        "whether it exists and starts; 'qubes-policy-lint "
        "/etc/qubes/policy.d/*.policy' finds a broken line, which makes dom0 "
        "refuse every call; journalctl -u qubes-qrexec-policy-daemon says "
        "which it was",
    ),
    NOT_FOUND: (
        "the qube {qube} does not have the service {service}",
        "in dom0: sudo qubesctl --skip-dom0 --targets={template} "
        "state.apply sys-pxe.install, then qvm-shutdown --wait {qube}",
    ),
}
_Reasons = dict[int, tuple[str, str]]


def explained(
    qube: str,
    service: str,
    status: int,
    untrusted_message: bytes,
    reasons: _Reasons,
) -> SysPxeError:
    """Return the error of a call: of qrexec, or of the service itself."""
    if status not in reasons:
        return remote_error(service, status, untrusted_message)
    said, _ = told(untrusted_message)
    what, hint = (
        text.format(service=service, qube=qube, template=TEMPLATE)
        for text in reasons[status]
    )
    tail = f": {said[:_TEXT_MAX]}" if said else ""
    return SysPxeError(f"{what} (exit status {status}){tail}", hint)


def _text(error: Exception) -> str:
    return names.printable(str(error), _TEXT_MAX) or type(error).__name__
