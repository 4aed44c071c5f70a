"""The golden PC's qubes.xml: its pools, properties and qubes, as values.

The form is that of Qubes' core-admin: ``Qubes.__xml__`` (qubes/app.py),
``BaseVM.__xml__`` (qubes/vm/__init__.py) and ``Volume.config``
(qubes/storage/__init__.py), of releases 4.2 to 4.4. What Qubes does not
write itself is not kept: ``qubes_write.write`` writes the rest. Pure.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from xml.etree import ElementTree as Tree
from xml.etree.ElementTree import Element

from sys_pxe import names
from sys_pxe.errors import InvalidInput

STORE_MAX = 16 << 20
# qubes/domains/domain/devices/device/option is the deepest place
DEPTH_MAX = 8
# qubes.config.max_qid
QID_MAX = 10_000
# of a volume that stays on the golden PC; the rewrite looks at the others
BYTES_MAX = 1 << 60
ADMIN_CLASS = "AdminVM"
ADMIN_NAME = "dom0"
KERNEL_DRIVER = "linux-kernel"
# properties whose names end like those that name a qube, but that do not
_NO_QUBE = {"check_updates_vm"}
_HINT = (
    "qubesd writes this file; if somebody edited it by hand, take it from "
    "/var/lib/qubes/backup"
)


@dataclass(frozen=True)
class Pool:
    """A storage pool. ``options`` are its driver's: dir_path, thin_pool..."""

    name: str
    driver: str
    options: Mapping[str, str]


@dataclass(frozen=True)
class StoredVolume:
    """A volume of a qube, where its pool keeps it.

    ``vid`` and ``source`` (of a snapshot) name volumes in that pool;
    ``size`` is in bytes, None where Qubes takes the source's.
    """

    name: str
    pool: str
    vid: str
    size: int | None
    rw: bool
    save_on_stop: bool
    snap_on_start: bool
    source: str | None = None
    revisions_to_keep: int = 0


@dataclass(frozen=True)
class Device:
    """A device that a qube has. ``attributes`` as Qubes writes them."""

    klass: str
    attributes: Mapping[str, str]
    options: Mapping[str, str]

    @property
    def backend(self) -> str:
        """The qube that the device comes from; "" means from any."""
        return self.attributes.get("backend-domain", "")


@dataclass(frozen=True)
class Domain:
    """A qube, or dom0. A property that is "" is set to none."""

    name: str
    id: str
    klass: str
    properties: Mapping[str, str]
    features: Mapping[str, str]
    tags: tuple[str, ...]
    devices: tuple[Device, ...]
    volumes: Mapping[str, StoredVolume]

    def is_set(self, name: str) -> bool:
        """Whether a yes-or-no property is set and says yes."""
        # as qubes.property.bool reads it
        value = self.properties.get(name, "").lower()
        return value in {"1", "yes", "true", "on"}


@dataclass(frozen=True)
class Label:
    """A colour of qubes."""

    id: str
    color: str
    name: str


@dataclass(frozen=True)
class Store:
    """A whole qubes.xml. ``settings`` are the properties of the system."""

    labels: tuple[Label, ...]
    pools: Mapping[str, Pool]
    settings: Mapping[str, str]
    domains: Mapping[str, Domain]


def names_qube(name: str) -> bool:
    """Whether the value of a property of this name is a qube's name."""
    # Of a list, one that a later Qubes adds would be missing.
    return name.endswith(("vm", "template")) and name not in _NO_QUBE


_Named = TypeVar("_Named", Pool, Domain)


class _Builder(Tree.TreeBuilder):
    """Builds the tree; refuses what expands, or nests without an end."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source
        self._depth = 0

    def doctype(self, *_declared: object) -> None:
        """Refuse the declaration before any entity of it is read."""
        raise InvalidInput(
            f"{self._source}: has a document type (expected none)", _HINT
        )

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        """Count the depth."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise InvalidInput(
                f"{self._source}: more than {DEPTH_MAX} elements deep", _HINT
            )
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        """Count the depth."""
        self._depth -= 1
        return super().end(tag)


def read(untrusted: bytes, source: str) -> Store:
    """Return the store that these bytes are. Raises InvalidInput.

    ``source`` is the file's name, for messages.
    """
    if len(untrusted) > STORE_MAX:
        raise InvalidInput(
            f"{source}: {len(untrusted)} bytes (expected at most {STORE_MAX})",
            _HINT,
        )
    # _Builder refuses entities and depth, the check above the size
    parser = Tree.XMLParser(target=_Builder(source))  # noqa: S314
    try:
        parser.feed(untrusted)
        untrusted_root = parser.close()
    except (Tree.ParseError, LookupError, ValueError) as error:
        raise InvalidInput(
            f"{source}: not well-formed XML ({error})", _HINT
        ) from None
    if untrusted_root.tag != "qubes":
        raise InvalidInput(f"{source}: not a qubes.xml", _HINT)
    return _Reader(source, untrusted_root).store()


class _Reader:
    """Reads the tree of one file; keeps what must be there only once."""

    def __init__(self, source: str, untrusted_root: Element) -> None:
        self._source = source
        self._root = untrusted_root

    def _fault(self, where: str, what: str) -> InvalidInput:
        return InvalidInput(f"{self._source}: {where}: {what}", _HINT)

    def store(self) -> Store:
        """Return the whole store."""
        labels = tuple(
            Label(
                self._get(node, "id", "label"),
                self._get(node, "color", "label"),
                node.text or "",
            )
            for node in self._root.iterfind("./labels/label")
        )
        pools = self._by_name("pools", "./pools/pool", self._pool)
        domains = self._by_name("domains", "./domains/domain", self._domain)
        if ADMIN_NAME not in domains:
            raise self._fault("domains", f"no {ADMIN_NAME}")
        self._unique([d.id for d in domains.values()], "domains", "id")
        for name in ("qid", "uuid"):
            self._unique(
                [
                    d.properties[name]
                    for d in domains.values()
                    if name in d.properties
                ],
                "domains",
                name,
            )
        self._unique(
            [
                f"{v.pool}: {v.vid}"
                for d in domains.values()
                for v in d.volumes.values()
                if v.pool in pools and pools[v.pool].driver != KERNEL_DRIVER
            ],
            "domains",
            "volume",
        )
        settings = self._texts(self._root, "properties", "property", "qubes")
        return Store(labels, pools, settings, domains)

    def _get(self, untrusted: Element, key: str, where: str) -> str:
        """Return an attribute that must be there, of one printable line."""
        value = untrusted.get(key)
        if not value:
            raise self._fault(where, f"no {key}")
        if not value.isprintable():
            raise self._fault(where, f"{key} {value[:40]!a} is not printable")
        return value

    def _unique(self, values: list[str], where: str, what: str) -> None:
        seen: set[str] = set()
        for value in values:
            if value in seen:
                raise self._fault(
                    where, f"{what} {value[:80]!a} is there twice"
                )
            seen.add(value)

    def _by_name(
        self, where: str, path: str, parse: Callable[[Element], _Named]
    ) -> dict[str, _Named]:
        found = [parse(node) for node in self._root.iterfind(path)]
        self._unique([one.name for one in found], where, "name")
        return {one.name: one for one in found}

    def _texts(
        self, untrusted: Element, table: str, kind: str, where: str
    ) -> dict[str, str]:
        """Return name -> text of a table of properties or features."""
        nodes = untrusted.findall(f"./{table}/{kind}")
        keys = [self._get(node, "name", f"{where}: {table}") for node in nodes]
        self._unique(keys, f"{where}: {table}", kind)
        return {
            # PropertyHolder.load_properties takes either
            key: node.get("ref") or node.text or ""
            for key, node in zip(keys, nodes, strict=True)
        }

    def _pool(self, untrusted: Element) -> Pool:
        name = self._get(untrusted, "name", "pools")
        driver = self._get(untrusted, "driver", f"pools: {name}")
        options = {
            k: v
            for k, v in untrusted.attrib.items()
            if k not in {"name", "driver"}
        }
        return Pool(name, driver, options)

    def _domain(self, untrusted: Element) -> Domain:
        identity = self._get(untrusted, "id", "domains")
        where = f"domains: {identity}"
        klass = self._get(untrusted, "class", where)
        properties = self._texts(untrusted, "properties", "property", where)
        name = self._name(properties, klass, where)
        nodes = untrusted.findall("./tags/tag")
        tags = [self._get(node, "name", f"domains: {name}") for node in nodes]
        self._unique(tags, f"domains: {name}", "tag")
        volumes = [
            self._volume(node, f"domains: {name}")
            for node in untrusted.iterfind("./volume-config/volume")
        ]
        self._unique(
            [volume.name for volume in volumes], f"domains: {name}", "volume"
        )
        return Domain(
            name,
            identity,
            klass,
            properties,
            self._texts(untrusted, "features", "feature", f"domains: {name}"),
            tuple(tags),
            tuple(self._devices(untrusted, f"domains: {name}")),
            {volume.name: volume for volume in volumes},
        )

    def _name(
        self, properties: Mapping[str, str], klass: str, where: str
    ) -> str:
        """Return a qube's name; check what Qubes knows it by."""
        if klass == ADMIN_CLASS:
            # its name, qid and uuid are never written (qubes/vm/adminvm.py)
            if fixed := {"name", "qid", "uuid"} & properties.keys():
                raise self._fault(where, f"dom0 has a {min(fixed)}")
            return ADMIN_NAME
        for wanted in ("name", "qid", "uuid"):
            if not properties.get(wanted):
                raise self._fault(where, f"no {wanted}")
        name = names.parse_qube(
            properties["name"], f"{self._source}: {where}: name"
        )
        if name in {ADMIN_NAME, "Domain-0", "none", "default"}:
            raise self._fault(where, f"{name!r} is not the name of a qube")
        names.parse_int(
            properties["qid"], f"{self._source}: {where}: qid", 1, QID_MAX
        )
        if not re.fullmatch(
            r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", properties["uuid"]
        ):
            raise self._fault(
                where, f"{properties['uuid'][:40]!a} is not a uuid"
            )
        return name

    def _devices(self, untrusted: Element, where: str) -> Iterator[Device]:
        for group in untrusted.iterfind("./devices"):
            klass = self._get(group, "class", f"{where}: devices")
            for node in group.iterfind("./device"):
                options = {
                    self._get(o, "name", f"{where}: {klass}"): o.text or ""
                    for o in node.iterfind("./option")
                }
                yield Device(klass, dict(node.attrib), options)

    def _volume(self, untrusted: Element, where: str) -> StoredVolume:
        name = self._get(untrusted, "name", f"{where}: volume-config")
        where = f"{where}: volume {name}"
        # it becomes a file's name, xen's disk and a part of a message
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", name):
            raise self._fault(where, "is not the name of a volume")
        return StoredVolume(
            name,
            self._get(untrusted, "pool", where),
            # a kernel's is empty where a qube brings its own kernel
            untrusted.get("vid", "")
            if name == "kernel"
            else self._get(untrusted, "vid", where),
            self._size(untrusted, where),
            self._flag(untrusted, "rw", where),
            self._flag(untrusted, "save_on_stop", where),
            self._flag(untrusted, "snap_on_start", where),
            untrusted.get("source") or None,
            self._revisions(untrusted, where),
        )

    def _size(self, untrusted: Element, where: str) -> int | None:
        if (size := untrusted.get("size")) is None:
            return None
        return names.parse_int(
            size, f"{self._source}: {where}: size", 0, BYTES_MAX
        )

    def _revisions(self, untrusted: Element, where: str) -> int:
        kept = untrusted.get("revisions_to_keep", "0")
        if kept == "-1":
            return -1
        return names.parse_int(
            kept, f"{self._source}: {where}: revisions_to_keep", 0, BYTES_MAX
        )

    def _flag(self, untrusted: Element, key: str, where: str) -> bool:
        value = untrusted.get(key)
        if value not in {"True", "False"}:
            shown = names.printable(str(value), 20)
            raise self._fault(
                where, f"{key} is {shown} (expected True or False)"
            )
        return value == "True"
