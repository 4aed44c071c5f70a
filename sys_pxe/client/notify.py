"""Tells the person at the PC: the journal, their desktop, or all terminals.

No program has to be there, and no failure reaches the caller: who cannot be
told must not keep the pool from being watched.
"""

import html
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import names, run
from sys_pxe.errors import SysPxeError
from sys_pxe.usage import Level, Notice

RUN_USER = Path("/run/user")
# of people; below are services, such as the login screen's
UID_MIN = 1000
_TIMEOUT = 10.0
# sd-daemon(3): the journal takes the level of a line from its start
_PREFIXES = {Level.OK: "<5>", Level.WARNING: "<4>"}
_WORST = "<2>"


@dataclass(frozen=True)
class Session:
    """A person's session: their numbers, and the address of its bus."""

    uid: int
    gid: int
    bus: str


def sessions(run_user: Path = RUN_USER) -> list[Session]:
    """Return the sessions of people that have a message bus."""
    found = []
    for bus in sorted(run_user.glob("*/bus")):
        number = bus.parent.name
        if not number.isdecimal() or int(number) < UID_MIN:
            continue
        try:
            gid = pwd.getpwuid(int(number)).pw_gid
        except (KeyError, OverflowError):
            continue
        found.append(Session(int(number), gid, f"unix:path={bus}"))
    return found


def journal(text: str, level: Level) -> None:
    """Write one line to the journal, which is the unit's stderr."""
    line = names.printable(text, 2000)
    sys.stderr.write(f"{_PREFIXES.get(level, _WORST)}{line}\n")
    sys.stderr.flush()


def tell(notice: Notice, run_user: Path = RUN_USER) -> None:
    """Tell a notice everywhere where a person may see it."""
    journal(notice.line, notice.level)
    told = [_on_desktop(notice, session) for session in sessions(run_user)]
    if not any(told):
        text = f"sys-pxe: {notice.title}.\n{notice.text}\n"
        _try(["wall"], stdin=text.encode("ascii", "replace"))


def _on_desktop(notice: Notice, session: Session) -> bool:
    urgency = "critical" if notice.level >= Level.CRITICAL else "normal"
    return _try(
        [
            *("setpriv", "--reuid", str(session.uid)),
            *("--regid", str(session.gid), "--init-groups"),
            *("notify-send", "--app-name=sys-pxe", f"--urgency={urgency}"),
            # the body of a notification may hold markup
            *("--", notice.title, html.escape(notice.text, quote=False)),
        ],
        env={"DBUS_SESSION_BUS_ADDRESS": session.bus},
    )


def _try(
    argv: list[str], *, stdin: bytes = b"", env: dict[str, str] | None = None
) -> bool:
    """Run a program; return whether it was there and did its work."""
    try:
        run.run(argv, stdin=stdin, env=env, timeout=_TIMEOUT)
    except (SysPxeError, OSError):
        return False
    return True
