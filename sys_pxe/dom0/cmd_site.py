"""``sys-pxe site``: check, push."""

from sys_pxe import files, signature, site
from sys_pxe.dom0 import answers, channels, cmd_status, ramcheck, sitefile
from sys_pxe.dom0.context import Context
from sys_pxe.dom0.parsing import Args, Nouns, reader, verb
from sys_pxe.dom0.transport import payload_of
from sys_pxe.errors import SysPxeError
from sys_pxe.site import Site

SERVICE = "syspxe.Site"


def add(nouns: Nouns) -> None:
    """Add the noun and its verbs to the parser."""
    verbs = nouns.noun("site", "check and send site.yaml")
    reader(verbs, "check", "check the site file", _check)
    verb(verbs, "push", "check, sign and send the site file", _push)


def _warn(context: Context, found: Site, *, start: bool = False) -> list[str]:
    """Warn where RAM will not do; return what was said.

    A site can be checked by who cannot read the releases. The reports of a
    qube that is off are read with ``start`` only.
    """
    try:
        active = channels.active(context.state, found)
        reports = cmd_status.reports(context, start=start)
        said = ramcheck.warnings(found, active, reports)
    except (SysPxeError, OSError) as error:
        said = [f"RAM was not checked: {error}"]
    for text in said:
        context.warn(text)
    return said


def _check(context: Context, _: Args) -> None:
    found = context.site()
    pool = found.network.pool
    said = _warn(context, found)
    summary = {
        "file": str(context.site_file),
        "address": str(found.network.address),
        "dhcp": "proxy" if pool is None else f"{pool[0]}-{pool[1]}",
        "channels": list(found.channels),
        "profiles": len(found.profiles),
        "clients": len(found.clients),
        "unknown_clients": found.unknown_clients or site.REFUSE,
        "warnings": said,
    }
    if context.json:
        context.show_json(summary)
        return
    context.show(
        f"{context.site_file} is fine: {len(found.clients)} clients, "
        f"{len(found.profiles)} profiles, channels "
        f"{', '.join(found.channels)}; network {summary['address']}, DHCP "
        f"{summary['dhcp']}; unknown clients: {summary['unknown_clients']}"
    )


def _push(context: Context, _: Args) -> None:
    data, found = sitefile.load(context.site_file)
    transport = context.transport()
    # before it is sent: it can still be stopped then
    _warn(context, found, start=True)
    private = context.state.private_key
    serial = context.state.take_serial("site")
    document = site.encode(data, serial, context.now())
    signed = signature.signed(document, private)
    untrusted = transport.call(SERVICE, None, payload_of(signed))
    answers.site(untrusted, serial)
    files.write(context.state.root / "site", signed)
    context.show(
        f"site {serial} is in use: {len(found.clients)} clients, "
        f"{len(found.profiles)} profiles"
    )
