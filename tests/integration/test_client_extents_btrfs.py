"""Extents on a real btrfs: what was there before, what was written since."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe import files, run
from sys_pxe.client import extents, measure
from sys_pxe.client.measure import Places

MIB = 1 << 20


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A mounted btrfs of 512 MiB whose one image stands for a seed's."""
    image, mounted = tmp_path / "image", tmp_path / "mounted"
    with files.new_sparse(image, 512 * MIB):
        pass
    mounted.mkdir()
    run.run(["mkfs.btrfs", "-q", "-m", "single", str(image)])
    run.run(["mount", "-o", "loop,noatime", str(image), str(mounted)])
    try:
        (mounted / "root.img").write_bytes(os.urandom(8 * MIB))
        os.sync()
        yield mounted
    finally:
        run.run(["umount", str(mounted)])


def reflink(source: Path, target: Path) -> None:
    run.run(["cp", "--reflink=always", str(source), str(target)])


def overwrite(path: Path, at: int, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, content, at)
        os.fsync(fd)
    finally:
        os.close(fd)


def test_a_copy_takes_only_what_was_written_to_it(volume: Path) -> None:
    boundary = extents.end_of([volume / "root.img"])
    assert boundary > 8 * MIB
    copy = volume / "root-dirty.img"
    reflink(volume / "root.img", copy)
    assert extents.own_bytes(copy, boundary) == 0
    assert extents.own_bytes(copy, 0) == 8 * MIB
    overwrite(copy, 3 * MIB, os.urandom(MIB))
    assert extents.own_bytes(copy, boundary) == MIB
    assert extents.own_bytes(volume / "root.img", boundary) == 0


def test_what_waits_to_be_written_counts(volume: Path) -> None:
    boundary = extents.end_of([volume / "root.img"])
    with open(volume / "new.img", "wb") as stream:
        stream.write(os.urandom(2 * MIB))
        stream.flush()
        assert extents.own_bytes(volume / "new.img", boundary) == 2 * MIB


def test_revisions_that_share_their_blocks_count_once(volume: Path) -> None:
    boundary = extents.end_of([volume / "root.img"])
    first, second = volume / "private.img", volume / "private-dirty.img"
    reflink(volume / "root.img", first)
    overwrite(first, 0, os.urandom(MIB))
    reflink(first, second)
    overwrite(second, 2 * MIB, os.urandom(MIB))
    assert extents.own_bytes(second, boundary) == 2 * MIB
    assert extents.own_of([first, second], boundary) == 2 * MIB


def test_more_extents_than_one_answer_holds(volume: Path) -> None:
    boundary = extents.end_of([volume / "root.img"])
    copy = volume / "many.img"
    reflink(volume / "root.img", copy)
    fd = os.open(copy, os.O_WRONLY)
    try:
        # every second block of 4 KiB
        for at in range(0, 8 * MIB, 8192):
            os.pwrite(fd, b"x" * 4096, at)
    finally:
        os.close(fd)
    os.sync()
    assert len(list(extents.extents(copy))) > 1000
    assert extents.own_bytes(copy, boundary) == 4 * MIB


def test_compressed_extents_keep_the_boundary_in_the_seed(
    volume: Path,
) -> None:
    run.run(["mount", "-o", "remount,compress-force=zstd", str(volume)])
    packed = volume / "packed.img"
    packed.write_bytes(b"much alike " * (MIB // 11))
    os.sync()
    boundary = extents.end_of([volume / "root.img", packed])
    assert extents.own_bytes(packed, boundary) == 0
    found = list(extents.extents(packed))
    assert boundary >= max(e.physical for e in found) + 4096
    reflink(packed, volume / "copy.img")
    assert extents.own_bytes(volume / "copy.img", boundary) == 0


def test_what_was_promised_is_seen_before_it_is_allocated(
    volume: Path, tmp_path: Path
) -> None:
    """statvfs alone would notice half a minute later."""
    source = run.run(["findmnt", "-no", "SOURCE", str(volume)])
    device = source.stdout.decode().strip().removeprefix("/dev/")
    fake = tmp_path / "sys"
    (fake / "block/zram0").mkdir(parents=True)
    (fake / "block/zram0/disksize").write_text(f"{512 * MIB}\n")
    (mine,) = Path("/sys/fs/btrfs").glob(f"*/devices/{device}")
    folder = fake / "fs/btrfs" / mine.parent.parent.name
    (folder / "devices/zram0").mkdir(parents=True)
    (folder / "allocation").symlink_to(mine.parent.parent / "allocation")
    places = Places(tmp_path, volume, fake)
    before = measure.pool(places, measure.room)
    with open(volume / "hog.img", "wb") as stream:
        stream.write(os.urandom(100 * MIB))
        stream.flush()
        now = measure.pool(places, measure.room)
    assert now.used_bytes - before.used_bytes >= 99 * MIB


def test_a_reserve_takes_room_and_gives_it_back(volume: Path) -> None:
    reserve = volume / ".sys-pxe-reserve"
    before = measure.room(volume).free
    files.allocate(reserve, 32 * MIB)
    os.sync()
    assert before - measure.room(volume).free >= 32 * MIB
    # nothing is written for it, so it takes no RAM in a zram
    assert reserve.stat().st_size == 32 * MIB
    with pytest.raises(FileExistsError):
        files.allocate(reserve, MIB)
    files.remove(reserve)
    os.sync()
    assert measure.room(volume).free == before
    with pytest.raises(OSError, match="No space left"):
        files.allocate(reserve, 1 << 30)
    assert not reserve.exists()


def test_a_full_pool_takes_writes_again_without_its_reserve(
    volume: Path,
) -> None:
    reserve = volume / ".sys-pxe-reserve"
    files.allocate(reserve, 32 * MIB)
    other = volume / "other.img"
    with files.new_sparse(other, 16 * MIB):
        pass
    with (
        pytest.raises(OSError, match="No space left"),
        open(volume / "hog.img", "wb", buffering=0) as stream,
    ):
        for _ in range(600):
            stream.write(os.urandom(MIB))
    content = os.urandom(16 * MIB)
    with pytest.raises(OSError, match="No space left"):
        overwrite(other, 0, content)
    files.remove(reserve)
    # at once: btrfs commits what was freed before it refuses a write
    overwrite(other, 0, content)
    assert other.read_bytes() == content
