"""A client's qubes.xml: its pool, its volumes, and those in the seed."""

from dataclasses import replace

import pytest

from sys_pxe.dom0 import qubes_store
from sys_pxe.dom0.qubes_store import Store, StoredVolume
from sys_pxe.dom0.volumes import Volume
from tests import qubes_stores
from tests.qubes_rewriting import KERNEL, REAL, rewrite, volume
from tests.qubes_stores import GIB, change, golden


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
