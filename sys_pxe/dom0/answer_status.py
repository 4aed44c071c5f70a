"""The answer of syspxe.Status as frozen values; parsed strictly. Pure."""

from dataclasses import dataclass

from sys_pxe import names
from sys_pxe.dom0.answers import (
    COUNT_MAX,
    bounded,
    load,
    optional_name,
    parsed_rows,
)
from sys_pxe.errors import InvalidInput
from sys_pxe.fields import Table

STAGES = (
    *("network", "manifest", "ram", "fetch", "root", "pool", "handover"),
    "failed",
)
MESSAGE_MAX = 200
TIME_MAX = 1 << 40


@dataclass(frozen=True)
class RemoteChannel:
    """What a channel names in the store."""

    release: str
    serial: int
    rollback: bool


@dataclass(frozen=True)
class RemoteService:
    """A program that the agent keeps running."""

    running: bool
    restarts: int


@dataclass(frozen=True)
class RemoteLoader:
    """A loader that firmware gets; ``path`` is None when none was found.

    ``version`` is its package with the version, or its own word for it.
    """

    file: str
    path: str | None
    version: str | None


@dataclass(frozen=True)
class RemoteClient:
    """A client's last report: a hint that nobody vouches for.

    Sizes in bytes, ``seen`` in seconds since 1970. ``dom0_mib`` is the RAM
    that dom0's kernel has, ``pc_mib`` what is plugged into the PC.
    """

    client: str | None
    mac: str
    release: str | None
    stage: str | None
    bytes: int
    total: int
    seconds: int
    message: str
    seen: int
    dom0_mib: int | None = None
    pc_mib: int | None = None


@dataclass(frozen=True)
class RemoteAsked:
    """A PC that asked to boot, since the agent was started: a hint.

    ``client`` is its name in the site that the store has; ``firmware`` is
    bios, uefi, uefi-http or other-NUMBER; ``seen`` in seconds since 1970.
    """

    client: str | None
    mac: str
    firmware: str
    seen: int


@dataclass(frozen=True)
class Status:
    """The state of the sys-pxe qube. ``free`` and ``chunks`` in bytes."""

    site_serial: int | None
    channels: dict[str, RemoteChannel | None]
    services: dict[str, RemoteService]
    clients: tuple[RemoteClient, ...]
    free: int
    chunks: int
    loaders: tuple[RemoteLoader, ...] = ()
    asked: tuple[RemoteAsked, ...] = ()


def parse(untrusted: bytes) -> Status:
    """Return the answer of syspxe.Status, or raise InvalidInput."""
    top = load(untrusted, "syspxe.Status")
    serial = None
    if not top.null("site_serial"):
        serial = top.number("site_serial", 1, names.SERIAL_MAX)
    outer = top.table("channels")
    bounded(len(outer.listed()), outer.where())
    channels = {}
    for untrusted_name in outer.listed():
        name = names.parse_name(untrusted_name, outer.where(untrusted_name))
        channels[name] = (
            None if outer.null(name) else _channel(outer.table(name))
        )
    disk = top.table("disk")
    found = Status(
        serial,
        channels,
        _services(top),
        tuple(_client(row) for row in parsed_rows(top, "clients")),
        disk.number("free", 0, names.SIZE_MAX),
        disk.number("chunks", 0, names.SIZE_MAX),
        tuple(_loader(row) for row in parsed_rows(top, "loaders")),
        tuple(_asked(row) for row in parsed_rows(top, "asked")),
    )
    for table in (disk, outer, top):
        table.done()
    return found


def _channel(table: Table) -> RemoteChannel:
    found = RemoteChannel(
        names.parse_name(table.text("release"), table.where("release")),
        table.number("serial", 1, names.SERIAL_MAX),
        table.flag("rollback"),
    )
    table.done()
    return found


def _services(top: Table) -> dict[str, RemoteService]:
    found = top.tables("services")
    bounded(len(found), top.where("services"))
    return {name: _service(table) for name, table in found.items()}


def _service(table: Table) -> RemoteService:
    found = RemoteService(
        table.flag("running"), table.number("restarts", 0, COUNT_MAX)
    )
    table.done()
    return found


def _loader(table: Table) -> RemoteLoader:
    found = RemoteLoader(
        names.parse_name(table.text("file"), table.where("file")),
        _words(table, "path"),
        _words(table, "version"),
    )
    table.done()
    return found


def _asked(table: Table) -> RemoteAsked:
    found = RemoteAsked(
        optional_name(table, "client"),
        names.parse_mac(table.text("mac"), table.where("mac")),
        names.parse_name(table.text("firmware"), table.where("firmware")),
        table.number("seen", 0, TIME_MAX),
    )
    table.done()
    return found


def _words(table: Table, key: str) -> str | None:
    """Return a text to be shown, or None where the answer says null."""
    if table.null(key):
        return None
    return names.printable(table.text(key), MESSAGE_MAX)


def _client(table: Table) -> RemoteClient:
    stage = None if table.null("stage") else table.text("stage")
    if stage is not None and stage not in STAGES:
        raise InvalidInput(
            f"{table.where('stage')}: {names.printable(stage, 20)!r} is not a "
            f"stage (expected one of {', '.join(STAGES)})"
        )
    found = RemoteClient(
        optional_name(table, "client"),
        names.parse_mac(table.text("mac"), table.where("mac")),
        optional_name(table, "release"),
        stage,
        table.number("bytes", 0, names.SIZE_MAX),
        table.number("total", 0, names.SIZE_MAX),
        table.number("seconds", 0, COUNT_MAX),
        names.printable(table.text("message"), MESSAGE_MAX),
        table.number("seen", 0, TIME_MAX),
        _ram(table, "dom0_mib"),
        _ram(table, "pc_mib"),
    )
    table.done()
    return found


def _ram(table: Table, key: str) -> int | None:
    """Return a size in MiB; None where a client, or its agent, told none."""
    if table.null(key):
        return None
    return table.number(key, 1, names.REPORTED_RAM_MAX_MIB)
