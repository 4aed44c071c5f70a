"""What the reading services answer: releases, status, events. No lock."""

from dataclasses import asdict

from sys_pxe import names
from sys_pxe.agent import loaders, report
from sys_pxe.agent.control import ASKED, STATUS, ask
from sys_pxe.agent.store import Store
from sys_pxe.errors import InvalidInput, SysPxeError, VerificationError
from sys_pxe.manifest import Manifest

SERVICES = ("dnsmasq", "nginx")


def releases(store: Store) -> dict[str, object]:
    """Return every release with its size in bytes and its channels."""
    channels: dict[str, list[str]] = {}
    for channel, pointer in store.pointers().items():
        channels.setdefault(pointer.release, []).append(channel)
    rows = []
    complete = store.release_names()
    for name in sorted({*complete, *store.pending_names()}):
        try:
            found = store.release(name) or store.pending_release(name)
        except (VerificationError, InvalidInput):
            continue  # damaged on the disk; a new push replaces it
        if found is None:
            continue
        rows.append(
            _row(store, found, name in complete, channels.get(name, []))
        )
    rows.sort(key=lambda row: (row["serial"], row["release"]))
    return {"releases": rows}


def _row(
    store: Store, found: Manifest, complete: bool, channels: list[str]
) -> dict[str, object]:
    missing = len(store.missing(found))
    return {
        "release": found.release,
        "serial": found.serial,
        "created": names.format_time(found.created),
        "expires": names.format_time(found.expires),
        "bytes": sum(a.size for a in found.artifacts),
        "complete": complete and not missing,
        "missing": missing,
        "channels": channels,
    }


def status(store: Store) -> dict[str, object]:
    """Return site, channels, programs, clients' last states and disk."""
    stored = store.site()
    pointers = store.pointers()
    listed = stored.site.channels if stored else ()
    channels: dict[str, object] = dict.fromkeys(listed)
    for name, pointer in pointers.items():
        channels[name] = {
            "release": pointer.release,
            "serial": pointer.release_serial,
            "rollback": pointer.rollback,
        }
    return {
        "site_serial": stored.serial if stored else None,
        "channels": channels,
        "services": _services(store),
        "loaders": loaders.installed(store),
        "clients": [
            _hint(asdict(state)) for state in report.read_states(store.database)
        ],
        "asked": _asked(store),
        "disk": {
            "free": store.free(),
            "chunks": sum(store.chunk_sizes().values()),
        },
    }


def _services(store: Store) -> dict[str, object]:
    """Return the state of dnsmasq and nginx; not running without a daemon."""
    try:
        answer = ask(store, STATUS) or {}
    except SysPxeError:
        answer = {}
    known = answer.get("services")
    found: dict[str, object] = {}
    for name in SERVICES:
        one = known.get(name, {}) if isinstance(known, dict) else {}
        found[name] = {
            "running": bool(one.get("running")),
            "restarts": int(one.get("restarts", 0)),
        }
    return found


def _asked(store: Store) -> object:
    """Return the PCs that asked to boot; none without a daemon."""
    try:
        answer = ask(store, ASKED) or {}
    except SysPxeError:
        answer = {}
    return answer.get("asked", [])


def events(store: Store) -> dict[str, object]:
    """Return the last steps that clients took, newest last."""
    return {
        "events": [
            _hint(asdict(event)) for event in report.read_events(store.database)
        ]
    }


def _hint(values: dict[str, object]) -> dict[str, object]:
    """Say null where a client named nothing."""
    for key in ("client", "release", "stage", "dom0_mib", "pc_mib"):
        if key in values:
            values[key] = values[key] or None
    return values
