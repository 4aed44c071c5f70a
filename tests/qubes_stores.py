"""Stores of golden PCs for the tests: a usual one, and any number of others."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import strategies as st

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


_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]),
    max_size=8,
) | st.sampled_from(["", "1", "a\nb", "a\rb", '<&">', " x "])


def _shape(qid: int, kinds: Mapping[str, list[Domain]]) -> list[str]:
    possible = ["TemplateVM", "StandaloneVM", "RemoteVM"]
    if kinds["TemplateVM"]:
        possible += ["AppVM", "AppVM", "AppVM"]
    if kinds["dvm"]:
        possible.append("DispVM")
    return ["TemplateVM"] if qid == 1 else possible


def _some(draw: st.DrawFn, found: Sequence[Domain]) -> dict[str, str]:
    """Properties that name qubes, of which some are not there yet."""
    # Qubes takes no remote one for any of these
    local = [one.name for one in found if one.klass != "RemoteVM"]
    names = st.sampled_from(["", "dom0", *local])
    dvms = [d.name for d in found if "template_for_dispvms" in d.properties]
    nets = [d.name for d in found if "provides_network" in d.properties]
    return draw(
        st.fixed_dictionaries(
            {},
            optional={
                "guivm": names,
                "audiovm": names,
                "netvm": st.sampled_from(["", *nets]),
                "default_dispvm": st.sampled_from(["", *dvms]),
                "management_dispvm": st.sampled_from(["", *dvms]),
                "provides_network": st.just("True"),
                "autostart": st.sampled_from(["True", "False"]),
                "virt_mode": st.sampled_from(["hvm", "pvh", "pv"]),
                "memory": st.integers(1, 4000).map(str),
                "maxmem": st.integers(0, 8000).map(str),
                "vcpus": st.integers(1, 8).map(str),
                "kernel": st.sampled_from(["", "6.12.1-1.fc41", "6.6"]),
            },
        )
    )


@st.composite
def _domain(
    draw: st.DrawFn, qid: int, kinds: Mapping[str, list[Domain]]
) -> Domain:
    earlier = kinds["all"]
    klass = draw(st.sampled_from(_shape(qid, kinds)))
    # no dot: Qubes makes tags of some names, and does not load those with one
    name = draw(st.from_regex(r"[a-zA-Z][a-z_-]{0,8}", fullmatch=True))
    name = f"{name}{qid}"
    others = [one.name for one in earlier] + ["dom0"]
    tags = st.builds(
        "{}-{}".format,
        st.sampled_from(["guivm", "audiovm", "created-by", "relayvm"]),
        st.sampled_from(others),
    )
    features = st.dictionaries(
        st.sampled_from(["os", "gui", "service.x", "preload-dispvm"]), _TEXT
    )
    if klass == "RemoteVM":
        local = [one.name for one in earlier if one.klass != "RemoteVM"]
        relay = draw(st.sampled_from(["", *local]))
        return domain(qid, klass, name, properties={"relayvm": relay})
    template = None
    if klass in {"AppVM", "DispVM"}:
        kind = "TemplateVM" if klass == "AppVM" else "dvm"
        template = draw(st.sampled_from(kinds[kind]))
    properties = _some(draw, earlier)
    if klass == "AppVM" and draw(st.booleans()):
        properties["template_for_dispvms"] = "True"
    devices = st.sampled_from(
        [
            card("00_1f.6"),
            Device("mic", {"backend-domain": "dom0", "id": "mic"}, {}),
            *(
                Device("block", {"backend-domain": o, "id": "sda"}, {})
                for o in others
            ),
        ]
    )
    return domain(
        qid,
        klass,
        name,
        draw(st.sampled_from([LVM, FILES, OTHER])),
        template,
        properties,
        draw(features),
        draw(st.lists(tags, max_size=3, unique=True)),
        draw(st.lists(devices, max_size=2, unique_by=lambda d: d.klass)),
    )


@st.composite
def stores(draw: st.DrawFn) -> Store:
    """Stores that Qubes itself would load."""
    kinds: dict[str, list[Domain]] = {"all": [], "TemplateVM": [], "dvm": []}
    for qid in range(1, draw(st.integers(2, 9))):
        one = draw(_domain(qid, kinds))
        kinds["all"].append(one)
        kinds.setdefault(one.klass, []).append(one)
        if "template_for_dispvms" in one.properties:
            kinds["dvm"].append(one)
    dvms = ["", *(one.name for one in kinds["dvm"])]
    nets = [
        "",
        *(d.name for d in kinds["all"] if "provides_network" in d.properties),
    ]
    templates = ["", *(one.name for one in kinds["TemplateVM"])]
    local = ["", *(d.name for d in kinds["all"] if d.klass != "RemoteVM")]
    settings = draw(
        st.fixed_dictionaries(
            {"default_kernel": st.sampled_from(["", "6.12.1-1.fc41"])},
            optional={
                "default_netvm": st.sampled_from(nets),
                "default_template": st.sampled_from(templates),
                "default_dispvm": st.sampled_from(dvms),
                "management_dispvm": st.sampled_from(dvms),
                "updatevm": st.sampled_from(local),
                "clockvm": st.sampled_from(local),
                "default_guivm": st.sampled_from(local),
                "default_audiovm": st.sampled_from(local),
                "default_pool": st.sampled_from(["vm-pool", "big"]),
                "check_updates_vm": st.sampled_from(["True", "False"]),
            },
        )
    )
    return store(dom0(), *kinds["all"], settings=settings)


@st.composite
def choices(draw: st.DrawFn) -> tuple[Store, list[str]]:
    """A store, and qubes of it that are chosen."""
    found = draw(stores())
    others = [name for name in found.domains if name != "dom0"]
    return found, draw(
        st.lists(st.sampled_from(others), max_size=3, unique=True)
    )
