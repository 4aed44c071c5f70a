"""The lab's qubes as files: qubes.xml, the order of modules."""

from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from sys_pxe.errors import SysPxeError
from sys_pxe.lab import qubes

VERSION = "6.12.1-lab"
TABLE = (
    "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2.ko.xz kernel/lib/crc16.ko\n"
    "kernel/fs/jbd2.ko.xz: kernel/lib/crc16.ko\n"
    "kernel/lib/crc16.ko:\n"
    "kernel/drivers/block/xen-blkfront.ko.xz:\n"
)


@pytest.fixture
def root() -> Element:
    return ElementTree.fromstring(qubes.store(VERSION))


def values(node: Element) -> dict[str, str | None]:
    found = node.iterfind("properties/property")
    return {str(p.get("name")): p.text for p in found}


def domains(root: Element) -> dict[str, Element]:
    found = root.iterfind("domains/domain")
    return {values(d).get("name") or "dom0": d for d in found}


def test_modules_come_after_what_they_need() -> None:
    order = qubes.module_order(TABLE, ("ext4", "xen-blkfront"))
    assert [Path(path).name for path in order] == [
        "crc16.ko", "jbd2.ko.xz", "ext4.ko.xz", "xen-blkfront.ko.xz",
    ]  # fmt: skip


@pytest.mark.parametrize("table", ["", "kernel/ext4x.ko:\n"])
def test_a_module_that_is_not_there_is_named(table: str) -> None:
    with pytest.raises(SysPxeError, match="no module ext4"):
        qubes.module_order(table, ("ext4",))


def test_every_name_in_the_store_leads_somewhere(root: Element) -> None:
    known = domains(root)
    assert set(known) == {
        "dom0", qubes.TEMPLATE, *(qube.name for qube in qubes.QUBES)
    }  # fmt: skip
    for node in (root, *known.values()):
        of_one = values(node)
        for name in ("template", "netvm", "default_template"):
            assert of_one.get(name) in (None, *known)
        assert of_one.get("kernel") in (None, VERSION)
    labels = {label.text for label in root.iterfind("labels/label")}
    assert {values(node)["label"] for node in known.values()} <= labels


def test_qids_and_uuids_are_unique(root: Element) -> None:
    for name in ("qid", "uuid"):
        found = [values(d).get(name) for d in domains(root).values()]
        given = [value for value in found if value is not None]
        assert len(given) == len(set(given)) == len(found) - 1


def test_an_app_qube_snapshots_the_template_and_keeps_its_own(
    root: Element,
) -> None:
    work = domains(root)["work"]
    volumes = {v.get("name"): v for v in work.iterfind("volume-config/volume")}
    assert volumes["root"].get("source") == "vm-templates/lab-template/root"
    assert volumes["root"].get("snap_on_start") == "True"
    assert volumes["private"].get("save_on_stop") == "True"
    assert volumes["private"].get("vid") == "appvms/work/private"
    assert volumes["kernel"].get("vid") == VERSION
    pools = {pool.get("name") for pool in root.iterfind("pools/pool")}
    assert {v.get("pool") for v in volumes.values()} <= pools


def test_only_the_first_qube_starts_with_the_system(root: Element) -> None:
    started = [
        name
        for name, node in domains(root).items()
        if values(node).get("autostart") == "True"
    ]
    assert started == ["work"]


def test_a_tree_without_a_kernel_or_busybox_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SysPxeError, match="holds no vmlinuz"):
        qubes.add(tmp_path)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1").touch()
    with pytest.raises(SysPxeError, match="no usr/bin/busybox") as caught:
        qubes.add(tmp_path)
    assert "busybox-static" in caught.value.hint
    assert not (tmp_path / qubes.FOLDER).exists()
