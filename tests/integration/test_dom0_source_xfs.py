"""The golden image on an XFS with reflinks: copied without data, left clean."""

import itertools
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path

import pytest

from sys_pxe import files, run
from sys_pxe.dom0 import marks, mountinfo, reflink, source
from sys_pxe.dom0.progress import Reporter
from sys_pxe.errors import SysPxeError
from tests.integration.source_room import (
    MIB,
    REPOSITORY,
    Place,
    argv,
    fill,
    held,
    image,
    mounted,
    probe,
)

# VFS_CAP_REVISION_2 with cap_net_raw, linux/capability.h
CAPABILITY = b"\1\0\0\2\0\x20" + bytes(14)


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Place]:
    base = files.make_folder(tmp_path / "a place, with: odd=name")
    disk = image(base / "disk", 300, "mkfs.xfs", "-q", "-m", "reflink=1")
    with mounted(disk, base / "top", "-o", "loop") as top:
        fill(top)
        yield Place(disk, top, top, base / "work")
        assert list(top.glob(marks.FOLDERS)) == []
    assert run.run(["losetup", "-j", str(disk)]).stdout == b""


@contextmanager
def copying(xfs: Place) -> Iterator["subprocess.Popen[bytes]"]:
    """Yield a build that is in the middle of copying, and stays there."""
    # a colon in its path would end it in PATH
    tools = files.make_folder(xfs.image.parents[1] / "tools")
    there = tools / "there"
    text = f'#!/bin/sh\n/bin/cp "$@"\necho $$ > "{there}"\nexec sleep 600\n'
    files.write(tools / "cp", text.encode(), 0o755)
    path = f"{tools}:{run.environment()['PATH']}"
    child = run.spawn(
        argv("hold", xfs.golden, xfs.work),
        stdout=run.DEVNULL,
        stderr=run.DEVNULL,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": path},
    )
    try:
        wait_until(lambda: there.exists() and there.read_text().endswith("\n"))
        yield child
    finally:
        child.kill()
        child.wait()
    tool = Path("/proc", there.read_text().strip(), "cmdline")
    wait_until(lambda: not tool.exists() or b"sleep" not in tool.read_bytes())


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(1200):
        if happened():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen")


def test_a_file_is_read_as_it_was(xfs: Place) -> None:
    found = probe("view", xfs.golden, xfs.work)
    assert (found["before"], found["after"]) == ("first", None)
    assert found["inner"] == "inner"
    assert found["refused"] is True
    assert (xfs.golden / "after").read_text() == "second"
    said = str(found["said"])
    assert "XFS reflinks" in said
    assert "one after the other" in said
    assert "warning" not in said


def test_a_copy_has_all_that_a_release_needs(xfs: Place) -> None:
    top = xfs.golden
    top.chmod(0o711)
    place = files.make_folder(top / "var/lib/qubes/appvms/work")
    volume = place / "private.img"
    with files.new_sparse(volume, 900 * MIB) as stream:
        os.pwrite(stream.fileno(), b"x" * 100 * MIB, 500 * MIB)
    tool = top / "tool"
    tool.write_bytes(b"tool")
    os.chown(tool, 1000, 107)
    tool.chmod(0o4751)
    os.setxattr(tool, "security.capability", CAPABILITY)
    os.setxattr(tool, "user.note", b"\0note")
    os.link(tool, top / "inner/other name\n")
    (top / "link").symlink_to("tool")
    os.mkfifo(top / "pipe")
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.utime(tool, ns=(1, 2_000_000_003))
    os.sync()
    before = os.statvfs(top).f_bfree
    with reflink.snapshot(top, xfs.work, Reporter(quiet=True)) as tree:
        used = (before - os.statvfs(top).f_bfree) * os.statvfs(top).f_bsize
        assert used < 10 * MIB
        assert stat.S_IMODE(tree.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(tree.stat().st_mode) == 0o711
        copied, seen = tree / "tool", (tree / "tool").stat()
        assert (seen.st_uid, seen.st_gid) == (1000, 107)
        assert stat.S_IMODE(seen.st_mode) == 0o4751
        assert seen.st_mtime_ns == 2_000_000_003
        assert os.getxattr(copied, "security.capability") == CAPABILITY
        assert os.getxattr(copied, "user.note") == b"\0note"
        assert (tree / "inner/other name\n").samefile(copied)
        assert seen.st_nlink == 2
        assert os.readlink(tree / "link") == "tool"
        assert (tree / "pipe").is_fifo()
        assert (tree / "null").stat().st_rdev == os.makedev(1, 3)
        own = (tree / "var/lib/qubes/appvms/work/private.img").stat()
        assert (own.st_size, own.st_blocks) == (
            900 * MIB,
            volume.stat().st_blocks,
        )


def test_what_a_release_has_empty_is_not_copied(xfs: Place) -> None:
    for name in ("tmp/x", "var/tmp/y"):
        files.make_folder(xfs.golden / name)
    folder = xfs.golden / "var/tmp"
    folder.chmod(0o1777)
    os.chown(folder, 3, 4)
    os.utime(folder, ns=(1, 2_000_000_003))
    (xfs.golden / "dev").symlink_to("inner")
    outside = files.make_folder(xfs.image.parent / "outside")
    (outside / "kept").touch()
    (xfs.golden / "run").symlink_to(outside)
    with (
        mounted("tmpfs", xfs.golden / "inner", "-t", "tmpfs"),
        reflink.snapshot(xfs.golden, xfs.work, Reporter(quiet=True)) as tree,
    ):
        names = {"before", "boot", "dev", "inner", "proc", "run", "tmp"}
        assert {path.name for path in tree.iterdir()} == {*names, "var"}
        assert (tree / "run/kept").exists()
        assert list((tree / "tmp").iterdir()) == []
        # what lies below a mount is a part of the disk
        assert (tree / "inner/file").read_text() == "inner"
        seen = (tree / "var/tmp").stat()
        assert list((tree / "var/tmp").iterdir()) == []
        assert stat.S_IMODE(seen.st_mode) == 0o1777
        assert (seen.st_uid, seen.st_gid) == (3, 4)
        assert seen.st_mtime_ns == 2_000_000_003


def test_a_swap_file_in_use_comes_out_empty(xfs: Place) -> None:
    swap = xfs.golden / "swap"
    files.allocate(swap, 8 * MIB)
    swap.chmod(0o600)
    run.run(["mkswap", str(swap)])
    run.run(["swapon", str(swap)])
    try:
        made = reflink.snapshot(xfs.golden, xfs.work, Reporter(quiet=True))
        with made as tree:
            assert (tree / "before").read_text() == "first"
            assert (tree / "swap").stat().st_size == 0
    finally:
        run.run(["swapoff", str(swap)])


def test_an_error_leaves_nothing(xfs: Place) -> None:
    found = probe("fail", xfs.golden, xfs.work)
    assert found["error"] == "broken"


def test_a_file_that_is_still_open_does_not_keep_the_view(xfs: Place) -> None:
    found = probe("busy", xfs.golden, xfs.work)
    assert found["view"] is False


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_build_that_is_stopped_leaves_nothing(xfs: Place, name: str) -> None:
    with held(xfs) as child:
        assert len(xfs.snapshots()) == 1
        os.kill(child.pid, signal.Signals[name])
        assert child.wait() != 0
    assert xfs.snapshots() == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_build_that_is_stopped_while_it_copies_leaves_nothing(
    xfs: Place, name: str
) -> None:
    with copying(xfs) as child:
        (folder,) = xfs.snapshots()
        assert (xfs.top / folder / reflink.TREE / "before").exists()
        os.kill(child.pid, signal.Signals[name])
        assert child.wait() != 0
        assert xfs.snapshots() == []


def test_a_build_that_is_killed_while_it_copies_is_swept(xfs: Place) -> None:
    with copying(xfs) as child:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    # cp went with it: nothing fills the folder any more
    (left,) = xfs.snapshots()
    other = xfs.top / f".{marks.PREFIX}of-mine"
    other.mkdir()
    assert str(xfs.work) not in Path("/proc/self/mounts").read_text()
    found = probe("view", xfs.golden, xfs.work)
    assert f"{left}, left by a build" in str(found["said"])
    assert xfs.snapshots() == [other.name]
    other.rmdir()


def test_a_build_that_runs_keeps_its_copy(xfs: Place) -> None:
    with held(xfs):
        before = xfs.snapshots()
        work = xfs.work.with_name("other")
        with reflink.snapshot(xfs.golden, work, Reporter(quiet=True)) as tree:
            # nor is it in the other copy
            assert list(tree.glob(marks.FOLDERS)) == []
        assert xfs.snapshots() == before
    # it was killed at last: the next one sweeps it
    probe("view", xfs.golden, xfs.work)


def test_a_file_system_that_is_full_is_named(xfs: Place) -> None:
    folder = files.make_folder(xfs.golden / "many")
    for number in range(3000):
        (folder / str(number)).touch()
    room = os.statvfs(xfs.golden)
    # less than 3000 inodes of 512 bytes, more than a new folder takes
    files.allocate(xfs.golden / "fills", room.f_bavail * room.f_bsize - MIB)
    with (
        pytest.raises(SysPxeError, match="No space left") as caught,
        reflink.snapshot(xfs.golden, xfs.work, Reporter(quiet=True)),
    ):
        pytest.fail("copied")
    assert "is there room" in caught.value.hint
    assert str(xfs.work) not in Path("/proc/self/mounts").read_text()


def test_a_file_system_without_a_free_block_is_named(xfs: Place) -> None:
    run.run(
        ["dd", "if=/dev/zero", f"of={xfs.golden}/fills", "bs=4k"], check=False
    )
    with suppress(OSError):
        for number in itertools.count():
            (xfs.golden / f"inner/{number}").mkdir()
    found = probe("view", xfs.golden, xfs.work)
    assert "No space left on device" in str(found["error"])
    assert "is there room" in str(found["hint"])


def test_a_part_of_the_system_is_copied_too(xfs: Place, tmp_path: Path) -> None:
    disk = image(tmp_path / "home", 300, "mkfs.xfs", "-q")
    with mounted(disk, xfs.golden / "inner", "-o", "loop") as inner:
        (inner / "file").write_text("home")
        found = probe("view", xfs.golden, xfs.work)
        assert list(inner.glob(marks.FOLDERS)) == []
    assert found["inner"] == "home"
    assert str(found["said"]).count("XFS reflinks") == 2


def test_a_mount_that_cannot_be_written_to_is_read_as_it_is(xfs: Place) -> None:
    place = xfs.image.parent / "read-only"
    with mounted(xfs.golden, place, "--bind"):
        run.run(["mount", "-o", "remount,bind,ro", str(place)])
        assert not reflink.possible(place)
        assert reflink.possible(xfs.golden)
        facts = source.gather(place, mountinfo.table())
        assert source.decide(facts) is source.Kind.FOLDER


def test_a_sweep_that_fails_is_told(xfs: Place) -> None:
    left = xfs.golden / f".{marks.PREFIX}1-1-1"
    left.mkdir()
    run.run(["chattr", "+i", str(left)])
    said = StringIO()
    try:
        with reflink.snapshot(xfs.golden, xfs.work, Reporter(said)) as tree:
            assert (tree / "before").exists()
    finally:
        run.run(["chattr", "-i", str(left)])
        left.rmdir()
    assert "warning: it stays: Operation not permitted" in said.getvalue()
