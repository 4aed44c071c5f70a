"""The golden image on real file systems: btrfs, images, no snapshots. Root."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sys_pxe import files, run
from sys_pxe.dom0 import marks
from sys_pxe.lab import disks
from tests.integration.source_room import (
    MIB,
    Place,
    fill,
    held,
    image,
    mounted,
    probe,
)


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Place]:
    """A btrfs whose subvolume ``@ root`` is mounted, as a root would be."""
    base = tmp_path / "a place, with: odd=name"
    base.mkdir()
    disk = image(base / "disk", 256, "mkfs.btrfs", "-q")
    with ExitStack() as stack:
        options = ("-t", "btrfs", "-o", "loop,subvolid=5")
        top = stack.enter_context(mounted(disk, base / "top", *options))
        run.run(["btrfs", "subvolume", "create", str(top / "@ root")])
        fill(top / "@ root")
        device = run.run(
            ["findmnt", "-n", "-o", "SOURCE", "--mountpoint", str(top)]
        ).stdout.decode()
        options = ("-t", "btrfs", "-o", "subvol=@ root")
        golden = stack.enter_context(
            mounted(device.strip(), base / "golden", *options)
        )
        yield Place(disk, top, golden, base / "work")
    assert run.run(["losetup", "-j", str(disk)]).stdout == b""


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Place]:
    """An XFS that gives no snapshot, for its files cannot be cloned."""
    disk = image(
        *(tmp_path / "disk", 300),
        *("mkfs.xfs", "-q", "-m", "reflink=0"),
    )
    with mounted(disk, tmp_path / "top", "-o", "loop") as top:
        fill(top)
        yield Place(disk, top, top, tmp_path / "work")
    assert run.run(["losetup", "-j", str(disk)]).stdout == b""


def test_a_subvolume_is_read_as_it_was(btrfs: Place) -> None:
    found = probe("view", btrfs.golden, btrfs.work)
    assert (found["before"], found["after"]) == ("first", None)
    assert found["inner"] == "inner"
    assert found["refused"] is True
    assert (btrfs.golden / "after").read_text() == "second"
    assert "snapshot of the subvolume /@ root" in str(found["said"])
    assert btrfs.snapshots() == []


def test_a_subvolume_that_is_a_folder_is_read_as_it_was(btrfs: Place) -> None:
    found = probe("view", btrfs.top / "@ root", btrfs.work)
    assert (found["before"], found["after"]) == ("first", None)
    assert btrfs.snapshots() == []


def test_subvolumes_below_are_named_as_left_out(btrfs: Place) -> None:
    for name in ("sub\x1b volume", "sub\x1b volume/deeper", "boot/b", "tmp"):
        run.run(["btrfs", "subvolume", "create", str(btrfs.golden / name)])
    found = probe("view", btrfs.golden, btrfs.work)
    said = str(found["said"])
    assert f"{btrfs.golden}/sub? volume" in said
    assert f"{btrfs.golden}/boot/b" in said
    assert said.count("left out") == 2
    assert "\x1b" not in said


def test_a_folder_on_btrfs_is_read_as_it_is(btrfs: Place) -> None:
    folder = btrfs.golden / "folder"
    fill(files.make_folder(folder))
    found = probe("view", folder, btrfs.work)
    assert (found["before"], found["after"]) == ("second", "second")
    assert found["tree"] == str(folder)


def test_parts_that_are_mounted_are_parts_of_the_snapshot(
    btrfs: Place, xfs: Place
) -> None:
    inner = btrfs.golden / "inner"
    (inner / "file").unlink()
    inner.rmdir()
    run.run(["btrfs", "subvolume", "create", str(inner)])
    (inner / "file").write_text("home")
    device = run.run(
        ["findmnt", "-n", "-o", "SOURCE", "--mountpoint", str(btrfs.top)]
    ).stdout.decode()
    options = ("-t", "btrfs", "-o", "subvol=@ root/inner")
    with (
        mounted(device.strip(), inner, *options),
        mounted(xfs.golden, btrfs.golden / "boot", "--bind"),
    ):
        found = probe("view", btrfs.golden, btrfs.work)
    assert found["inner"] == "home"
    assert str(found["said"]).count("snapshot of the subvolume") == 2
    assert "left out" not in str(found["said"])
    # the boot files may be read live
    assert "warning" not in str(found["said"])
    assert btrfs.snapshots() == []


def test_a_part_that_has_no_snapshot_is_read_with_a_warning(
    btrfs: Place, xfs: Place
) -> None:
    with mounted(xfs.golden, btrfs.golden / "inner", "--bind"):
        found = probe("view", btrfs.golden, btrfs.work)
    assert f"{btrfs.golden}/inner: warning" in str(found["said"])
    assert "xfs gives no snapshot" in str(found["said"])


def test_an_error_leaves_nothing(btrfs: Place) -> None:
    found = probe("fail", btrfs.golden, btrfs.work)
    assert found["error"] == "broken"
    assert btrfs.snapshots() == []


def test_a_file_that_is_still_open_does_not_keep_the_view(btrfs: Place) -> None:
    found = probe("busy", btrfs.golden, btrfs.work)
    assert found["view"] is False
    assert btrfs.snapshots() == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_build_that_is_stopped_leaves_nothing(
    btrfs: Place, name: str
) -> None:
    with held(btrfs) as child:
        assert len(btrfs.snapshots()) == 1
        os.kill(child.pid, signal.Signals[name])
        assert child.wait() != 0
    assert btrfs.snapshots() == []


def test_what_a_killed_build_left_is_removed_by_the_next(btrfs: Place) -> None:
    with held(btrfs) as child:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    (left,) = btrfs.snapshots()
    # what somebody else named like that stays
    other = btrfs.top / f"{marks.PREFIX}of-mine"
    other.mkdir()
    assert str(btrfs.work) not in Path("/proc/self/mounts").read_text()
    found = probe("view", btrfs.golden, btrfs.work)
    assert left in str(found["said"])
    assert btrfs.snapshots() == [other.name]


def test_a_build_that_runs_keeps_its_snapshot(btrfs: Place) -> None:
    with held(btrfs):
        before = btrfs.snapshots()
        probe("view", btrfs.golden, btrfs.work.with_name("other"))
        assert btrfs.snapshots() == before


def test_a_golden_image_without_snapshots_is_read_as_it_is(xfs: Place) -> None:
    found = probe("view", xfs.golden, xfs.work)
    assert found["tree"] == str(xfs.golden)
    assert (found["before"], found["after"]) == ("second", "second")


def test_the_root_without_snapshots_is_read_with_a_warning(
    tmp_path: Path,
) -> None:
    found = probe("view", Path("/"), tmp_path / "work")
    assert found["refused"] is True
    # what is mounted on the running system's folders is no part of it
    assert found["empty"] is True
    assert "/: warning" in str(found["said"])


@pytest.mark.parametrize("maker", ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"])
def test_an_image_file_is_mounted_read_only(tmp_path: Path, maker: str) -> None:
    disk = image(tmp_path / "a b,c", 300, maker, "-q")
    with mounted(disk, tmp_path / "top", "-o", "loop") as top:
        fill(top)
    before = disk.read_bytes()
    found = probe("view", disk, tmp_path / "work")
    assert (found["before"], found["refused"]) == ("first", True)
    assert run.run(["losetup", "-j", str(disk)]).stdout == b""
    assert disk.read_bytes() == before


def test_a_killed_build_frees_the_loop_device_of_an_image(
    tmp_path: Path,
) -> None:
    disk = image(tmp_path / "disk", 16, "mkfs.ext4", "-q")
    place = Place(disk, tmp_path, disk, tmp_path / "work")
    with held(place) as child:
        assert run.run(["losetup", "-j", str(disk)]).stdout != b""
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    # the kernel undoes the mounts of a namespace after its last process
    for _ in range(600):
        if run.run(["losetup", "-j", str(disk)]).stdout == b"":
            return
        time.sleep(0.1)
    pytest.fail("the loop device stays")


@pytest.mark.parametrize("content", [b"", b"no file system", bytes(MIB)])
def test_a_file_that_is_no_image_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "disk").write_bytes(content)
    found = probe("view", tmp_path / "disk", tmp_path / "work")
    assert "no image of a file system" in str(found["error"])
    assert "losetup" in str(found["hint"])


def test_an_image_with_partitions_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(disks.partition_table(8, 8).ljust(20 * MIB, b"\0"))
    found = probe("view", disk, tmp_path / "work")
    assert "it holds: dos" in str(found["error"])


def test_an_overlay_leaves_what_is_below_as_it_is(tmp_path: Path) -> None:
    tree = files.make_folder(tmp_path / "tree, with: odd=name")
    fill(tree)
    files.set_mode(tree, 0o711)
    found = probe("overlay", tree, tmp_path / "work")
    assert found["before"] == "changed"
    assert found["mode"] == 0o711
    assert (tree / "before").read_text() == "first"
