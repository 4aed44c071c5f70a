"""``sys-pxe client``: list, show, render."""

from dataclasses import asdict

from sys_pxe import names, plan, ram, render
from sys_pxe.dom0 import channels, cmd_status
from sys_pxe.dom0.context import Context
from sys_pxe.dom0.parsing import Args, Nouns, reader
from sys_pxe.errors import InvalidInput
from sys_pxe.site import Client, Site


def add(nouns: Nouns) -> None:
    """Add the noun and its verbs to the parser."""
    verbs = nouns.noun("client", "look at the PCs of the site")
    reader(
        verbs,
        "list",
        "list the clients, with their last reports if a transport is set",
        _list,
    )
    one = reader(verbs, "show", "show what a client gets, resolved", _show)
    one.add_argument("name", metavar="NAME")
    files = reader(
        verbs, "render", "print exactly the files that a client gets", _render
    )
    files.add_argument("name", metavar="NAME")
    default = render.Server()
    files.add_argument(
        "--http-port",
        metavar="PORT",
        type=int,
        default=default.http_port,
        help="the port of the agent's HTTP server (default: %(default)s)",
    )


def _client(site: Site, name: str) -> Client:
    names.parse_name(name, "NAME")
    client = site.clients.get(name)
    if client is None:
        raise InvalidInput(
            f"NAME: {name!r} is not a client of the site",
            "'sys-pxe client list' shows those that there are",
        )
    return client


def _list(context: Context, _: Args) -> None:
    site = context.site()
    reports = {r.mac: r for r in cmd_status.reports(context)}
    clients = [client for _, client in sorted(site.clients.items())]
    if context.json:
        rows = []
        for client in clients:
            report = reports.get(client.mac)
            rows.append(
                {
                    "client": client.name,
                    "mac": client.mac,
                    "profile": client.profile,
                    "channel": plan.settings(site, client.profile).channel,
                    "address": client.address and str(client.address),
                    "report": asdict(report) if report else None,
                }
            )
        context.show_json({"clients": rows})
        return
    now = context.now()
    nothing = (None, None, None, None)
    context.show_table(
        (
            *("CLIENT", "MAC", "PROFILE", "CHANNEL", "ADDRESS"),
            *("STAGE", "DONE", "SEEN", "MESSAGE"),
        ),
        [
            (
                *(client.name, client.mac, client.profile),
                plan.settings(site, client.profile).channel,
                client.address,
                *(
                    cmd_status.client_row(reports[client.mac], now)
                    if client.mac in reports
                    else nothing
                ),
            )
            for client in clients
        ],
    )


def _show(context: Context, args: Args) -> None:
    site = context.site()
    client = _client(site, args.name)
    releases = channels.active(context.state, site)
    found = plan.boot_plan(site, client, releases)
    release = releases.get(found.settings.channel)
    need = ram.plan(found.settings, release) if release else None
    values: dict[str, object] = {
        "client": client.name,
        "mac": client.mac,
        "address": client.address and str(client.address),
        "profiles": [p.name for p in site.ancestry(client.profile)],
        "channel": found.settings.channel,
        "release": release and release.release,
        "dom0_mib": found.settings.dom0_mib,
        "overlay_mib": found.settings.overlay_mib,
        "needed_mib": need and need.need_mib,
        "qubes": list(found.settings.qubes),
        "xen_options": list(found.xen_options),
        "kernel_options": list(found.kernel_options),
        "storage": "visible" if found.settings.storage_visible else "hidden",
    }
    if context.json:
        context.show_json(values)
        return
    for key, value in values.items():
        text = " ".join(value) if isinstance(value, list) else value
        context.show(f"{key:<15} {'-' if text in (None, '') else text}")


def _render(context: Context, args: Args) -> None:
    site = context.site()
    client = _client(site, args.name)
    server = render.Server(http_port=args.http_port)
    files = render.client_files(
        site, client.name, channels.active(context.state, site), server
    )
    if context.json:
        context.show_json({"files": files})
        return
    for path, text in files.items():
        context.show(f"==> {path} <==\n{text.removesuffix(chr(10))}\n")
