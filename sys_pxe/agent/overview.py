"""What the reading services answer: releases, status, events. No lock."""

from dataclasses import asdict

from sys_pxe import names
from sys_pxe.agent import loaders, report
from sys_pxe.agent.control import ASKED, STATUS, ask
from sys_pxe.agent.store import Store
from sys_pxe.errors import InvalidInput, SysPxeError, VerificationError
from sys_pxe.manifest import Manifest

SERVICES = ("dnsmasq", "nginx")
# what the daemon alone can see, and what is said without one
_HEALTH: dict[str, object] = {
    "trouble": None,
    "mtu": None,
    "ports": [],
    "dhcp": None,
    "boot_files": [],
}


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


def status(store: Store, now: int) -> dict[str, object]:
    """Return site, channels, programs, clients' last states and disk.

    ``now`` is in seconds since 1970.
    """
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
    told = _told(store, STATUS)
    return {
        "site_serial": stored.serial if stored else None,
        "unknown_clients": stored.site.unknown_clients if stored else None,
        "time": now,
        "channels": channels,
        "services": _services(told),
        **{key: told.get(key, nothing) for key, nothing in _HEALTH.items()},
        "loaders": loaders.installed(store),
        "clients": [
            _hint(asdict(state)) for state in report.read_states(store.database)
        ],
        "asked": _told(store, ASKED).get("asked", []),
        "disk": {
            "free": store.free(),
            "chunks": sum(store.chunk_sizes().values()),
        },
    }


def _told(store: Store, word: bytes) -> dict[str, object]:
    """Return what the daemon says; nothing without one."""
    try:
        return ask(store, word) or {}
    except SysPxeError:
        return {}


def _services(told: dict[str, object]) -> dict[str, object]:
    """Return the state of dnsmasq and nginx; not running without a daemon."""
    known = told.get("services")
    found: dict[str, object] = {}
    for name in SERVICES:
        one = known.get(name, {}) if isinstance(known, dict) else {}
        found[name] = {
            "running": bool(one.get("running")),
            "restarts": int(one.get("restarts", 0)),
        }
    return found


def events(store: Store) -> dict[str, object]:
    """Return the last steps that clients took, newest last."""
    return {
        "events": [
            _hint(asdict(event)) for event in report.read_events(store.database)
        ]
    }


def _hint(values: dict[str, object]) -> dict[str, object]:
    """Say null where a client named nothing."""
    for key in (
        *("client", "release", "stage", "dom0_mib", "pc_mib", "mtu"),
        "quote",
    ):
        if key in values:
            values[key] = values[key] or None
    return values
