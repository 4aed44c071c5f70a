"""A client's qubes.xml: which qubes stay, and what names those that go."""

from dataclasses import replace

import pytest
from hypothesis import assume, given

from sys_pxe.dom0 import qubes_store, qubes_write
from sys_pxe.dom0.qubes_store import Device, Store
from tests import qubes_drawn
from tests.qubes_rewriting import KERNEL, REAL, rewrite
from tests.qubes_stores import LVM, change, domain, golden, put

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


# autostart


def test_what_starts_at_boot_is_told() -> None:
    assert rewrite(golden(), "work").autostart == ("sys-net", "sys-firewall")
    assert rewrite(golden(), "vault").autostart == ()
    found = change(golden(), "vault", {"autostart": "yes"})
    assert rewrite(found, "vault").autostart == ("vault",)
    found = change(golden(), "vault", {"autostart": "False"})
    assert rewrite(found, "vault").autostart == ()


# of every store

# as Qubes' core-admin has them in qubes/ext and qubes/vm; on purpose not
# those of the code
TAGS_OF_QUBES = (
    *("guivm-", "audiovm-", "relayvm-"),
    *("created-by-", "disp-created-by-"),
)
FEATURES_OF_QUBES = (
    *("set-created-guivm", "preload-dispvm"),
    *("preload-dispvm-completed", "preload-dispvm-in-progress"),
)


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
        found += [
            tag
            for tag in one.tags
            for prefix in TAGS_OF_QUBES
            if tag.startswith(prefix) and tag.removeprefix(prefix) not in there
        ]
        found += [
            f"{one.name}: {name}: {qube}"
            for name in FEATURES_OF_QUBES
            for qube in one.features.get(name, "").split()
            if qube not in there
        ]
    return found


def test_what_dangles_is_seen() -> None:
    assert dangling(golden()) != []
    left = {k: v for k, v in golden().domains.items() if k != "sys-firewall"}
    assert "default_netvm: sys-firewall" in dangling(
        replace(golden(), domains=left)
    )


@pytest.mark.parametrize("name", FEATURES_OF_QUBES)
def test_a_feature_that_dangles_is_seen(name: str) -> None:
    vault = golden().domains["vault"]
    found = put(golden(), replace(vault, features={name: "work gone"}))
    assert f"vault: {name}: gone" in dangling(found)
    assert f"vault: {name}: work" not in dangling(found)


@pytest.mark.parametrize("prefix", TAGS_OF_QUBES)
def test_a_tag_that_dangles_is_seen(prefix: str) -> None:
    vault = golden().domains["vault"]
    tags = (f"{prefix}gone", f"{prefix}work")
    found = dangling(put(golden(), replace(vault, tags=tags)))
    assert tags[0] in found
    assert tags[1] not in found


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
