"""Pointing a channel at a release, and replacing the site.

Both check first, then render and let dnsmasq and nginx check, then store the
signed document, then let the new rendering be the current one. A call that is
killed in between is carried on by the daemon, which renders what is stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sys_pxe import files, names, pointer, site, trust
from sys_pxe.agent import apply
from sys_pxe.agent.store import Store
from sys_pxe.errors import InvalidInput, SysPxeError, VerificationError
from sys_pxe.manifest import Manifest
from sys_pxe.plan import boot_files
from sys_pxe.pointer import Pointer
from sys_pxe.site import SignedSite
from sys_pxe.trust import CLOCK_PATIENCE

T = TypeVar("T")


@dataclass(frozen=True)
class Activated:
    """What a channel pointed at before, and what it points at now."""

    channel: str
    old: str | None
    new: str


def activate(
    store: Store, channel: str, untrusted: bytes, now: int
) -> Activated:
    """Store a channel's new pointer (``now``: seconds since 1970).

    The same pointer once more is no error: the first answer may have been
    lost. Raises VerificationError, InvalidInput, Busy or SysPxeError.
    """
    with store.locked():
        what = f"the pointer of channel {channel}"
        wanted = pointer.parse(store.opened(untrusted, what))
        if wanted.channel != channel:
            raise VerificationError(
                f"this is the pointer of channel {wanted.channel}, it was "
                f"sent for {channel}",
                "send it for its own channel",
            )
        current = _readable(lambda: store.pointer(channel))
        release = _release(store, wanted)
        stored = store.site()
        _check_pointer(wanted, current, release, stored, now)
        with apply.exclusive(store):
            state = apply.load_state(store, channel).with_pointer(wanted)
            candidate = apply.stage(store, state, apply.load_server(store))
            if wanted != current:
                files.write(store.channels / channel, untrusted)
            apply.swap(store, candidate)
    return Activated(channel, current.release if current else None,
                     wanted.release)  # fmt: skip


def _readable(read: Callable[[], T | None]) -> T | None:
    """Return what is stored; what the disk has damaged counts as nothing.

    Else no new document could ever take its place.
    """
    try:
        return read()
    except (VerificationError, InvalidInput):
        return None


def _release(store: Store, wanted: Pointer) -> Manifest:
    release = store.release(wanted.release)
    if release is None:
        raise SysPxeError(
            f"release {wanted.release} is not complete in the store",
            f"run 'sys-pxe release push {wanted.release}' first",
        )
    left = store.missing(release)
    if left:
        raise SysPxeError(
            f"{len(left)} chunks of release {release.release} are gone from "
            "the store",
            f"run 'sys-pxe release push {wanted.release}' again",
        )
    return release


def _check_pointer(
    wanted: Pointer,
    current: Pointer | None,
    release: Manifest,
    stored: SignedSite | None,
    now: int,
) -> None:
    previous = None if wanted == current else current
    trust.check_pointer(wanted, previous, release)
    trust.check_dates(release, now, trust.QUBE_CLOCK)
    boot_files(release)
    if stored is None:
        return
    if wanted.channel not in stored.site.channels:
        raise InvalidInput(
            f"channel {wanted.channel} is not in the site",
            f"its channels are: {', '.join(stored.site.channels)}",
        )
    floor = stored.site.floors.get(wanted.channel, 0)
    trust.check_floor(release, floor, wanted)


def replace_site(store: Store, untrusted: bytes, now: int) -> SignedSite:
    """Store a new site, whose serial must be above the present one's.

    ``now`` is in seconds since 1970. Raises as :func:`activate` does.
    """
    with store.locked():
        wanted = site.decode(store.opened(untrusted, "the site"))
        current = _readable(store.site)
        if current and current != wanted and wanted.serial <= current.serial:
            raise VerificationError(
                f"the site has serial {wanted.serial}, the store has "
                f"{current.serial} already",
                "run 'sys-pxe site push' again, so that it gets a new serial",
            )
        if now < wanted.created - CLOCK_PATIENCE:
            raise VerificationError(
                f"the clock of the sys-pxe qube says {names.format_time(now)},"
                f" the site was made at {names.format_time(wanted.created)}",
                trust.QUBE_CLOCK,
            )
        with apply.exclusive(store):
            state = apply.State(wanted.site, store.pointers())
            candidate = apply.stage(store, state, apply.load_server(store))
            if wanted != current:
                files.write(store.site_file, untrusted)
            apply.swap(store, candidate)
    return wanted
