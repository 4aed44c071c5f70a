"""Which transport a command uses: the one it is told, or that of its place."""

from pathlib import Path

from sys_pxe import names
from sys_pxe.dom0.qrexec import (
    QUBE,
    QrexecTransport,
    QubesTransport,
    Say,
    parse_qube,
)
from sys_pxe.dom0.transport import ENVIRONMENT, LocalTransport, Transport
from sys_pxe.errors import UsageError

LOCAL, QUBES, QREXEC = "local", "qubes", "qrexec"
# qubesadmin knows dom0 by the same file
DOM0_MARK = Path("/etc/qubes-release")
CLIENT_VM = Path("/usr/bin/qrexec-client-vm")
_HINT = (
    "in dom0 and in a qube it is found by itself; elsewhere give --transport "
    f"local:FOLDER (the agent's), or set {ENVIRONMENT}"
)


def default() -> str | None:
    """Return the transport of this machine: dom0, a qube, or neither."""
    if DOM0_MARK.exists():
        return QUBES
    return QREXEC if CLIENT_VM.exists() else None


def choose(
    untrusted_spec: str | None, say: Say, *, start: bool = True
) -> Transport:
    """Return the transport that a ``--transport`` text names.

    ``say`` gets a line when the qube is being started; without ``start`` it
    is left off and NotRunning raised, as far as this side decides that.
    """
    spec = untrusted_spec or default()
    if spec is None:
        raise UsageError("no transport to the sys-pxe qube is set", _HINT)
    kind, colon, place = spec.partition(":")
    if kind == LOCAL and place:
        return LocalTransport(Path(place))
    if kind in (QUBES, QREXEC) and bool(colon) == bool(place):
        qube = parse_qube(place or QUBE)
        if kind == QUBES:
            return QubesTransport(qube, say, start=start)
        return QrexecTransport(qube)
    raise UsageError(
        f"{names.printable(spec, 60)!r} is not a transport",
        f"one of: {LOCAL}:FOLDER, {QUBES}[:QUBE], {QREXEC}[:QUBE]; {_HINT}",
    )
