"""The seed: a real btrfs that holds what its sources held, and no more."""

import os
import random
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.dom0 import seed, seed_fill, seed_image
from sys_pxe.dom0.progress import Bar, Reporter
from sys_pxe.dom0.seed_fill import BLOCK
from sys_pxe.dom0.volumes import Item
from sys_pxe.errors import InvalidInput, SysPxeError

MIB = 1 << 20
QUIET = Reporter(quiet=True)


def loops() -> list[str]:
    return run.run(["losetup", "--all"]).stdout.decode().splitlines()


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Every test, also one that breaks a build, must leave nothing."""
    yield
    assert [line for line in loops() if str(tmp_path) in line] == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert not (tmp_path / "seed").exists()


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    place = folder / "look"
    place.mkdir()
    run.run(["mount", "-o", "loop,ro", str(image), str(place)])
    try:
        yield place
    finally:
        run.run(["umount", str(place)])
        place.rmdir()


def noise(path: Path, count: int, number: int = 1) -> Path:
    maker = random.Random(number)
    with path.open("wb") as stream:
        for at in range(0, count, MIB):
            stream.write(maker.randbytes(min(MIB, count - at)))
    return path


def texts(path: Path, count: int, number: int = 1) -> Path:
    """Write what compresses to about a third, like programs."""
    maker = random.Random(number)
    words = [maker.randbytes(6) for _ in range(4096)]
    path.write_bytes(b"".join(maker.choices(words, k=count // 6 + 1))[:count])
    return path


def build(
    folder: Path,
    items: Sequence[Item],
    folders: Sequence[str] = (),
    level: int = 3,
    gid: int = 0,
) -> Path:
    target = folder / "seed.img"
    seed.build(target, items, folders, folder, level, QUIET, gid)
    return target


def item(target: str, source: Path) -> Item:
    return Item(target, source, source.stat().st_size)


def test_the_seed_holds_the_bytes_of_its_sources(tmp_path: Path) -> None:
    root = texts(tmp_path / "root", 40 * MIB + 12345)
    private = noise(tmp_path / "private", 3 * MIB + 1, 2)
    # the same 3 samples in each block, another middle: never shared
    alike = bytearray(noise(tmp_path / "alike", BLOCK, 3).read_bytes())
    with (tmp_path / "alike").open("wb") as stream:
        for number in range(16):
            alike[5000] = number
            stream.write(alike)
    items = [
        item("vm-templates/debian-13/root.img", root),
        item("appvms/work/private.img", private),
        item("alike", tmp_path / "alike"),
        item("vm-kernels/6.12.1/vmlinuz", noise(tmp_path / "k", 100, 4)),
    ]
    image = build(tmp_path, items, ["vm-kernels/6.12.1"], level=22, gid=98)
    with mounted(image, tmp_path) as place:
        for one in items:
            assert one.source is not None
            held = (place / one.target).read_bytes()
            assert held == one.source.read_bytes(), one.target
        for path in [place, *place.rglob("*")]:
            found = path.stat()
            assert (found.st_uid, found.st_gid) == (0, 98), path
            wanted = 0o2770 if path.is_dir() else 0o660
            assert found.st_mode & 0o7777 == wanted, path
        # seeds are read-only for good
        busy = run.run(["mount", "-o", "remount,rw", str(place)], check=False)
        assert busy.status != 0
    shown = run.run(["btrfs", "inspect-internal", "dump-super", str(image)])
    assert seed_image.is_seed(shown.stdout)
    assert image.stat().st_blocks * 512 < 30 * MIB


def test_a_clone_costs_little(tmp_path: Path) -> None:
    one = texts(tmp_path / "one", 80 * MIB)
    content = bytearray(one.read_bytes())
    for at in range(0, len(content), 8 * MIB):
        content[at + 70_000] ^= 1
        content[at + 70_001] ^= 1
    two = tmp_path / "two"
    two.write_bytes(content)
    alone = build(tmp_path, [item("a", one)]).stat().st_blocks
    (tmp_path / "seed.img").unlink()
    image = build(tmp_path, [item("a", one), item("b/b", two)])
    assert image.stat().st_blocks < 1.1 * alone
    with mounted(image, tmp_path) as place:
        assert (place / "a").read_bytes() == one.read_bytes()
        assert (place / "b/b").read_bytes() == bytes(content)


def test_more_than_the_smallest_image_grows_and_ends_tight(
    tmp_path: Path,
) -> None:
    # nothing of it compresses
    source = noise(tmp_path / "root", 420 * MIB)
    image = build(tmp_path, [item("root.img", source)])
    found = image.stat()
    assert found.st_blocks * 512 < 430 * MIB
    assert found.st_size < 530 * MIB
    with mounted(image, tmp_path) as place:
        run.run(["cmp", str(place / "root.img"), str(source)])


def test_holes_cost_nothing(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as stream:
        stream.truncate(200 << 30)
        os.pwrite(stream.fileno(), b"middle", 100 << 30)
        os.pwrite(stream.fileno(), b"end", (200 << 30) - 3)
    image = build(
        tmp_path,
        [
            item("sparse.img", sparse),
            Item("empty.img", None, 2 << 30),
            Item("nothing.img", None, 0),
        ],
    )
    assert image.stat().st_blocks * 512 < 4 * MIB
    with mounted(image, tmp_path) as place:
        assert (place / "sparse.img").stat().st_size == 200 << 30
        with (place / "sparse.img").open("rb") as stream:
            assert os.pread(stream.fileno(), 6, 100 << 30) == b"middle"
            assert os.pread(stream.fileno(), 9, (200 << 30) - 3) == b"end"
        found = (place / "empty.img").stat()
        assert (found.st_size, found.st_blocks) == (2 << 30, 0)
        assert (place / "nothing.img").stat().st_size == 0


def test_a_block_device_is_read_to_the_volumes_size(tmp_path: Path) -> None:
    source = tmp_path / "device"
    with source.open("wb") as stream:
        stream.write(random.Random(1).randbytes(MIB))
        # data by the file system's count, zeros all the same
        stream.write(bytes(60 * MIB))
        stream.write(random.Random(2).randbytes(4 * MIB))
        stream.truncate(130 * MIB)
    found = run.run(["losetup", "--find", "--show", "-r", str(source)])
    loop = found.stdout.decode().strip()
    try:
        image = build(tmp_path, [Item("root.img", Path(loop), 64 * MIB)])
    finally:
        run.run(["losetup", "--detach", loop])
    with mounted(image, tmp_path) as place:
        held = (place / "root.img").stat()
        assert held.st_size == 64 * MIB
        assert held.st_blocks * 512 < 5 * MIB
        wanted = source.read_bytes()[: 64 * MIB]
        assert (place / "root.img").read_bytes() == wanted


def test_folders_alone_make_a_seed(tmp_path: Path) -> None:
    image = build(tmp_path, [], ["appvms", "vm-templates"])
    with mounted(image, tmp_path) as place:
        assert sorted(p.name for p in place.iterdir()) == [
            *("appvms", "vm-templates")
        ]


def test_the_bar_counts_what_is_read(tmp_path: Path) -> None:
    source = noise(tmp_path / "root", 20 * MIB)
    stream = StringIO()
    seed.build(
        tmp_path / "seed.img",
        [item("root.img", source)],
        [],
        tmp_path,
        1,
        Reporter(stream),
    )
    assert "seed.img: 100 %, 20.0 of 20.0 MiB" in stream.getvalue()
    assert "MiB of data, 256.0 MiB with its holes" in stream.getvalue()


def test_btrfs_without_room_gets_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The margin is a guess: without it the image still grows in time."""
    monkeypatch.setattr(seed_image, "MARGIN", 0)
    source = noise(tmp_path / "root", 300 * MIB)
    image = build(tmp_path, [item("root.img", source)])
    assert image.stat().st_size > 256 * MIB
    with mounted(image, tmp_path) as place:
        run.run(["cmp", str(place / "root.img"), str(source)])


# what goes wrong


def fails(folder: Path, items: Sequence[Item]) -> SysPxeError:
    with pytest.raises(SysPxeError) as caught:
        build(folder, items)
    assert not (folder / "seed.img").exists()
    assert caught.value.hint
    return caught.value


def test_a_full_disk_is_said_and_all_is_removed(tmp_path: Path) -> None:
    source = noise(tmp_path / "root", 160 * MIB)
    small = tmp_path / "small"
    small.mkdir()
    run.run(["mount", "-t", "tmpfs", "-o", "size=150m", "none", str(small)])
    try:
        error = fails(small, [item("root.img", source)])
        assert list(small.iterdir()) == []
    finally:
        run.run(["umount", str(small)])
    assert "the disk is full" in error.message
    assert "seed.img" in error.message


def test_a_disk_that_is_far_too_small_is_seen_first(tmp_path: Path) -> None:
    source = noise(tmp_path / "root", 160 * MIB)
    small = tmp_path / "small"
    small.mkdir()
    run.run(["mount", "-t", "tmpfs", "-o", "size=60m", "none", str(small)])
    try:
        error = fails(small, [item("root.img", source)])
    finally:
        run.run(["umount", str(small)])
    assert "needs about 80 MiB, 60 MiB are free" in error.message


def test_a_source_that_shrinks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = noise(tmp_path / "root", 20 * MIB)
    good = seed_fill.planned

    def then_cut(one: Item) -> seed_fill.Plan:
        plan = good(one)
        os.truncate(source, 10 * MIB)
        return plan

    monkeypatch.setattr(seed_fill, "planned", then_cut)
    error = fails(tmp_path, [item("root.img", source)])
    assert isinstance(error, InvalidInput)
    # whichever thread comes first to a byte that is gone tells of it
    found = re.search(f"{source} ends at ([0-9]+) bytes", error.message)
    assert found is not None
    assert 10 * MIB <= int(found[1]) < 20 * MIB


def test_a_bad_sector_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = noise(tmp_path / "root", 20 * MIB)
    good = os.preadv

    def bad(fd: int, buffers: list[memoryview], at: int) -> int:
        if at == 9 * MIB:
            raise OSError(5, "Input/output error")
        return good(fd, buffers, at)

    monkeypatch.setattr(os, "preadv", bad)
    error = fails(tmp_path, [item("root.img", source)])
    assert f"{source} cannot be read at byte {9 * MIB}" in error.message


class Interrupted(BaseException):
    """As a command makes of SIGTERM."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
def test_an_interruption_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    source = noise(tmp_path / "root", 100 * MIB)

    class Breaking(Reporter):
        def bar(self, label: str, total: int, unit: str = "bytes") -> Bar:
            made = super().bar(label, total, unit)
            monkey = made.add

            def add(count: int) -> None:
                monkey(count)
                raise error

            made.add = add  # type: ignore[method-assign]
            return made

    before = threading.active_count()
    with pytest.raises(error):
        seed.build(
            tmp_path / "seed.img",
            [item("root.img", source)],
            [],
            tmp_path,
            15,
            Breaking(quiet=True),
        )
    assert not (tmp_path / "seed.img").exists()
    assert threading.active_count() == before


@contextmanager
def another_namespace(
    monkeypatch: pytest.MonkeyPatch, script: str
) -> Iterator[None]:
    """Copy the mounts to a namespace while the seed is still mounted."""
    good = seed_image.SeedImage.finish
    children = []

    def finish(image: seed_image.SeedImage) -> None:
        good(image)
        child = run.spawn(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-c", script, "sh", str(image.mount)),
            ],
            stdout=run.PIPE,
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"

    monkeypatch.setattr(seed_image.SeedImage, "finish", finish)
    try:
        yield
    finally:
        for child in children:
            run.stop(child)
            assert child.stdout is not None
            child.stdout.close()


def test_a_mount_that_another_namespace_copied_is_gone_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another_namespace(monkeypatch, "echo ready; exec sleep 600"):
        image = build(tmp_path, [])
    shown = run.run(["btrfs", "inspect-internal", "dump-super", str(image)])
    assert seed_image.is_seed(shown.stdout)


def test_a_mount_that_another_namespace_uses_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_image, "_RELEASE_TRIES", 2)
    script = 'cd "$1" && echo ready && exec sleep 600'
    with another_namespace(monkeypatch, script):
        error = fails(tmp_path, [])
    assert "another mount namespace" in error.message


def test_a_seed_that_lost_its_flag_is_no_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = run.run

    def forgetful(argv: list[str], **rest: object) -> run.Result:
        if argv[0] == "btrfstune":
            return run.Result(tuple(argv), 0, b"", b"")
        return good(argv, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "run", forgetful)
    error = fails(tmp_path, [])
    assert "SEEDING" in error.message


def test_a_byte_that_changed_on_the_disk_is_found(tmp_path: Path) -> None:
    source = noise(tmp_path / "root", 2 * MIB)
    needle = source.read_bytes()[MIB : MIB + 64]
    image = build(tmp_path, [item("root.img", source)])
    at = image.read_bytes().index(needle)
    with image.open("r+b") as stream:
        os.pwrite(stream.fileno(), b"\0" * 64, at)
    with pytest.raises(SysPxeError) as caught:
        seed_image.seal(image)
    assert "build again" in caught.value.hint


def test_a_target_that_exists_stays(tmp_path: Path) -> None:
    (tmp_path / "seed.img").write_bytes(b"mine")
    with pytest.raises(SysPxeError, match=r"seed\.img is there already"):
        build(tmp_path, [])
    assert (tmp_path / "seed.img").read_bytes() == b"mine"
