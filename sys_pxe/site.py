"""The site: network, channels, profiles and clients, as frozen values.

``parse`` reads the data of ``site.yaml`` (already loaded) and is its only
validator; ``decode`` and ``encode`` are for the signed document that dom0
sends out: the same data as JSON, with a serial, so that the initramfs needs
no YAML. Pure.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from sys_pxe import loaders, names
from sys_pxe.document import DOCUMENT_MAX
from sys_pxe.errors import InvalidInput
from sys_pxe.fields import Table
from sys_pxe.loaders import Loaders

DOCUMENT_TYPE = "sys-pxe site 1"
REFUSE = "refuse"
CLIENTS_MAX = 2000
RAM_MAX_MIB = 1 << 20
# A btrfs that grows by less hangs Linux 6.18: seen with 32 MiB, while it made
# room for its system chunk (btrfs_relocate_sys_chunks); 48 MiB went well.
POOL_MIN_MIB = 128


@dataclass(frozen=True)
class Network:
    """The LAN: our address; the pool is None beside another DHCP server."""

    address: IPv4Interface
    pool: tuple[IPv4Address, IPv4Address] | None


@dataclass(frozen=True)
class Profile:
    """A profile as written; None and () mean: taken from what it inherits.

    RAM sizes are in MiB. ``storage_visible`` lets dom0 see the disks.
    """

    name: str
    inherits: str | None = None
    channel: str | None = None
    qubes: tuple[str, ...] = ()
    dom0_mib: int | None = None
    overlay_mib: int | None = None
    pool_mib: int | None = None
    xen_options: tuple[str, ...] = ()
    kernel_options: tuple[str, ...] = ()
    storage_visible: bool | None = None
    loader: Loaders = loaders.UNSAID


@dataclass(frozen=True)
class Client:
    """A machine, known by its MAC address; ``address`` pins its lease."""

    name: str
    mac: str
    profile: str
    address: IPv4Address | None = None
    loader: Loaders = loaders.UNSAID


@dataclass(frozen=True)
class Site:
    """The whole site. ``unknown_clients`` is a profile's name, or None."""

    network: Network
    channels: tuple[str, ...]
    floors: dict[str, int]
    profiles: dict[str, Profile]
    clients: dict[str, Client]
    unknown_clients: str | None

    @property
    def used_profiles(self) -> tuple[str, ...]:
        """The names of the profiles that a PC can get, sorted."""
        used = {client.profile for client in self.clients.values()}
        if self.unknown_clients is not None:
            used.add(self.unknown_clients)
        return tuple(sorted(used))

    def by_mac(self, mac: str) -> Client | None:
        """Return the client with this MAC address, if there is one."""
        return next((c for c in self.clients.values() if c.mac == mac), None)

    def ancestry(self, profile: str) -> list[Profile]:
        """Return the profile and those it inherits from, nearest first."""
        found: list[Profile] = []
        name: str | None = profile
        while name is not None:
            found.append(self.profiles[name])
            name = found[-1].inherits
        return found

    def loaders(self, profile: str, own: Loaders = loaders.UNSAID) -> Loaders:
        """Return the loaders of a client that says ``own`` itself."""
        for one in self.ancestry(profile):
            own = own.over(one.loader)
        return own.over(loaders.DEFAULT)


@dataclass(frozen=True)
class SignedSite:
    """A site as dom0 sends it: with serial and creation time (seconds)."""

    serial: int
    created: int
    site: Site


def parse(untrusted: object, source: str = "site.yaml") -> Site:
    """Return the site that this data describes, or raise InvalidInput."""
    top = Table(untrusted, source)
    network = _parse_network(top.table("network"))
    channels = tuple(
        names.parse_name(c, top.where("channels"))
        for c in top.texts("channels")
    )
    if not channels or len(set(channels)) != len(channels):
        raise InvalidInput(
            f"{top.where('channels')}: expected at least one, each once"
        )
    floors = _parse_floors(top.table("floors"), channels)
    profiles = {
        name: _parse_profile(name, table, channels)
        for name, table in top.tables("profiles").items()
    }
    _check_inheritance(profiles, source)
    clients = {
        name: _parse_client(name, table, profiles, network)
        for name, table in top.tables("clients").items()
    }
    _check_clients(clients, source)
    unknown = top.text("unknown_clients")
    if unknown != REFUSE:
        _known(unknown, profiles, top.where("unknown_clients"), "a profile")
    top.done()
    site = Site(
        network,
        channels,
        floors,
        profiles,
        clients,
        None if unknown == REFUSE else unknown,
    )
    for client in clients.values():
        if all(p.channel is None for p in site.ancestry(client.profile)):
            raise InvalidInput(
                f"{source}: profiles.{client.profile}.channel: missing",
                f"set it there or in what it inherits; one of {channels}",
            )
    return site


def _known(untrusted: str, known: Iterable[str], where: str, what: str) -> str:
    options = list(known)
    if untrusted not in options:
        raise InvalidInput(
            f"{where}: {names.printable(untrusted, 60)!r} is not {what}",
            f"one of: {', '.join(options[:20]) or 'none is defined'}",
        )
    return untrusted


def _parse_address(untrusted: str, where: str) -> IPv4Address:
    try:
        return IPv4Address(untrusted)
    except ValueError:
        raise InvalidInput(
            f"{where}: {names.printable(untrusted, 40)!r} is not an "
            "IPv4 address"
        ) from None


def _inside(address: IPv4Address, network: IPv4Interface, where: str) -> None:
    net = network.network
    if address not in net or address in (
        net.network_address,
        net.broadcast_address,
        network.ip,
    ):
        raise InvalidInput(
            f"{where}: {address} cannot be given to a client of {network}",
            "it must lie in the network, and not be the network's, the "
            "broadcast or the server's address",
        )


def _parse_network(table: Table) -> Network:
    untrusted = table.text("address")
    where = table.where("address")
    match = re.fullmatch(r"([0-9.]{7,15})/([0-9]{1,2})", untrusted)
    if match is None or not 8 <= int(match[2]) <= 30:
        raise InvalidInput(
            f"{where}: {names.printable(untrusted, 40)!r} is not an address "
            "with a prefix length of 8 to 30",
            "write it as 192.0.2.1/24",
        )
    address = IPv4Interface((_parse_address(match[1], where), int(match[2])))
    if address.ip in (
        address.network.network_address,
        address.network.broadcast_address,
    ):
        raise InvalidInput(f"{where}: {address} is not the address of a host")
    dhcp = table.table("dhcp")
    mode = dhcp.text("mode")
    _known(mode, ("server", "proxy"), dhcp.where("mode"), "a DHCP mode")
    pool = _parse_pool(dhcp, address) if mode == "server" else None
    dhcp.done()
    table.done()
    return Network(address, pool)


def _parse_pool(
    dhcp: Table, network: IPv4Interface
) -> tuple[IPv4Address, IPv4Address]:
    where = dhcp.where("pool")
    untrusted_first, dash, untrusted_last = dhcp.text("pool").partition("-")
    if not dash:
        raise InvalidInput(f"{where}: expected FIRST-LAST")
    first = _parse_address(untrusted_first, where)
    last = _parse_address(untrusted_last, where)
    if first > last:
        raise InvalidInput(f"{where}: {first} lies after {last}")
    _inside(first, network, where)
    _inside(last, network, where)
    if first <= network.ip <= last:
        raise InvalidInput(
            f"{where}: holds the server's own address {network.ip}"
        )
    return first, last


def _parse_floors(table: Table, channels: tuple[str, ...]) -> dict[str, int]:
    floors = {}
    for untrusted_name in table.listed():
        where = table.where(untrusted_name)
        channel = _known(untrusted_name, channels, where, "a channel")
        floors[channel] = table.number(channel, 1, names.SERIAL_MAX)
    return floors


def _parse_profile(
    name: str, table: Table, channels: tuple[str, ...]
) -> Profile:
    ram, options = table.table("ram"), table.table("options")

    def size(key: str) -> int | None:
        if not ram.has(key):
            return None
        return names.parse_ram(ram.text(key), ram.where(key))

    channel = None
    if table.has("channel"):
        where = table.where("channel")
        channel = _known(table.text("channel"), channels, where, "a channel")
    storage = None
    if table.has("storage"):
        kinds = ("hidden", "visible")
        storage = _known(
            table.text("storage"), kinds, table.where("storage"), "a setting"
        )
    pool = size("pool")
    if pool is not None and pool < POOL_MIN_MIB:
        raise InvalidInput(
            f"{ram.where('pool')}: {pool} MiB is less than {POOL_MIN_MIB} MiB",
            "it is what all qubes of a PC together can write",
        )
    profile = Profile(
        name=name,
        inherits=table.text("inherits") if table.has("inherits") else None,
        channel=channel,
        qubes=tuple(
            names.parse_qube(q, table.where("qubes"))
            for q in table.texts("qubes")
        ),
        dom0_mib=size("dom0"),
        overlay_mib=size("overlay"),
        pool_mib=pool,
        xen_options=_parse_options(options, "xen"),
        kernel_options=_parse_options(options, "kernel"),
        storage_visible=None if storage is None else storage == "visible",
        loader=loaders.parse(table.table("loader")),
    )
    for inner in (ram, options, table):
        inner.done()
    return profile


def _parse_options(table: Table, key: str) -> tuple[str, ...]:
    found = table.texts(key)
    for untrusted in found:
        # these words end up in boot scripts, where $ { } and spaces have power
        if not re.fullmatch(r"[A-Za-z0-9_.,:=@/+-]{1,128}", untrusted):
            raise InvalidInput(
                f"{table.where(key)}: {names.printable(untrusted, 60)!r} is "
                "not one boot option",
                "one word each, of letters, digits and _.,:=@/+-",
            )
    return found


def _check_inheritance(profiles: dict[str, Profile], source: str) -> None:
    for profile in profiles.values():
        trail = [profile.name]
        above = profile.inherits
        while above is not None:
            where = f"{source}: profiles.{trail[-1]}.inherits"
            _known(above, profiles, where, "a profile")
            if above in trail:
                loop = " -> ".join([*trail, above])
                raise InvalidInput(f"{where}: a loop: {loop}")
            trail.append(above)
            above = profiles[above].inherits


def _parse_client(
    name: str, table: Table, profiles: dict[str, Profile], network: Network
) -> Client:
    mac = names.parse_mac(table.text("mac"), table.where("mac"))
    where = table.where("profile")
    profile = _known(table.text("profile"), profiles, where, "a profile")
    address = None
    if table.has("address"):
        where = table.where("address")
        address = _parse_address(table.text("address"), where)
        if network.pool is None:
            raise InvalidInput(f"{where}: only with network.dhcp.mode: server")
        _inside(address, network.address, where)
    loader = loaders.parse(table.table("loader"))
    table.done()
    return Client(name, mac, profile, address, loader)


def _check_clients(clients: dict[str, Client], source: str) -> None:
    if len(clients) > CLIENTS_MAX:
        raise InvalidInput(f"{source}: clients: more than {CLIENTS_MAX}")
    seen: dict[object, str] = {}
    for client in clients.values():
        for key, value in (("mac", client.mac), ("address", client.address)):
            if value is not None and value in seen:
                raise InvalidInput(
                    f"{source}: clients.{client.name}.{key}: {value} is "
                    f"already the {key} of {seen[value]}"
                )
            seen[value] = client.name


def encode(untrusted: object, serial: int, created: int) -> bytes:
    """Return the document to be signed for checked ``site.yaml`` data."""
    parse(untrusted)
    document = {
        "type": DOCUMENT_TYPE,
        "serial": serial,
        "created": names.format_time(created),
        "site": untrusted,
    }
    return (json.dumps(document, indent=1) + "\n").encode("ascii")


def decode(untrusted: bytes) -> SignedSite:
    """Return the site of a document whose signature was checked."""
    top = Table(load_json(untrusted, "site"), "site")
    if top.text("type") != DOCUMENT_TYPE:
        raise InvalidInput(f"site: type: expected {DOCUMENT_TYPE!r}")
    serial = top.number("serial", 1, names.SERIAL_MAX)
    created = names.parse_time(top.text("created"), "site: created")
    inner = top.table("site")
    top.done()
    return SignedSite(serial, created, parse(inner.data(), "site"))


def load_json(untrusted: bytes, source: str) -> object:
    """Return JSON data; twice the same key or deep nesting is InvalidInput."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise InvalidInput(f"{source}: a key stands twice in one table")
        return table

    if len(untrusted) > DOCUMENT_MAX:
        raise InvalidInput(f"{source}: larger than {DOCUMENT_MAX} bytes")
    try:
        data: object = json.loads(
            untrusted.decode("utf-8"), object_pairs_hook=unique
        )
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{source}: not valid JSON ({error})") from None
    return data
