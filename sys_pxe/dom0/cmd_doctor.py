"""``sys-pxe doctor``: what is wrong, why, and what to do about it."""

from dataclasses import asdict

from sys_pxe import names
from sys_pxe.dom0 import (
    answers,
    channels,
    cmd_status,
    diagnose,
    securekeys,
    sitefile,
)
from sys_pxe.dom0.answer_status import Status
from sys_pxe.dom0.context import Context
from sys_pxe.dom0.findings import NOTE, PROBLEM, Facts, Finding
from sys_pxe.dom0.parsing import Args, Nouns, only
from sys_pxe.dom0.transport import NotRunning
from sys_pxe.errors import SysPxeError
from sys_pxe.pointer import Pointer
from sys_pxe.site import Site

# the agent asks the LAN for 3 s when it is looked at (agent/neighbours.py)
LAN_SECONDS = 4.0
# of what the LAN said, in seconds
FRESH = 10
# of one kind; a room that is off has one fault and not sixty
SHOWN_MAX = 10
_LINE_MAX = 800


def add(nouns: Nouns) -> None:
    """Add the command to the parser."""
    only(
        nouns, "doctor", "find what is wrong; exit code 1 if something is", _run
    )


def _run(context: Context, _: Args) -> None:
    found = _findings(context)
    if context.json:
        context.show_json(
            [
                {"check": check, **asdict(finding)}
                for check, rows in found.items()
                for finding in rows
            ]
        )
    else:
        _show(context, found)
    problems = sum(
        finding.severity == PROBLEM
        for rows in found.values()
        for finding in rows
    )
    if problems:
        what = "problem was" if problems == 1 else "problems were"
        raise SysPxeError(f"{problems} {what} found")


def _show(context: Context, found: dict[str, tuple[Finding, ...]]) -> None:
    for check, rows in found.items():
        for finding in rows[:SHOWN_MAX]:
            note = "note: " if finding.severity == NOTE else ""
            line = f"{note}{finding.what}: {finding.why}. Next: "
            line += finding.next_step
            context.show(names.printable(line, _LINE_MAX))
        if len(rows) > SHOWN_MAX:
            more = len(rows) - SHOWN_MAX
            context.show(f"and {more} more of this kind ({check}), see --json")
    good = [check for check, rows in found.items() if not rows]
    if good:
        context.show(f"checked, nothing wrong: {', '.join(good)}")


def _findings(context: Context) -> dict[str, tuple[Finding, ...]]:
    """Return check -> findings; a qube that is off is one too."""
    try:
        status = _look(context)
    except NotRunning as error:
        off = Finding(
            error.message,
            "no PC can boot as long as it is off",
            "start it: qvm-start sys-pxe; if there is none, apply the formula",
        )
        return {"services": (off,)}
    transport = context.transport(start=False)
    site, wrong = _site(context)
    facts = Facts(
        now=context.now(),
        status=status,
        releases=tuple(answers.releases(transport.call("syspxe.Releases"))),
        offered=tuple(cmd_status.offered(status)),
        site=site,
        pointers=_pointers(context, status),
        secure_boot=_secure_boot(context),
    )
    return {"site": wrong, **diagnose.diagnose(facts)}


def _look(context: Context) -> Status:
    """Return the qube's state, with what the LAN says at this moment."""
    found = cmd_status.fetch(context, start=False)
    if found.dhcp is None or found.dhcp.mode is None:
        return found
    if found.dhcp.age is not None and found.dhcp.age <= FRESH:
        return found
    context.reporter.step("asking the LAN who else answers DHCP")
    context.sleep(LAN_SECONDS)
    return cmd_status.fetch(context, start=False)


def _site(context: Context) -> tuple[Site | None, tuple[Finding, ...]]:
    """Return the site; None without one, and what is wrong with the file."""
    if not context.site_file.exists():
        return None, ()
    try:
        return sitefile.load(context.site_file)[1], ()
    except SysPxeError as error:
        wrong = Finding(
            "the site file is wrong",
            error.message,
            error.hint or "correct it, then run 'sys-pxe site push'",
        )
        return None, (wrong,)


def _pointers(context: Context, status: Status) -> dict[str, Pointer]:
    """Return channel -> the pointer that this machine sent last."""
    if not (context.state.key_folder / "public.pem").is_file():
        return {}
    found = {
        name: channels.current(context.state, name) for name in status.channels
    }
    return {name: sent for name, sent in found.items() if sent is not None}


def _secure_boot(context: Context) -> bool | None:
    """Whether there are Secure Boot keys; None where no keys are kept."""
    if not (context.state.key_folder / "private.pem").is_file():
        return None
    return securekeys.folder(context.state).is_dir()
