"""Which domains run on this PC, and pausing one of them.

``xl`` acts in milliseconds, ``qvm-pause`` in a second, in which a qube writes
more than a full pool has left. So xl stops it; then Qubes OS is told.
"""

from dataclasses import dataclass

from sys_pxe import names, run
from sys_pxe.errors import InvalidInput, SysPxeError

_TIMEOUT, _QVM_TIMEOUT = 10.0, 30.0
# a HVM's device model runs in a domain of its own, named for it
STUBDOMAIN = "-dm"


@dataclass(frozen=True)
class Domain:
    """A running domain: its number, name, and whether it is paused."""

    domid: int
    name: str
    paused: bool


def parse_list(untrusted: str) -> list[Domain]:
    """Return the domains in what ``xl list`` prints; other lines are left."""
    found = []
    for line in untrusted.splitlines():
        words = line.split()
        # Name ID Mem VCPUs State Time(s)
        if len(words) == 6 and words[1].isdecimal():
            name = names.printable(words[0], 64)
            found.append(Domain(int(words[1]), name, "p" in words[4]))
    return found


def domains() -> list[Domain]:
    """Return the running domains. SysPxeError where xl does not tell."""
    done = run.run(["xl", "list"], timeout=_TIMEOUT)
    return parse_list(done.stdout.decode("utf-8", "replace"))


def stop(domid: int) -> None:
    """Pause a domain at once. SysPxeError where that fails."""
    run.run(["xl", "pause", str(domid)], timeout=_TIMEOUT)


def adopt(domid: int, name: str) -> str:
    """Let Qubes OS pause what is stopped; return the command to go on.

    Xen counts its pauses: Qubes' own is the second, and once it holds, the
    first is taken back, so that ``qvm-unpause`` is all a person has to call.
    Where Qubes OS does not take part, xl's pause stays.
    """
    try:
        names.parse_qube(name, "xl list")
        run.run(["qvm-pause", "--", name], timeout=_QVM_TIMEOUT)
    except (InvalidInput, SysPxeError):
        return f"xl unpause {domid}"
    try:
        run.run(["xl", "unpause", str(domid)], timeout=_TIMEOUT)
    except SysPxeError:
        return f"xl unpause {domid}; qvm-unpause {name}"
    return f"qvm-unpause {name}"
