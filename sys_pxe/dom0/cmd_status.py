"""``sys-pxe status``: what runs, what is active, where the clients are."""

from dataclasses import asdict

from sys_pxe.dom0 import answer_status, status_here
from sys_pxe.dom0.answer_status import RemoteAsked, RemoteClient, Status
from sys_pxe.dom0.context import Context, mib
from sys_pxe.dom0.parsing import Args, Nouns, only
from sys_pxe.dom0.progress import duration
from sys_pxe.dom0.transport import NotRunning
from sys_pxe.errors import Busy, SysPxeError

# A client that boots reports every few seconds; one that was switched off
# does not say so.
BOOTING_SECONDS = 120
_AFTER_BOOT = ("handover", "failed")


def add(nouns: Nouns) -> None:
    """Add the command to the parser."""
    parser = only(
        nouns, "status", "show services, channels, clients, disk", _status
    )
    parser.add_argument(
        "--idle",
        action="store_true",
        help="show nothing; exit code 5 while a client boots",
    )


def booting(found: Status, now: int) -> list[str]:
    """Return the clients that were on their way in the last two minutes."""
    return [
        f"{client.client or client.mac} ({client.stage})"
        for client in found.clients
        if client.stage not in (None, *_AFTER_BOOT)
        and abs(now - client.seen) < BOOTING_SECONDS
    ]


def offered(found: Status) -> list[RemoteAsked]:
    """Return the PCs that asked after their last report, if any.

    Their firmware was offered a loader, and nothing of sys-pxe has run since:
    it is on its way, was switched off, or refuses what it got. Who is not in
    the site counts where the site serves strangers; else nothing was offered.
    """
    strangers = found.unknown_clients is not None
    last = {client.mac: client.seen for client in found.clients}
    return [
        one
        for one in found.asked
        if (strangers or one.client is not None)
        and last.get(one.mac, -1) < one.seen
    ]


def fetch(context: Context, *, start: bool = True) -> Status:
    """Return the state of the sys-pxe qube; see Context.transport."""
    transport = context.transport(start=start)
    return answer_status.parse(transport.call("syspxe.Status"))


def glance(context: Context, *, start: bool = False) -> Status | None:
    """Return the state of the sys-pxe qube; None without a transport.

    A look at it never fails, and starts no qube unless it is told to.
    """
    if not context.has_transport:
        return None
    try:
        return fetch(context, start=start)
    except SysPxeError as error:
        context.reporter.step(f"sys-pxe: no reports: {error.message}")
        return None


def reports(
    context: Context, *, start: bool = False
) -> tuple[RemoteClient, ...]:
    """Return the clients' last reports, as :func:`glance` finds them."""
    found = glance(context, start=start)
    return found.clients if found else ()


def ago(seen: int, now: int) -> str:
    """Return how long ago something was, in words."""
    return f"{duration(max(now - seen, 0))} ago"


def client_row(client: RemoteClient, now: int) -> tuple[object, ...]:
    """Return stage, progress, time and message of a client's last report."""
    done = None
    if client.total:
        done = f"{100 * client.bytes // client.total} %"
    return client.stage, done, ago(client.seen, now), client.message


def _check_idle(context: Context) -> None:
    """Raise Busy while a client boots; a qube that is off serves none."""
    try:
        found = fetch(context, start=False)
    except NotRunning:
        return
    if on_their_way := booting(found, context.now()):
        raise Busy(
            f"clients boot at the moment: {', '.join(on_their_way[:10])}",
            "wait until they are ready, or switch them off; a client that "
            f"has been silent for {BOOTING_SECONDS} s no longer counts",
        )


def _status(context: Context, args: Args) -> None:
    if args.idle:
        _check_idle(context)
        return
    if status_here.applies(context):
        status_here.show(context)
        return
    found = fetch(context)
    if context.json:
        waiting = [asdict(one) for one in offered(found)]
        context.show_json({**asdict(found), "offered": waiting})
        return
    context.show(f"site      {found.site_serial or 'none was pushed yet'}")
    for name, service in sorted(found.services.items()):
        state = "running" if service.running else "NOT RUNNING"
        context.show(f"{name:<9} {state}, {service.restarts} restarts")
    context.show(
        f"disk      {mib(found.chunks)} in chunks, {mib(found.free)} free"
    )
    if found.loaders:
        context.show("")
        context.show_table(
            ("LOADER", "VERSION", "FROM"),
            [
                (x.file, x.version if x.path else "NOT FOUND", x.path)
                for x in found.loaders
            ],
        )
    if found.channels:
        context.show("")
        context.show_table(
            ("CHANNEL", "RELEASE", "SERIAL", "ROLLBACK"),
            [
                (name, c and c.release, c and c.serial, c and c.rollback)
                for name, c in sorted(found.channels.items())
            ],
        )
    _show_clients(context, found)


def _show_clients(context: Context, found: Status) -> None:
    """Show the last reports, and who was offered a loader since."""
    now = context.now()
    if found.clients:
        context.show("")
        context.show_table(
            (
                *("CLIENT", "MAC", "RELEASE"),
                *("STAGE", "DONE", "SEEN", "MESSAGE"),
            ),
            [
                (c.client, c.mac, c.release, *client_row(c, now))
                for c in found.clients
            ],
        )
    if waiting := offered(found):
        context.show("")
        context.show_table(
            ("OFFERED, NOT STARTED", "MAC", "FIRMWARE", "ASKED"),
            [(x.client, x.mac, x.firmware, ago(x.seen, now)) for x in waiting],
        )
