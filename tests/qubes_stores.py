"""Stores of golden PCs for the tests: a usual one, and parts to make others."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sys_pxe.dom0.qubes_store import (
    Device,
    Domain,
    Label,
    Pool,
    Store,
    StoredVolume,
)

GIB = 1 << 30
LABELS = (
    Label("label-1", "0xcc0000", "red"),
    Label("label-4", "0x73d216", "green"),
    Label("label-8", "0x000000", "black"),
)
LVM = Pool(
    "vm-pool",
    "lvm_thin",
    {
        "volume_group": "qubes_dom0",
        "thin_pool": "vm-pool",
        "revisions_to_keep": "2",
        "ephemeral_volatile": "False",
    },
)
FILES = Pool(
    "varlibqubes",
    "file-reflink",
    {
        "dir_path": "/var/lib/qubes",
        "revisions_to_keep": "1",
        "ephemeral_volatile": "False",
    },
)
OTHER = Pool(
    "big",
    "file",
    {
        "dir_path": "/srv/qubes",
        "revisions_to_keep": "1",
        "ephemeral_volatile": "False",
    },
)
KERNELS = Pool(
    "linux-kernel", "linux-kernel", {"dir_path": "/var/lib/qubes/vm-kernels"}
)
POOLS = {pool.name: pool for pool in (LVM, FILES, OTHER, KERNELS)}
SETTINGS = {
    "default_kernel": "6.12.1-1.fc41",
    "default_netvm": "sys-firewall",
    "default_template": "debian-13",
    "default_dispvm": "default-dvm",
    "management_dispvm": "default-mgmt-dvm",
    "updatevm": "sys-firewall",
    "clockvm": "sys-net",
    "default_pool": "vm-pool",
    "default_pool_kernel": "linux-kernel",
}
# of each class: volume -> (snap_on_start, save_on_stop)
_KINDS = {
    "TemplateVM": {"root": (False, True), "private": (False, True)},
    "StandaloneVM": {"root": (False, True), "private": (False, True)},
    "AppVM": {"root": (True, False), "private": (False, True)},
    "DispVM": {"root": (True, False), "private": (True, False)},
}


def vid(pool: Pool, klass: str, name: str, volume: str) -> str:
    if pool.driver == "lvm_thin":
        return f"{pool.options['volume_group']}/vm-{name}-{volume}"
    folder = "vm-templates" if klass == "TemplateVM" else "appvms"
    return f"{folder}/{name}/{volume}"


def volumes(
    klass: str,
    name: str,
    pool: Pool = LVM,
    template: Domain | None = None,
    kernel: str = "6.12.1-1.fc41",
) -> dict[str, StoredVolume]:
    found = {}
    for volume, (snap, save) in _KINDS.get(klass, {}).items():
        one = StoredVolume(
            name=volume,
            pool=pool.name,
            vid=vid(pool, klass, name, volume),
            size=(20 if volume == "root" else 2) * GIB,
            rw=True,
            save_on_stop=save,
            snap_on_start=snap,
            revisions_to_keep=1 if save else 0,
        )
        if snap:
            assert template is not None
            origin = template.volumes[volume]
            # of a snapshot Qubes takes the origin: the template's template's
            source = origin.source or origin.vid
            one = replace(one, pool=origin.pool, source=source)
            home = POOLS[origin.pool]
            one = replace(one, vid=vid(home, klass, name, volume))
        found[volume] = one
    if found:
        found["volatile"] = StoredVolume(
            name="volatile",
            pool=pool.name,
            vid=vid(pool, klass, name, "volatile"),
            size=12 * GIB,
            rw=True,
            save_on_stop=False,
            snap_on_start=False,
        )
        found["kernel"] = StoredVolume(
            "kernel", "linux-kernel", kernel, None, False, False, False
        )
    return found


def domain(
    qid: int,
    klass: str,
    name: str,
    pool: Pool = LVM,
    template: Domain | None = None,
    properties: Mapping[str, str] | None = None,
    features: Mapping[str, str] | None = None,
    tags: Sequence[str] = (),
    devices: Sequence[Device] = (),
) -> Domain:
    identity = {
        "name": name,
        "qid": str(qid),
        "uuid": str(uuid.UUID(int=qid)),
        "label": "red",
    }
    if template is not None:
        identity["template"] = template.name
    return Domain(
        name=name,
        id=f"domain-{qid}",
        klass=klass,
        properties={**identity, **(properties or {})},
        features=dict(features or {}),
        tags=tuple(tags),
        devices=tuple(devices),
        volumes=volumes(klass, name, pool, template),
    )


def dom0(
    features: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
) -> Domain:
    return Domain(
        "dom0",
        "domain-0",
        "AdminVM",
        {"label": "black", **(properties or {})},
        dict(features or {}),
        (),
        (),
        {},
    )


def store(
    *domains: Domain,
    settings: Mapping[str, str] | None = None,
    pools: Mapping[str, Pool] | None = None,
) -> Store:
    return Store(
        LABELS,
        POOLS if pools is None else pools,
        SETTINGS if settings is None else settings,
        {one.name: one for one in domains},
    )


def card(address: str) -> Device:
    return Device(
        "pci",
        {
            "backend-domain": "dom0",
            "id": address,
            "identity": "0x8086:0x15bb::p020000",
            "mode": "required",
        },
        {"no-strict-reset": "True"},
    )


def golden() -> Store:
    """A PC as the installer and its owner leave it."""
    debian = domain(1, "TemplateVM", "debian-13", features={"os": "Linux"})
    fedora = domain(2, "TemplateVM", "fedora-43", features={"os": "Linux"})
    network = {"provides_network": "True"}
    net = domain(
        3,
        "AppVM",
        "sys-net",
        template=fedora,
        properties={
            **network,
            "netvm": "",
            "virt_mode": "hvm",
            "autostart": "True",
        },
        devices=[card("00_1f.6")],
    )
    firewall = domain(
        4,
        "AppVM",
        "sys-firewall",
        template=debian,
        properties={**network, "netvm": "sys-net", "autostart": "True"},
    )
    usb = domain(
        5,
        "AppVM",
        "sys-usb",
        template=fedora,
        properties={"netvm": "", "virt_mode": "hvm", "autostart": "True"},
        devices=[card("00_14.0")],
    )
    dvm = domain(
        6,
        "AppVM",
        "default-dvm",
        template=debian,
        properties={"template_for_dispvms": "True"},
        features={
            "preload-dispvm": "disp77",
            "preload-dispvm-max": "1",
            "appmenus-dispvm": "1",
        },
    )
    management = domain(
        7,
        "AppVM",
        "default-mgmt-dvm",
        template=fedora,
        properties={"netvm": "", "template_for_dispvms": "True"},
    )
    work = domain(
        8,
        "AppVM",
        "work",
        template=debian,
        properties={"memory": "600", "guivm": "dom0"},
        tags=["guivm-dom0", "created-by-dom0", "audiovm-sys-usb", "mine"],
        devices=[
            Device(
                "block",
                {
                    "backend-domain": "sys-usb",
                    "id": "sda",
                    "identity": "*",
                    "mode": "auto-attach",
                },
                {},
            )
        ],
    )
    vault = domain(
        9,
        "AppVM",
        "vault",
        FILES,
        template=debian,
        properties={"netvm": "", "audiovm": "sys-usb"},
    )
    alone = domain(
        10, "StandaloneVM", "windows", OTHER, properties={"kernel": ""}
    )
    disposable = domain(
        11,
        "DispVM",
        "disp77",
        template=dvm,
        features={"preload-dispvm-completed": "1"},
    )
    return store(
        dom0({"preload-dispvm-max": "2"}),
        *(debian, fedora, net, firewall, usb, dvm, management),
        *(work, vault, alone, disposable),
    )


def change(
    found: Store, name: str, properties: Mapping[str, str | None]
) -> Store:
    """The store with properties of one qube set, or (None) taken away."""
    old = found.domains[name]
    new = {
        key: value
        for key, value in {**old.properties, **properties}.items()
        if value is not None
    }
    return put(found, replace(old, properties=new))


def put(found: Store, one: Domain) -> Store:
    return replace(found, domains={**found.domains, one.name: one})
