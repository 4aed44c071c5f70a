"""Qubes and volumes that no client's qubes.xml can have, told by name."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from sys_pxe.dom0.qubes_store import Store
from sys_pxe.errors import InvalidInput
from tests import qubes_stores
from tests.qubes_rewriting import rewrite, volume
from tests.qubes_stores import change, golden, put, store


def refused(found: Store, *chosen: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        rewrite(found, *chosen)
    assert caught.value.message.startswith("qubes of set office: ")
    return caught.value


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
