"""Extents on a real btrfs: what was there before, what was written since."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sys_pxe import files, run
from sys_pxe.client import chunks, extents, measure, pool
from sys_pxe.client.measure import Places

MIB = 1 << 20


@dataclass(frozen=True)
class Sprouted:
    """A pool: where it is mounted, its boundary, where its seed's data end."""

    place: Path
    boundary: int
    used: int


def image(path: Path, mib: int) -> Path:
    files.new_sparse(path, mib * MIB).close()
    return path


def mkfs(path: Path) -> None:
    run.run(["mkfs.btrfs", "-q", "-m", "single", str(path)])


@contextmanager
def loop(path: Path) -> Iterator[Path]:
    found = run.run(["losetup", "--find", "--show", str(path)])
    device = found.stdout.decode().strip()
    try:
        yield Path(device)
    finally:
        run.run(["losetup", "--detach", device])


@contextmanager
def mounted(path: Path, place: Path, options: str) -> Iterator[Path]:
    run.run(["mount", "-o", f"loop,noatime,{options}", str(path), str(place)])
    try:
        yield place
    finally:
        run.run(["umount", str(place)])


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A mounted btrfs of 512 MiB whose one image stands for a seed's."""
    path, place = image(tmp_path / "image", 512), tmp_path / "mounted"
    place.mkdir()
    mkfs(path)
    with mounted(path, place, "rw"):
        (place / "root.img").write_bytes(os.urandom(8 * MIB))
        os.sync()
        yield place


@pytest.fixture
def sprouted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sprouted]:
    """The client's pool; a loop device stands for the zram."""
    seed, place = image(tmp_path / "seed", 512), tmp_path / "pool"
    place.mkdir()
    mkfs(seed)
    with mounted(seed, place, "compress=zstd"):
        (place / "root.img").write_bytes(os.urandom(8 * MIB))
        (place / "packed.img").write_bytes(b"much alike " * (MIB // 11))
        os.sync()
        used = max(
            e.physical
            for name in ("root.img", "packed.img")
            for e in extents.extents(place / name)
        )
    run.run(["btrfstune", "-S", "1", str(seed)])
    monkeypatch.setattr(pool, "POOL", place)
    monkeypatch.setattr(pool, "RESERVE", place / ".sys-pxe-reserve")
    monkeypatch.setattr(pool, "SYSFS", tmp_path)
    with loop(image(tmp_path / "sprout", 512)) as device:
        monkeypatch.setattr(pool, "ZRAM", device)
        try:
            made = pool.make(seed, 512)
            yield Sprouted(place, made.boundary, used)
        finally:
            run.run(["umount", str(place)])


def reflink(source: Path, target: Path) -> None:
    run.run(["cp", "--reflink=always", str(source), str(target)])


def overwrite(path: Path, at: int, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, content, at)
        os.fsync(fd)
    finally:
        os.close(fd)


def test_a_copy_takes_only_what_was_written_to_it(sprouted: Sprouted) -> None:
    place, boundary = sprouted.place, sprouted.boundary
    copy = place / "root-dirty.img"
    reflink(place / "root.img", copy)
    assert extents.own_bytes(copy, boundary) == 0
    assert extents.own_bytes(copy, 0) == 8 * MIB
    overwrite(copy, 3 * MIB, os.urandom(MIB))
    assert extents.own_bytes(copy, boundary) == MIB
    assert extents.own_bytes(place / "root.img", boundary) == 0


def test_what_waits_to_be_written_counts(sprouted: Sprouted) -> None:
    with open(sprouted.place / "new.img", "wb") as stream:
        stream.write(os.urandom(2 * MIB))
        stream.flush()
        own = extents.own_bytes(sprouted.place / "new.img", sprouted.boundary)
        assert own == 2 * MIB


def test_revisions_that_share_their_blocks_count_once(
    sprouted: Sprouted,
) -> None:
    place, boundary = sprouted.place, sprouted.boundary
    first, second = place / "private.img", place / "private-dirty.img"
    reflink(place / "root.img", first)
    overwrite(first, 0, os.urandom(MIB))
    reflink(first, second)
    overwrite(second, 2 * MIB, os.urandom(MIB))
    assert extents.own_bytes(second, boundary) == 2 * MIB
    assert extents.own_of([first, second], boundary) == 2 * MIB


def test_more_extents_than_one_answer_holds(sprouted: Sprouted) -> None:
    copy = sprouted.place / "many.img"
    reflink(sprouted.place / "root.img", copy)
    fd = os.open(copy, os.O_WRONLY)
    try:
        # every second block of 4 KiB
        for at in range(0, 8 * MIB, 8192):
            os.pwrite(fd, b"x" * 4096, at)
    finally:
        os.close(fd)
    os.sync()
    assert len(list(extents.extents(copy))) > 1000
    assert extents.own_bytes(copy, sprouted.boundary) == 4 * MIB


def test_compressed_extents_of_the_seed_are_no_ones_own(
    sprouted: Sprouted,
) -> None:
    place, boundary = sprouted.place, sprouted.boundary
    assert extents.own_bytes(place / "packed.img", 0) > 0
    assert extents.own_bytes(place / "packed.img", boundary) == 0
    reflink(place / "packed.img", place / "copy.img")
    assert extents.own_bytes(place / "copy.img", boundary) == 0


def test_nothing_new_goes_below_the_boundary(sprouted: Sprouted) -> None:
    """Not where the seed's chunks are empty, or become so."""
    place, boundary = sprouted.place, sprouted.boundary
    # there would be room for it
    assert boundary - sprouted.used > 32 * MIB
    assert chunks.end_of(place) > boundary
    with open(place / "promised.img", "wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, 8 * MIB)
    for name in ("root.img", "packed.img"):
        reflink(place / name, place / f"{name}.copy")
        (place / name).unlink()
        (place / f"{name}.copy").unlink()
    for number in range(10):
        new = place / f"{number}.img"
        new.write_bytes(os.urandom(24 * MIB))
        # a commit; what was freed before can be given again
        os.sync()
        assert extents.own_bytes(new, boundary) == 24 * MIB
    assert extents.own_bytes(place / "promised.img", boundary) == 8 * MIB


def test_the_end_is_that_of_the_chunk_tree(sprouted: Sprouted) -> None:
    """As btrfs' own tools tell it."""
    found = run.run(
        ["btrfs", "inspect-internal", "dump-tree", "-t", "chunk",
         str(sprouted.place.parent / "seed")]
    )  # fmt: skip
    rows = re.findall(rb"CHUNK_ITEM (\d+)\).*\n\s+length (\d+)", found.stdout)
    assert len(rows) >= 3
    ends = [int(start) + int(length) for start, length in rows]
    assert sprouted.boundary == max(ends)


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
