"""A client's qubes.xml: what stays, what goes, what is in the seed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given

from sys_pxe.dom0 import qubes_rewrite, qubes_store, qubes_write
from sys_pxe.dom0.qubes_rewrite import Rewritten
from sys_pxe.dom0.qubes_store import Device, Store, StoredVolume
from sys_pxe.dom0.volumes import Volume
from sys_pxe.errors import InvalidInput
from tests import qubes_drawn, qubes_stores
from tests.qubes_stores import GIB, LVM, change, domain, golden, put, store

REAL = Path(__file__).parent / "fixtures/qubes/4.3.xml"
KERNEL = "6.12.1-1.fc41"


def rewrite(found: Store, *chosen: str) -> Rewritten:
    return qubes_rewrite.rewrite(found, chosen, "office")


def refused(found: Store, *chosen: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        rewrite(found, *chosen)
    assert caught.value.message.startswith("qubes of set office: ")
    return caught.value


def volume(found: Store, qube: str, name: str, **changes: object) -> Store:
    """The store with one volume of a qube changed."""
    one = found.domains[qube]
    new = replace(one.volumes[name], **changes)  # type: ignore[arg-type]
    return put(found, replace(one, volumes={**one.volumes, name: new}))


# who stays


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [
        ("vault", {"debian-13"}),
        ("sys-usb", {"fedora-43"}),
        ("work", {"debian-13", "fedora-43", "sys-firewall", "sys-net"}),
        (
            "disp77",
            {"default-dvm", "debian-13", "fedora-43"}
            | {"sys-firewall", "sys-net"},
        ),
        ("debian-13", set()),
    ],
)
def test_a_qube_takes_along_what_it_needs(chosen: str, kept: set[str]) -> None:
    found = rewrite(golden(), chosen)
    assert set(found.kept) == kept | {chosen}
    assert found.store.domains.keys() == {"dom0", chosen, *kept}


def test_nothing_chosen_leaves_dom0() -> None:
    found = rewrite(golden())
    assert (found.kept, found.volumes[0].name) == ((), "kernel")
    assert list(found.store.domains) == ["dom0"]


def test_an_own_disposable_template_is_needed() -> None:
    for name in ("default_dispvm", "management_dispvm"):
        found = change(golden(), "vault", {name: "default-mgmt-dvm"})
        made = rewrite(found, "vault")
        assert set(made.kept) == {
            *("vault", "debian-13", "fedora-43", "default-mgmt-dvm"),
        }
        assert made.store.domains["vault"].properties[name] == (
            "default-mgmt-dvm"
        )


def test_a_remote_qube_needs_its_relay() -> None:
    remote = domain(20, "RemoteVM", "far", properties={"relayvm": "vault"})
    made = rewrite(put(golden(), remote), "far")
    assert set(made.kept) == {"far", "vault", "debian-13"}
    assert "appvms/far" not in made.folders
    assert "far" not in {v.qube for v in made.volumes}


# what names a qube


def test_settings_name_only_qubes_that_stay() -> None:
    assert {
        key: value
        for key, value in rewrite(golden(), "vault").store.settings.items()
        if "pool" not in key
    } == {
        "default_kernel": KERNEL,
        "default_template": "debian-13",
        # none, as VMProperty reads it
        "default_netvm": "",
        "default_dispvm": "",
        "management_dispvm": "",
        "updatevm": "",
        "clockvm": "",
    }


def test_settings_of_a_chosen_qube_stay() -> None:
    found = rewrite(golden(), "work", "default-dvm").store.settings
    assert found["default_netvm"] == "sys-firewall"
    assert found["default_dispvm"] == "default-dvm"
    assert found["clockvm"] == "sys-net"
    assert found["management_dispvm"] == ""


def test_a_gui_domain_that_goes_becomes_the_default() -> None:
    found = golden()
    settings = {**found.settings, "default_guivm": "sys-usb"}
    found = change(found, "vault", {"guivm": "sys-usb", "x_vm": "sys-usb"})
    made = rewrite(replace(found, settings=settings), "vault").store
    assert "default_guivm" not in made.settings
    properties = made.domains["vault"].properties
    # vault has an audiovm in the golden store too
    assert {"guivm", "audiovm"} & properties.keys() == set()
    assert properties["x_vm"] == ""


def test_what_is_no_qube_stays() -> None:
    found = golden()
    settings = {**found.settings, "check_updates_vm": "False"}
    made = rewrite(replace(found, settings=settings), "vault")
    assert made.store.settings["check_updates_vm"] == "False"


def test_tags_of_qubes_that_go_go() -> None:
    one = golden().domains["work"]
    tags = [
        f"{kind}-{name}"
        for kind in ("guivm", "audiovm", "relayvm", "created-by")
        for name in ("dom0", "sys-net", "vault")
    ]
    tags += ["disp-created-by-vault", "vault", "mine"]
    made = rewrite(put(golden(), replace(one, tags=tuple(tags))), "work")
    assert made.store.domains["work"].tags == (
        *("guivm-dom0", "guivm-sys-net", "audiovm-dom0", "audiovm-sys-net"),
        *("relayvm-dom0", "relayvm-sys-net"),
        *("created-by-dom0", "created-by-sys-net", "vault", "mine"),
    )


def test_features_do_not_name_qubes_that_are_not_there() -> None:
    one = golden().domains["work"]
    features = {"set-created-guivm": "vault", "gui": "1", "empty": ""}
    found = put(golden(), replace(one, features=features))
    made = rewrite(found, "work", "disp77").store.domains
    assert made["work"].features == {"gui": "1", "empty": ""}
    assert made["default-dvm"].features == {
        "preload-dispvm-max": "1",
        "appmenus-dispvm": "1",
    }
    assert made["disp77"].features == {}
    both = rewrite(found, "work", "vault").store.domains["work"]
    assert both.features["set-created-guivm"] == "vault"


# devices


def test_cards_of_the_golden_pc_are_left_out_and_told() -> None:
    made = rewrite(golden(), "sys-usb", "work")
    assert made.dropped_devices == (
        "sys-net: pci 00_1f.6",
        "sys-usb: pci 00_14.0",
    )
    assert made.store.domains["sys-net"].devices == ()


def test_other_devices_stay_with_their_backend() -> None:
    assert rewrite(golden(), "work").store.domains["work"].devices == ()
    made = rewrite(golden(), "work", "sys-usb").store.domains["work"]
    assert [d.backend for d in made.devices] == ["sys-usb"]
    any_backend = Device("mic", {"id": "*"}, {"a": "b"})
    one = replace(golden().domains["work"], devices=(any_backend,))
    made = rewrite(put(golden(), one), "work").store.domains["work"]
    assert made.devices == (any_backend,)


# volumes


def test_there_is_one_pool_and_it_is_the_default() -> None:
    made = rewrite(golden(), "work", "vault", "windows").store
    assert {
        name: (pool.driver, pool.options) for name, pool in made.pools.items()
    } == {
        "varlibqubes": (
            "file-reflink",
            {
                "dir_path": "/var/lib/qubes",
                "revisions_to_keep": "0",
                "ephemeral_volatile": "False",
            },
        ),
        "linux-kernel": (
            "linux-kernel",
            {"dir_path": "/var/lib/qubes/vm-kernels"},
        ),
    }
    assert {
        key: value for key, value in made.settings.items() if "pool" in key
    } == {
        "default_pool": "varlibqubes",
        "default_pool_private": "varlibqubes",
        "default_pool_root": "varlibqubes",
        "default_pool_volatile": "varlibqubes",
        "default_pool_kernel": "linux-kernel",
    }


def test_volumes_are_in_the_pool_of_the_client() -> None:
    made = rewrite(golden(), "disp77").store.domains
    assert dict(made["disp77"].volumes) == {
        "root": StoredVolume(
            name="root",
            pool="varlibqubes",
            vid="appvms/disp77/root",
            size=20 * GIB,
            rw=True,
            save_on_stop=False,
            snap_on_start=True,
            source="vm-templates/debian-13/root",
        ),
        "private": StoredVolume(
            name="private",
            pool="varlibqubes",
            vid="appvms/disp77/private",
            size=2 * GIB,
            rw=True,
            save_on_stop=False,
            snap_on_start=True,
            source="appvms/default-dvm/private",
        ),
        "volatile": StoredVolume(
            name="volatile",
            pool="varlibqubes",
            vid="appvms/disp77/volatile",
            size=12 * GIB,
            rw=True,
            save_on_stop=False,
            snap_on_start=False,
        ),
        "kernel": StoredVolume(
            "kernel", "linux-kernel", KERNEL, None, False, False, False
        ),
    }


def test_no_older_states_are_kept() -> None:
    found = golden()
    assert found.domains["vault"].volumes["private"].revisions_to_keep == 1
    made = rewrite(found, "vault", "windows").store
    assert {
        v.revisions_to_keep
        for d in made.domains.values()
        for v in d.volumes.values()
    } == {0}


def test_a_kernel_of_an_old_qube_is_as_its_driver_takes_it() -> None:
    found = golden()
    pools = {**found.pools, "more": replace(qubes_stores.KERNELS, name="more")}
    found = volume(
        replace(found, pools=pools),
        *("vault", "kernel"),
        pool="more",
        rw=True,
        snap_on_start=True,
        save_on_stop=True,
        source="x",
        revisions_to_keep=1,
    )
    made = rewrite(found, "vault").store.domains["vault"]
    assert made.volumes["kernel"] == StoredVolume(
        "kernel", "linux-kernel", KERNEL, None, False, False, False
    )


def test_an_ephemeral_key_is_not_asked_for() -> None:
    text = REAL.read_bytes().replace(
        b'name="volatile"', b'name="volatile" ephemeral="True"'
    )
    made = rewrite(qubes_store.read(text, "x"), "work")
    assert b"ephemeral=" not in made.xml


def test_what_is_kept_on_stop_is_in_the_seed() -> None:
    made = rewrite(golden(), "vault", "windows")
    assert [v for v in made.volumes if v.qube in {"vault", "windows"}] == [
        Volume(
            "vault",
            "private",
            "file-reflink",
            "var/lib/qubes/appvms/vault/private.img",
            2 * GIB,
            "appvms/vault/private.img",
        ),
        Volume(
            "windows",
            "root",
            "file",
            "srv/qubes/appvms/windows/root.img",
            20 * GIB,
            "appvms/windows/root.img",
        ),
        Volume(
            "windows",
            "private",
            "file",
            "srv/qubes/appvms/windows/private.img",
            2 * GIB,
            "appvms/windows/private.img",
        ),
        Volume(
            "windows",
            "kernel",
            "linux-kernel",
            "var/lib/qubes/vm-kernels/pvgrub2-pvh",
            0,
            "vm-kernels/pvgrub2-pvh",
        ),
    ]
    assert made.volumes[0] == Volume(
        "debian-13",
        "root",
        "lvm_thin",
        "qubes_dom0/vm-debian-13-root",
        20 * GIB,
        "vm-templates/debian-13/root.img",
    )


def test_every_qube_has_its_folder() -> None:
    assert rewrite(golden(), "disp77").folders == (
        *("vm-templates/debian-13", "vm-templates/fedora-43"),
        *("appvms/sys-net", "appvms/sys-firewall"),
        *("appvms/default-dvm", "appvms/disp77"),
    )


def kernels(found: Store, *chosen: str) -> list[tuple[str, str]]:
    made = rewrite(found, *chosen)
    return [
        (v.qube, v.target.removeprefix("vm-kernels/"))
        for v in made.volumes
        if v.driver == "linux-kernel"
    ]


def test_each_kernel_is_in_the_seed_once() -> None:
    found = change(golden(), "debian-13", {"kernel": "6.6"})
    assert kernels(found, "work") == [
        ("debian-13", "6.6"),
        ("fedora-43", KERNEL),
    ]
    # the default for new qubes, where nobody else has it
    assert kernels(found, "vault") == [("debian-13", "6.6"), ("dom0", KERNEL)]


@pytest.mark.parametrize(
    ("mode", "loader"),
    [("pvh", "pvgrub2-pvh"), ("pv", "pvgrub2"), ("HVM", None), (None, None)],
)
def test_a_qube_with_its_own_kernel_has_what_boots_it(
    mode: str | None, loader: str | None
) -> None:
    properties = {"kernel": "" if mode else KERNEL, "virt_mode": mode}
    found = change(golden(), "windows", properties)
    names = {name for _, name in kernels(found, "windows")}
    assert names == {KERNEL} | ({loader} if loader else set())


# autostart


def test_what_starts_at_boot_is_told() -> None:
    assert rewrite(golden(), "work").autostart == ("sys-net", "sys-firewall")
    assert rewrite(golden(), "vault").autostart == ()
    found = change(golden(), "vault", {"autostart": "yes"})
    assert rewrite(found, "vault").autostart == ("vault",)
    found = change(golden(), "vault", {"autostart": "False"})
    assert rewrite(found, "vault").autostart == ()


# what cannot be


def test_a_chain_that_breaks_is_told() -> None:
    domains = dict(golden().domains)
    del domains["debian-13"]
    error = refused(replace(golden(), domains=domains), "work")
    assert error.message == (
        "qubes of set office: 'work' needs template 'debian-13', which the "
        "golden PC does not have"
    )
    assert "leave out 'work'" in error.hint


def test_a_long_chain_is_told_whole() -> None:
    domains = dict(golden().domains)
    del domains["sys-net"]
    assert refused(replace(golden(), domains=domains), "work").message == (
        "qubes of set office: 'work' needs netvm 'sys-firewall', which needs "
        "netvm 'sys-net', which the golden PC does not have"
    )


def test_an_unknown_qube_is_told_with_its_neighbours() -> None:
    error = refused(golden(), "valt")
    assert "the golden PC has no qube 'valt'" in error.message
    assert error.hint == "nearest: vault"
    assert "it has: debian-13, default-dvm" in refused(golden(), "Q" * 9).hint
    alone = store(qubes_stores.dom0(), settings={})
    assert refused(alone, "x").hint == "it has no qubes at all"


def test_dom0_is_not_chosen() -> None:
    assert "in every set" in refused(golden(), "dom0").message


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"template": None}, "needs template ''"),
        ({"template": "vault"}, "'vault', which is no TemplateVM"),
        ({"template": "dom0"}, "'dom0', which is no TemplateVM"),
        ({"netvm": "vault"}, "which does not provide network"),
        ({"netvm": "nobody"}, "needs netvm 'nobody', which the golden PC"),
        ({"default_dispvm": "nobody"}, "needs default_dispvm 'nobody'"),
        ({"kernel": "../../../etc"}, "is not a folder of"),
        ({"kernel": ".."}, "is not a folder of"),
        ({"kernel": "a\nb"}, "is not a folder of"),
    ],
)
def test_what_qubes_would_not_load_is_refused(
    properties: Mapping[str, str | None], said: str
) -> None:
    error = refused(change(golden(), "work", properties), "work")
    assert said in error.message
    assert error.hint


def test_a_disposable_needs_a_template_for_disposables() -> None:
    found = change(golden(), "default-dvm", {"template_for_dispvms": "no"})
    assert "which is no AppVM" in refused(found, "disp77").message


def test_a_class_of_another_package_is_refused() -> None:
    one = replace(golden().domains["vault"], klass="StrangeVM")
    error = refused(put(golden(), one), "vault")
    assert "'vault' is a 'StrangeVM'" in error.message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pool": "gone"}, "is in pool 'gone', which is not in qubes.xml"),
        ({"size": None}, "has a size of 0 bytes"),
        ({"size": 1 << 41}, "has a size of 2199023255552 bytes"),
        ({"snap_on_start": True}, "is a snapshot that is kept"),
        ({"source": "qubes_dom0/vm-vault-root"}, "has a source"),
        ({"vid": "qubes_dom0"}, "is at 'qubes_dom0', which is no place"),
        ({"vid": "qubes_dom0/../sda"}, "no place of driver lvm_thin"),
        ({"vid": "../sda"}, "no place of driver lvm_thin"),
        ({"vid": "qubes_dom0/-x"}, "no place of driver lvm_thin"),
        ({"vid": "-x/y"}, "no place of driver lvm_thin"),
        ({"vid": "/dev/sda"}, "no place of driver lvm_thin"),
        ({"vid": "../../etc/x", "pool": "big"}, "no place of driver file"),
        ({"vid": "a//b", "pool": "big"}, "no place of driver file"),
    ],
)
def test_a_volume_that_cannot_be_taken_is_refused(
    changes: Mapping[str, object], said: str
) -> None:
    error = refused(volume(golden(), "work", "private", **changes), "work")
    assert said in error.message
    assert "volume private of 'work'" in error.message
    # nobody looks at it where it is not needed
    rewrite(volume(golden(), "work", "private", **changes), "vault")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": None}, "has no source"),
        ({"source": "qubes_dom0/vm-nobody-root"}, "not a volume of its"),
        ({"source": "qubes_dom0/vm-fedora-43-root"}, "not a volume of its"),
        ({"source": "qubes_dom0/vm-work-private"}, "not a volume of its"),
        ({"pool": "varlibqubes"}, "in the same pool"),
    ],
)
def test_a_snapshot_of_nothing_is_refused(
    changes: Mapping[str, object], said: str
) -> None:
    error = refused(volume(golden(), "work", "root", **changes), "work")
    assert said in error.message


def test_an_unknown_driver_matters_only_where_it_is_needed() -> None:
    found = golden()
    zfs = replace(found.pools["big"], driver="zfs")
    found = replace(found, pools={**found.pools, "big": zfs})
    error = refused(found, "windows")
    assert "driver 'zfs' (expected lvm_thin, file-reflink" in error.message
    assert "qvm-clone -P" in error.hint
    rewrite(found, "work")


def test_a_file_pool_without_a_folder_is_refused() -> None:
    found = golden()
    for path in ("", "/", "../x", "/a/../etc", "/a\nb"):
        big = replace(found.pools["big"], options={"dir_path": path})
        pools = {**found.pools, "big": big}
        if path in {"", "/"}:
            made = rewrite(replace(found, pools=pools), "windows")
            assert "appvms/windows/root.img" in {v.place for v in made.volumes}
        else:
            assert (
                "no place"
                in refused(replace(found, pools=pools), "windows").message
            )


# of every store


def dangling(made: Store) -> list[str]:
    """What in a store names a qube, a pool or a volume that is not there."""
    there = made.domains.keys()
    vids = {v.vid for d in made.domains.values() for v in d.volumes.values()}
    found = [
        f"{name}: {value}"
        for name, value in made.settings.items()
        if (name.endswith(("vm", "template")) and name != "check_updates_vm")
        and value not in {"", *there}
    ]
    found += [
        value
        for name, value in made.settings.items()
        if "pool" in name and value not in made.pools
    ]
    for one in made.domains.values():
        found += [
            f"{one.name}: {name}: {value}"
            for name, value in one.properties.items()
            if name.endswith(("vm", "template")) and value not in {"", *there}
        ]
        found += [d.backend for d in one.devices if d.backend not in there]
        found += [d.klass for d in one.devices if d.klass == "pci"]
        found += [
            v.pool for v in one.volumes.values() if v.pool not in made.pools
        ]
        found += [
            v.source
            for v in one.volumes.values()
            if v.source is not None and v.source not in vids
        ]
        for tag in one.tags:
            kind, _, name = tag.partition("-")
            if kind in {"guivm", "audiovm", "relayvm"} and name not in there:
                found.append(tag)
    return found


def test_what_dangles_is_seen() -> None:
    assert dangling(golden()) != []
    left = {k: v for k, v in golden().domains.items() if k != "sys-firewall"}
    assert "default_netvm: sys-firewall" in dangling(
        replace(golden(), domains=left)
    )


@given(qubes_drawn.choices())
def test_nothing_dangles(drawn: tuple[Store, list[str]]) -> None:
    found, chosen = drawn
    made = rewrite(found, *chosen)
    assert dangling(made.store) == []
    assert set(chosen) <= set(made.kept) <= found.domains.keys() - {"dom0"}
    assert qubes_store.read(made.xml, "made") == made.store
    targets = [v.target for v in made.volumes]
    assert len(set(targets)) == len(targets)
    folders = {*made.folders, "vm-kernels"}
    assert {t.rpartition("/")[0] for t in targets} <= folders


@given(qubes_drawn.choices())
def test_once_more_changes_nothing(drawn: tuple[Store, list[str]]) -> None:
    found, chosen = drawn
    made = rewrite(found, *chosen)
    again = rewrite(qubes_store.read(made.xml, "made"), *chosen)
    assert again.xml == made.xml
    assert (again.kept, again.autostart) == (made.kept, made.autostart)
    assert [v.target for v in again.volumes] == [v.target for v in made.volumes]
    assert again.dropped_devices == ()


@given(qubes_drawn.choices())
def test_more_chosen_keeps_no_less(drawn: tuple[Store, list[str]]) -> None:
    found, chosen = drawn
    assume(chosen)
    less = rewrite(found, *chosen[1:])
    assert set(less.kept) <= set(rewrite(found, *chosen).kept)


def test_a_file_of_qubesd_is_rewritten() -> None:
    found = qubes_store.read(REAL.read_bytes(), "qubes.xml")
    made = rewrite(found, "work", "disp77", "windows")
    assert dangling(made.store) == []
    assert LVM.driver not in {p.driver for p in made.store.pools.values()}
    assert qubes_write.write(made.store) == made.xml
