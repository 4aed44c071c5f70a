"""Makes a client's qubes.xml of the golden PC's, for one set of qubes.

The result has dom0, the qubes of the set and what they need; nothing in it
names a qube, a pool or a card that the client does not have. Each rule says
where Qubes' core-admin wants it. Pure.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sys_pxe.dom0 import qubes_needs, qubes_write
from sys_pxe.dom0.qubes_store import (
    ADMIN_CLASS,
    ADMIN_NAME,
    KERNEL_DRIVER,
    Device,
    Domain,
    Pool,
    Store,
    StoredVolume,
    names_qube,
)
from sys_pxe.dom0.volumes import Volume
from sys_pxe.errors import InvalidInput
from sys_pxe.names import SIZE_MAX

POOL = "varlibqubes"
KERNEL_POOL = "linux-kernel"
BASE = "/var/lib/qubes"
KERNELS = "vm-kernels"
# the class of devices that are a PC's own
CARDS = "pci"
POOLS = {
    # Revisions would be older states of volumes, in RAM; none are kept.
    # An ephemeral key protects what is written to a disk: there is none.
    POOL: Pool(
        POOL,
        "file-reflink",
        {
            "dir_path": BASE,
            "revisions_to_keep": "0",
            "ephemeral_volatile": "False",
        },
    ),
    KERNEL_POOL: Pool(
        KERNEL_POOL, KERNEL_DRIVER, {"dir_path": f"{BASE}/{KERNELS}"}
    ),
}
_POOL_SETTINGS = {
    "default_pool": POOL,
    "default_pool_private": POOL,
    "default_pool_root": POOL,
    "default_pool_volatile": POOL,
    "default_pool_kernel": KERNEL_POOL,
}
# without these a qube falls back to what is right for it: to dom0
_TO_DEFAULT = {"guivm", "audiovm", "default_guivm", "default_audiovm"}
# the first that fits counts, so the longer one is first
_TAGS_OF_QUBES = (
    *("disp-created-by-", "created-by-", "guivm-", "audiovm-", "relayvm-"),
)
# qubes/vm/mix/dvmtemplate.py: the disposables that wait in the golden PC's
# RAM, and how far they are; no client has them
_PRELOADED = {
    "preload-dispvm",
    "preload-dispvm-completed",
    "preload-dispvm-in-progress",
}
# qubes/ext/gui.py: a new qube gets this one as its guivm
_CREATED_GUIVM = "set-created-guivm"
# virt_mode -> what boots a qube with its own kernel (qubes/vm/qubesvm.py,
# kernel_path); an hvm needs nothing of dom0
_LOADERS = {"pvh": "pvgrub2-pvh", "pv": "pvgrub2"}
_PART = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.+@ -]+"


@dataclass(frozen=True)
class Rewritten:
    """A client's qubes.xml, and what has to be in the seed for it.

    ``store`` is what ``xml`` says; ``kept`` are its qubes without dom0, in
    its order, and ``autostart`` those of them that start at boot. ``folders``
    are relative to /var/lib/qubes. ``dropped_devices`` are the cards that
    the golden PC gave to qubes of the set: lines such as
    "sys-net: pci 00_1f.6".
    """

    xml: bytes
    store: Store
    autostart: tuple[str, ...]
    kept: tuple[str, ...]
    volumes: tuple[Volume, ...]
    folders: tuple[str, ...]
    dropped_devices: tuple[str, ...]


def rewrite(store: Store, chosen: Sequence[str], set_name: str) -> Rewritten:
    """Return the client's qubes.xml for the chosen qubes.

    Raises InvalidInput for a choice that the golden PC cannot give, and for
    a volume that cannot be taken from it.
    """
    where = f"qubes of set {set_name}"
    kept = qubes_needs.kept(store, chosen, set_name)
    with_dom0 = {ADMIN_NAME, *kept}
    owners = _owners(store)
    domains = {
        name: _domain(store, domain, with_dom0, owners, where)
        for name, domain in store.domains.items()
        if name in with_dom0
    }
    settings = _properties(store.settings, with_dom0)
    made = Store(store.labels, POOLS, {**settings, **_POOL_SETTINGS}, domains)
    mine = [store.domains[name] for name in kept]
    return Rewritten(
        qubes_write.write(made),
        made,
        tuple(one.name for one in mine if one.is_set("autostart")),
        kept,
        (
            *(v for one in mine for v in _seeded(store, one, where)),
            *_kernels(store, made, where),
        ),
        tuple(
            folder(one) for one in mine if one.klass != qubes_needs.REMOTE_CLASS
        ),
        tuple(
            f"{one.name}: pci {device.attributes.get('id', '*')}"
            for one in (store.domains[ADMIN_NAME], *mine)
            for device in one.devices
            if device.klass == CARDS
        ),
    )


def folder(domain: Domain) -> str:
    """Return a qube's folder, relative to /var/lib/qubes."""
    # dir_path_prefix in qubes/vm/qubesvm.py and templatevm.py
    template = domain.klass == qubes_needs.TEMPLATE_CLASS
    return f"{'vm-templates' if template else 'appvms'}/{domain.name}"


def _domain(
    store: Store,
    domain: Domain,
    with_dom0: set[str],
    owners: Mapping[tuple[str, str], tuple[str, str]],
    where: str,
) -> Domain:
    return replace(
        domain,
        properties=_properties(domain.properties, with_dom0),
        features=_features(domain, with_dom0),
        tags=tuple(
            tag for tag in domain.tags if _tag_qube(tag) in {None, *with_dom0}
        ),
        devices=tuple(d for d in domain.devices if _stays(d, with_dom0)),
        volumes={
            name: _volume(store, domain, volume, owners, where)
            for name, volume in domain.volumes.items()
        },
    )


def _properties(
    properties: Mapping[str, str], with_dom0: set[str]
) -> dict[str, str]:
    """Return properties, without one that names a qube that is left out.

    It becomes "", which VMProperty (qubes/vm/__init__.py) reads as none: its
    default could be a qube that nobody meant, and a name without a qube keeps
    qubesd from starting.
    """
    found = dict(properties)
    for name, value in properties.items():
        if not value or value in with_dom0 or not names_qube(name):
            continue
        if name in _TO_DEFAULT:
            del found[name]
        else:
            found[name] = ""
    return found


def _features(domain: Domain, with_dom0: set[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in domain.features.items()
        if name not in _PRELOADED
        and (name != _CREATED_GUIVM or value in with_dom0)
    }


def _tag_qube(tag: str) -> str | None:
    """Return the qube that a tag names, or None for any other tag."""
    for prefix in _TAGS_OF_QUBES:
        if tag.startswith(prefix):
            return tag.removeprefix(prefix)
    return None


def _stays(device: Device, with_dom0: set[str]) -> bool:
    """Whether a client has a device that was assigned on the golden PC.

    Cards differ from PC to PC, and a qube does not start without a card that
    it requires: a client's own are assigned at its boot.
    """
    backend = device.backend
    return device.klass != CARDS and (not backend or backend in with_dom0)


def _owners(store: Store) -> dict[tuple[str, str], tuple[str, str]]:
    """Return (pool, vid) -> (qube, name) of all volumes."""
    return {
        (volume.pool, volume.vid): (domain.name, volume.name)
        for domain in store.domains.values()
        for volume in domain.volumes.values()
    }


def _is_kernel(store: Store, volume: StoredVolume, place: str) -> bool:
    """Whether dom0 gives a volume, and no image is behind it."""
    if volume.pool not in store.pools:
        raise InvalidInput(
            f"{place} is in pool {volume.pool!a}, which is not in qubes.xml",
            "call qvm-pool on the golden PC to see its pools",
        )
    return store.pools[volume.pool].driver == KERNEL_DRIVER


def _volume(
    store: Store,
    domain: Domain,
    volume: StoredVolume,
    owners: Mapping[tuple[str, str], tuple[str, str]],
    where: str,
) -> StoredVolume:
    """Return a volume as it is in the client's pool."""
    place = f"{where}: volume {volume.name} of {domain.name!r}"
    if _is_kernel(store, volume, place):
        # LinuxModules (qubes/storage/kernels.py) takes its vid from the qube
        return replace(
            volume,
            pool=KERNEL_POOL,
            rw=False,
            save_on_stop=False,
            snap_on_start=False,
            source=None,
            revisions_to_keep=0,
        )
    if volume.snap_on_start and volume.save_on_stop:
        raise InvalidInput(
            f"{place} is a snapshot that is kept, which no pool of Qubes "
            "supports",
            "leave the qube out, or make it again",
        )
    if volume.snap_on_start != (volume.source is not None):
        state = "no" if volume.source is None else "a"
        raise InvalidInput(
            f"{place} has {state} source (a snapshot has one, no other has)",
            "leave the qube out, or make it again",
        )
    return replace(
        volume,
        pool=POOL,
        vid=f"{folder(domain)}/{volume.name}",
        source=_source(store, domain, volume, owners, place),
        revisions_to_keep=0,
    )


def _source(
    store: Store,
    domain: Domain,
    volume: StoredVolume,
    owners: Mapping[tuple[str, str], tuple[str, str]],
    place: str,
) -> str | None:
    """Return the client's vid of what a volume is a snapshot of.

    Qubes looks it up while it loads the file, in the order templates first
    (``Storage.init_volume``), so it has to be a template's.
    """
    if volume.source is None:
        return None
    owner, name = owners.get((volume.pool, volume.source), ("", ""))
    for one in qubes_needs.lineage(store, domain):
        if one.name == owner != domain.name:
            return f"{folder(one)}/{name}"
    raise InvalidInput(
        f"{place} is a snapshot of {volume.source[:80]!a}, which is not a "
        "volume of its template in the same pool",
        f"set the template of {domain.name} again on the golden PC",
    )


def _seeded(store: Store, domain: Domain, where: str) -> Iterator[Volume]:
    """Yield the volumes whose content a client has to get.

    The others Qubes makes at each start: snapshots, and volatile ones.
    """
    for volume in domain.volumes.values():
        place = f"{where}: volume {volume.name} of {domain.name!r}"
        if not volume.save_on_stop or _is_kernel(store, volume, place):
            continue
        if volume.size is None or not 1 <= volume.size <= SIZE_MAX:
            raise InvalidInput(
                f"{place} has a size of {volume.size or 0} bytes (expected "
                f"1 to {SIZE_MAX})",
                "leave the qube out, or make it again with a smaller volume",
            )
        pool = store.pools[volume.pool]
        yield Volume(
            domain.name,
            volume.name,
            pool.driver,
            _image(pool, volume.vid, place),
            volume.size,
            f"{folder(domain)}/{volume.name}.img",
        )


def _image(pool: Pool, vid: str, place: str) -> str:
    """Return where a driver keeps the committed image of a volume."""
    if pool.driver == "lvm_thin":
        # ThinPool.init_volume (qubes/storage/lvm.py): VG/LV
        found, pattern = vid, rf"(?!-){_PART}/(?!-){_PART}"
    elif pool.driver in {"file-reflink", "file"}:
        # _path_clean (reflink.py), path_origin (file.py): .../VID.img
        base = pool.options.get("dir_path", "").rstrip("/")
        found, pattern = f"{base}/{vid}.img", rf"(/{_PART})+"
    else:
        raise InvalidInput(
            f"{place} is in pool {pool.name!a} of driver {pool.driver!a} "
            "(expected lvm_thin, file-reflink or file)",
            "clone the qube to another pool (qvm-clone -P POOL) and choose "
            "the clone",
        )
    if not re.fullmatch(pattern, found):
        raise InvalidInput(
            f"{place} is at {found[:120]!a}, which is no place of driver "
            f"{pool.driver}"
        )
    return found.lstrip("/")


def _kernels(store: Store, made: Store, where: str) -> Iterator[Volume]:
    """Yield the folders of the kernels that a client's qubes start with."""
    users: dict[str, str] = {}
    default = made.settings.get("default_kernel", "")
    for domain in made.domains.values():
        if domain.klass in {ADMIN_CLASS, qubes_needs.REMOTE_CLASS}:
            continue
        kernel = qubes_needs.inherited(made, domain, "kernel")
        if kernel is None:
            kernel = default
        loader = _LOADERS.get(qubes_needs.virt_mode(made, domain), "")
        users.setdefault(kernel or loader, domain.name)
    users.setdefault(default, ADMIN_NAME)
    pool = next(
        (p for p in store.pools.values() if p.driver == KERNEL_DRIVER),
        POOLS[KERNEL_POOL],
    )
    base = pool.options.get("dir_path", "").rstrip("/")
    for kernel, user in users.items():
        if not kernel:
            continue
        place = f"{base}/{kernel}"
        if "/" in kernel or not re.fullmatch(rf"(/{_PART})+", place):
            raise InvalidInput(
                f"{where}: {user!r} starts with kernel {kernel[:60]!a}, which "
                f"is not a folder of {base[:80]!a}",
                "call qvm-prefs QUBE kernel on the golden PC",
            )
        yield Volume(
            user,
            "kernel",
            KERNEL_DRIVER,
            place.lstrip("/"),
            0,
            f"{KERNELS}/{kernel}",
        )
