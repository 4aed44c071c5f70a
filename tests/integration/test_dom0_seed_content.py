"""The seed: a real btrfs that holds what its sources held, and no more."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.dom0 import seed, seed_image
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.seed_fill import BLOCK
from sys_pxe.dom0.volumes import Item
from tests.integration.seed_room import (
    MIB,
    assert_nothing_left,
    build,
    item,
    noise,
)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Every test, also one that breaks a build, must leave nothing."""
    yield
    assert_nothing_left(tmp_path)


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


def texts(path: Path, count: int, number: int = 1) -> Path:
    """Write what compresses to about a third, like programs."""
    maker = random.Random(number)
    words = [maker.randbytes(6) for _ in range(4096)]
    path.write_bytes(b"".join(maker.choices(words, k=count // 6 + 1))[:count])
    return path


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
