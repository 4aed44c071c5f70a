"""The answers of the services as frozen values; parsed strictly. Pure.

They come from the sys-pxe qube, which may have been taken over. A text in an
answer is free of control characters once it is in one of these values.
"""

from dataclasses import dataclass

from sys_pxe import names
from sys_pxe.errors import InvalidInput
from sys_pxe.fields import Table
from sys_pxe.site import load_json

COUNT_MAX = 1 << 31
# of what an answer lists: a terminal is not to be flooded
LIST_MAX = 4096


def load(untrusted: bytes, service: str) -> Table:
    """Return the table that an answer is: one line of printable ASCII."""
    line = untrusted.removesuffix(b"\n")
    if not all(0x20 <= byte <= 0x7E for byte in line):
        raise InvalidInput(
            f"{service}: its answer is not one line of printable ASCII",
            "the sys-pxe qube is broken or was taken over",
        )
    return Table(load_json(line, service), service)


@dataclass(frozen=True)
class PushAnswer:
    """What a store still lacks of a release, and how much it took."""

    complete: bool
    missing: tuple[str, ...]
    stored: int


def push(untrusted: bytes, release: str) -> PushAnswer:
    """Return the answer of syspxe.Push about this release."""
    top = load(untrusted, "syspxe.Push")
    if top.text("release") != release:
        raise InvalidInput(f"{top.where('release')}: expected {release!r}")
    missing = tuple(
        names.parse_sha256(text, top.where("missing"))
        for text in top.texts("missing")
    )
    answer = PushAnswer(
        top.flag("complete"), missing, top.number("stored", 0, COUNT_MAX)
    )
    top.done()
    if answer.complete and missing:
        raise InvalidInput(f"{top.where()}: complete, and yet chunks missing")
    return answer


@dataclass(frozen=True)
class ActivateAnswer:
    """What a channel named before and names now."""

    channel: str
    old: str | None
    new: str


def activate(untrusted: bytes, channel: str, release: str) -> ActivateAnswer:
    """Return the answer of syspxe.Activate for this channel and release."""
    top = load(untrusted, "syspxe.Activate")
    for key, wanted in (("channel", channel), ("new", release)):
        if top.text(key) != wanted:
            raise InvalidInput(f"{top.where(key)}: expected {wanted!r}")
    old = optional_name(top, "old")
    top.done()
    return ActivateAnswer(channel, old, release)


@dataclass(frozen=True)
class SiteAnswer:
    """The site that the store has taken."""

    serial: int
    clients: int
    profiles: int


def site(untrusted: bytes, serial: int) -> SiteAnswer:
    """Return the answer of syspxe.Site for the site with this serial."""
    top = load(untrusted, "syspxe.Site")
    found = SiteAnswer(
        top.number("serial", serial, serial),
        top.number("clients", 0, COUNT_MAX),
        top.number("profiles", 0, COUNT_MAX),
    )
    top.done()
    return found


@dataclass(frozen=True)
class PruneAnswer:
    """What a store has dropped. ``bytes`` is in bytes."""

    releases: tuple[str, ...]
    chunks: int
    bytes: int


def prune(untrusted: bytes) -> PruneAnswer:
    """Return the answer of syspxe.Prune."""
    top = load(untrusted, "syspxe.Prune")
    found = PruneAnswer(
        parsed_names(top, "releases"),
        top.number("chunks", 0, COUNT_MAX),
        top.number("bytes", 0, names.SIZE_MAX),
    )
    top.done()
    return found


@dataclass(frozen=True)
class RemoteRelease:
    """A release in the store. Times in seconds since 1970, size in bytes."""

    release: str
    serial: int
    created: int
    expires: int
    bytes: int
    complete: bool
    missing: int
    channels: tuple[str, ...]


def releases(untrusted: bytes) -> list[RemoteRelease]:
    """Return the answer of syspxe.Releases."""
    top = load(untrusted, "syspxe.Releases")
    found = []
    for row in parsed_rows(top, "releases"):
        found.append(
            RemoteRelease(
                names.parse_name(row.text("release"), row.where("release")),
                row.number("serial", 1, names.SERIAL_MAX),
                _moment(row, "created"),
                _moment(row, "expires"),
                row.number("bytes", 0, names.SIZE_MAX),
                row.flag("complete"),
                row.number("missing", 0, COUNT_MAX),
                parsed_names(row, "channels"),
            )
        )
        row.done()
    top.done()
    return found


def bounded(count: int, where: str) -> None:
    """Raise InvalidInput when a list has too many entries."""
    if count > LIST_MAX:
        raise InvalidInput(f"{where}: {count} entries (at most {LIST_MAX})")


def parsed_rows(table: Table, key: str) -> list[Table]:
    """Return a list of tables that is not too long."""
    rows = table.rows(key)
    bounded(len(rows), table.where(key))
    return rows


def parsed_names(table: Table, key: str) -> tuple[str, ...]:
    """Return a list of names that is not too long."""
    where = table.where(key)
    texts = table.texts(key)
    bounded(len(texts), where)
    return tuple(names.parse_name(text, where) for text in texts)


def optional_name(table: Table, key: str) -> str | None:
    """Return a name, or None where the answer says null."""
    if table.null(key):
        return None
    return names.parse_name(table.text(key), table.where(key))


def _moment(table: Table, key: str) -> int:
    return names.parse_time(table.text(key), table.where(key))
