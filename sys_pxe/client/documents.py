"""Which release this PC takes: site, pointer and manifest, by the trust rules.

What comes in has been checked for its signature, and is read in the order in
which the next one is known.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sys_pxe import manifest, plan, pointer, site, trust
from sys_pxe.errors import VerificationError
from sys_pxe.manifest import Manifest
from sys_pxe.pointer import Pointer
from sys_pxe.trust import Pinned, StickIdentity

# path on the server, and what a person calls it -> the text that was signed
Opened = Callable[[str, str], bytes]


@dataclass(frozen=True)
class Place:
    """A PC's place in the signed site; ``floor`` is its channel's."""

    client: str
    settings: plan.Settings
    floor: int


@dataclass(frozen=True)
class Chosen:
    """The release that may be used; ``text`` is its manifest, byte for byte."""

    release: Manifest
    text: bytes


def place(opened: Opened, mac: str) -> Place:
    """Return the place of the PC with this MAC address.

    Raises VerificationError for a PC that the site does not know, InvalidInput
    for a document that is none, and what ``opened`` raises.
    """
    found = site.decode(opened("/site", "the site document")).site
    name, settings = _settings(found, mac)
    return Place(name, settings, found.floors.get(settings.channel, 1))


def choose(opened: Opened, pinned: Pinned, here: Place, now: int) -> Chosen:
    """Return the release that a PC takes; ``now`` in seconds since 1970.

    Raises VerificationError where a rule forbids it, and as :func:`place`.
    """
    channel = here.settings.channel
    if isinstance(pinned, StickIdentity):
        named = _pointer(opened, channel)
        text = _manifest(opened, named.release)
        found = manifest.parse(text)
        trust.check_named(named, found)
        trust.check_stick(found, pinned)
    else:
        text = _manifest(opened, pinned.release)
        found = manifest.parse(text)
        trust.check_identity(found, pinned)
    trust.check_dates(found, now, trust.CLIENT_CLOCK)
    below = found.serial < here.floor
    trust.check_floor(
        found, here.floor, _pointer(opened, channel) if below else None
    )
    return Chosen(found, text)


def _manifest(opened: Opened, release: str) -> bytes:
    return opened(f"/releases/{release}", f"the manifest of release {release}")


def _pointer(opened: Opened, channel: str) -> Pointer:
    what = f"the pointer of channel {channel}"
    found = pointer.parse(opened(f"/channels/{channel}", what))
    if found.channel != channel:
        raise VerificationError(
            f"the server's pointer of channel {channel} is one of channel "
            f"{found.channel}",
            f"run 'sys-pxe channel set {channel} RELEASE' on the server PC",
        )
    return found


def _settings(found: site.Site, mac: str) -> tuple[str, plan.Settings]:
    client = found.by_mac(mac)
    if client is not None:
        return client.name, plan.settings(found, client.profile)
    if found.unknown_clients is not None:
        return "unknown", plan.settings(found, found.unknown_clients)
    raise VerificationError(
        f"this PC ({mac}) is not in the signed site",
        "add it to site.yaml and run 'sys-pxe site push'",
    )
