"""What a channel names: sign a pointer, send it, remember it."""

from sys_pxe import names, pointer, signature
from sys_pxe.dom0 import answer_status, answers
from sys_pxe.dom0.answers import ActivateAnswer
from sys_pxe.dom0.state import State
from sys_pxe.dom0.transport import Transport, payload_of
from sys_pxe.errors import SysPxeError
from sys_pxe.manifest import Manifest
from sys_pxe.pointer import Pointer
from sys_pxe.site import Site

SERVICE = "syspxe.Activate"


def activate(
    state: State,
    channel: str,
    release: str,
    transport: Transport,
    now: int,
    *,
    rollback: bool = False,
    floor: int = 1,
) -> ActivateAnswer:
    """Point a channel at a release that was built here.

    ``now`` is in seconds since 1970, ``floor`` the channel's in the site.
    Raises what the store says.
    """
    names.parse_name(channel, "channel")
    wanted = state.release(release)
    private = state.private_key
    sent = Pointer(
        channel=channel,
        serial=state.take_serial("pointer"),
        created=now,
        release=release,
        release_serial=wanted.serial,
        rollback=rollback,
        floor=floor,
    )
    signed = signature.signed(pointer.write(sent), private)
    try:
        untrusted = transport.call(SERVICE, channel, payload_of(signed))
    except SysPxeError:
        # it may have been stored, and something after that went wrong
        if _is_stored(sent, transport):
            state.keep_pointer(sent, signed)
        raise
    answer = answers.activate(untrusted, channel, release)
    state.keep_pointer(sent, signed)
    return answer


def _is_stored(sent: Pointer, transport: Transport) -> bool:
    """Whether the store says that the channel is as this pointer wants it."""
    try:
        found = answer_status.parse(transport.call("syspxe.Status"))
    except SysPxeError:
        return False
    now = found.channels.get(sent.channel)
    return now is not None and (
        (now.release, now.serial, now.rollback)
        == (sent.release, sent.release_serial, sent.rollback)
    )


def current(state: State, channel: str) -> Pointer | None:
    """Return the pointer of a channel that the store took last."""
    found = state.pointers(channel)
    return found[-1] if found else None


def active(state: State, site: Site) -> dict[str, Manifest]:
    """Return channel -> manifest of the release that dom0 pointed it at."""
    found = {}
    for channel in site.channels:
        pointer = current(state, channel)
        if pointer is not None:
            found[channel] = state.release(pointer.release)
    return found


def before(state: State, channel: str) -> str:
    """Return the release to roll back to: the last one that the channel named
    and that is older than the one it names now."""
    found = state.pointers(channel)
    if found:
        for older in reversed(found):
            if older.release_serial < found[-1].release_serial:
                return older.release
    raise SysPxeError(
        f"channel {channel} named no older release before",
        "name the release: sys-pxe channel rollback CHANNEL RELEASE",
    )
