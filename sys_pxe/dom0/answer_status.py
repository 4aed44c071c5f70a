"""The answer of syspxe.Status as frozen values; parsed strictly. Pure."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from sys_pxe import measured, names
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
FILE_STATES = ("good", "missing", "damaged", "stale")
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
    that dom0's kernel has, ``pc_mib`` what is plugged into the PC, ``mtu`` is
    that of its card, in bytes; ``quote`` is its TPM's word on what was booted
    (``measured.encode``), not verified.
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
    mtu: int | None = None
    quote: str | None = None


@dataclass(frozen=True)
class RemoteAsked:
    """A PC that asked to boot, since the agent was started: a hint.

    ``client`` is its name in the site that the store has; ``firmware`` is
    bios, uefi, uefi-http, stick or other-NUMBER; ``seen`` in seconds since
    1970.
    """

    client: str | None
    mac: str
    firmware: str
    seen: int


@dataclass(frozen=True)
class RemotePort:
    """A port that clients need; ``open`` is None where it is not known."""

    protocol: str
    port: int
    open: bool | None


@dataclass(frozen=True)
class RemoteServer:
    """Who else answers DHCP on the LAN; a proxy gives no addresses."""

    address: str
    proxy: bool


@dataclass(frozen=True)
class RemoteDhcp:
    """What the LAN said when it was asked for DHCP servers, and how many
    seconds ago; ``age`` is None as long as it was not."""

    mode: str | None
    age: int | None
    error: str | None
    others: tuple[RemoteServer, ...]


@dataclass(frozen=True)
class RemoteBootFile:
    """A file that loaders fetch whole, and whether it is the right one."""

    release: str
    file: str
    state: str


@dataclass(frozen=True)
class Status:
    """The state of the sys-pxe qube. ``free`` and ``chunks`` in bytes.

    ``time`` is its clock, in seconds since 1970; ``trouble`` says why clients
    are not served what was stored last; ``mtu`` is its card's, in bytes;
    ``unknown_clients`` is the profile of PCs that the site does not name, None
    where they are refused.
    """

    site_serial: int | None
    channels: dict[str, RemoteChannel | None]
    services: dict[str, RemoteService]
    clients: tuple[RemoteClient, ...]
    free: int
    chunks: int
    loaders: tuple[RemoteLoader, ...] = ()
    asked: tuple[RemoteAsked, ...] = ()
    time: int | None = None
    trouble: str | None = None
    mtu: int | None = None
    ports: tuple[RemotePort, ...] = ()
    dhcp: RemoteDhcp | None = None
    boot_files: tuple[RemoteBootFile, ...] = ()
    unknown_clients: str | None = None


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
        _optional(top, "time", TIME_MAX),
        _words(top, "trouble"),
        _optional(top, "mtu", names.MTU_MAX),
        tuple(_port(row) for row in parsed_rows(top, "ports")),
        None if top.null("dhcp") else _dhcp(top.table("dhcp")),
        tuple(_boot_file(row) for row in parsed_rows(top, "boot_files")),
        optional_name(top, "unknown_clients"),
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
    stage = None if table.null("stage") else _one_of(table, "stage", STAGES)
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
        _optional(table, "dom0_mib", names.REPORTED_RAM_MAX_MIB),
        _optional(table, "pc_mib", names.REPORTED_RAM_MAX_MIB),
        _optional(table, "mtu", names.MTU_MAX),
        None if table.null("quote") else _quote(table),
    )
    table.done()
    return found


def _quote(table: Table) -> str:
    untrusted = table.text("quote")
    measured.decode(untrusted, table.where("quote"))
    return untrusted


def _optional(table: Table, key: str, high: int) -> int | None:
    """Return a number; None where a client, or its agent, told none."""
    if table.null(key):
        return None
    return table.number(key, 0 if key in ("time", "age") else 1, high)


def _port(table: Table) -> RemotePort:
    found = RemotePort(
        _one_of(table, "protocol", ("udp", "tcp")),
        table.number("port", 1, 65535),
        None if table.null("open") else table.flag("open"),
    )
    table.done()
    return found


def _dhcp(table: Table) -> RemoteDhcp:
    found = RemoteDhcp(
        None
        if table.null("mode")
        else _one_of(table, "mode", ("server", "proxy")),
        _optional(table, "age", COUNT_MAX),
        _words(table, "error"),
        tuple(_server(row) for row in parsed_rows(table, "others")),
    )
    table.done()
    return found


def _server(table: Table) -> RemoteServer:
    untrusted = table.text("address")
    try:
        address = str(IPv4Address(untrusted))
    except ValueError:
        shown = names.printable(untrusted, 20)
        raise InvalidInput(
            f"{table.where('address')}: {shown!r} is not an IPv4 address"
        ) from None
    found = RemoteServer(address, table.flag("proxy"))
    table.done()
    return found


def _boot_file(table: Table) -> RemoteBootFile:
    found = RemoteBootFile(
        names.parse_name(table.text("release"), table.where("release")),
        names.parse_name(table.text("file"), table.where("file")),
        _one_of(table, "state", FILE_STATES),
    )
    table.done()
    return found


def _one_of(table: Table, key: str, known: tuple[str, ...]) -> str:
    untrusted = table.text(key)
    if untrusted not in known:
        raise InvalidInput(
            f"{table.where(key)}: {names.printable(untrusted, 20)!r} is not "
            f"one of {', '.join(known)}"
        )
    return untrusted
