"""``sys-pxe client``: list, add, show, render."""

import difflib
from dataclasses import asdict

from sys_pxe import files, names, plan, ram, render
from sys_pxe.dom0 import attest, channels, cmd_status, siteedit, sitefile
from sys_pxe.dom0.answer_status import RemoteAsked, RemoteClient, Status
from sys_pxe.dom0.context import Context
from sys_pxe.dom0.parsing import Args, Nouns, reader, verb
from sys_pxe.errors import InvalidInput
from sys_pxe.site import Client, Site

_ROW_MAX = 200


def add(nouns: Nouns) -> None:
    """Add the noun and its verbs to the parser."""
    verbs = nouns.noun("client", "look at the PCs of the site, add one")
    reader(
        verbs,
        "list",
        "list the clients, with their last reports if a transport is set, "
        "and the PCs that asked and are none",
        _list,
    )
    new = verb(
        verbs, "add", "add a PC that asked to boot to the site file", _add
    )
    new.add_argument("name", metavar="NAME")
    new.add_argument(
        "--from-seen",
        metavar="MAC",
        required=True,
        help="the MAC address, as 'client list' shows it",
    )
    new.add_argument(
        "--profile", metavar="PROFILE", required=True, help="what it gets"
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
    status = cmd_status.glance(context)
    reports = {r.mac: r for r in status.clients} if status else {}
    strangers = _strangers(site, status)
    clients = [client for _, client in sorted(site.clients.items())]
    if context.json:
        rows = [_row(site, c, reports.get(c.mac)) for c in clients]
        unknown = [
            {"mac": s.mac, "firmware": s.firmware, "seen": s.seen}
            for s in strangers
        ]
        context.show_json({"clients": rows, "strangers": unknown})
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
    if strangers:
        context.show("")
        context.show_table(
            ("NOT IN THE SITE", "FIRMWARE", "ASKED"),
            [
                (s.mac, s.firmware, cmd_status.ago(s.seen, now))
                for s in strangers
            ],
        )


def _row(
    site: Site, client: Client, report: RemoteClient | None
) -> dict[str, object]:
    return {
        "client": client.name,
        "mac": client.mac,
        "profile": client.profile,
        "channel": plan.settings(site, client.profile).channel,
        "address": client.address and str(client.address),
        "report": asdict(report) if report else None,
    }


def _strangers(site: Site, status: Status | None) -> list[RemoteAsked]:
    """Return the PCs that asked and are not in this site, newest first."""
    found = [] if status is None else list(status.asked)
    return [one for one in reversed(found) if site.by_mac(one.mac) is None]


def _add(context: Context, args: Args) -> None:
    path = context.site_file.resolve()
    content, known = sitefile.read(path)
    client = siteedit.named(args.name, args.from_seen, args.profile, known)
    if client.name == render.UNKNOWN:
        raise InvalidInput(
            f"NAME: {client.name} is kept for PCs that the site does not know",
            "give the client another name",
        )
    asked = _strangers(known, cmd_status.fetch(context))
    if client.mac not in [one.mac for one in asked]:
        raise InvalidInput(
            f"--from-seen: no PC with {client.mac} asked since the agent was "
            "started",
            "switch it on, let it boot from the network, and look at "
            "'sys-pxe client list'",
        )
    new = siteedit.with_client(content, client, str(path))
    files.rewrite(path, content, new)
    difference = difflib.unified_diff(
        content.decode("utf-8").splitlines(),
        new.decode("utf-8").splitlines(),
        *(str(path), str(path)),
        lineterm="",
        n=2,
    )
    for row in difference:
        context.show(names.printable(row, _ROW_MAX))
    context.show(f"{client.name} is in {path}; next: sys-pxe site push")


def _show(context: Context, args: Args) -> None:
    site = context.site()
    client = _client(site, args.name)
    releases = channels.active(context.state, site)
    found = plan.boot_plan(site, client, releases)
    release = releases.get(found.settings.channel)
    loader = site.loaders(client.profile, client.loader)
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
        "loader_bios": loader.bios,
        "loader_uefi": loader.uefi,
        "storage": "visible" if found.settings.storage_visible else "hidden",
        **_tpm(context, client),
    }
    if context.json:
        context.show_json(values)
        return
    for key, value in values.items():
        text = " ".join(value) if isinstance(value, list) else value
        context.show(f"{key:<15} {'-' if text in (None, '') else text}")


def _tpm(context: Context, client: Client) -> dict[str, object]:
    """Return what the TPM of a PC says of its last boot, if it has said it."""
    for one in cmd_status.reports(context):
        if one.mac == client.mac and one.quote is not None:
            break
    else:
        return {"tpm_quote": None}
    found = attest.judge(one.quote, one.release, client.profile, context.state)
    return {
        "tpm_quote": found.fault or "holds",
        "tpm_key": found.key,
        "tpm_resets": found.resets,
        "tpm_release": found.release.value,
        "tpm_boot_files": found.boot_files.value,
        "tpm_started": list(found.started),
        "tpm_trouble": found.trouble,
    }


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
