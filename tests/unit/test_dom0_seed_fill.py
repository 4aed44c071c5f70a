"""What is read, what is new, what is shared: the parts without a disk."""

import itertools
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sys_pxe.dom0 import seed, seed_fill, seed_image
from sys_pxe.dom0.progress import Bar, Reporter
from sys_pxe.dom0.seed_fill import BLOCK, SHARE, Place, Run
from sys_pxe.dom0.volumes import Item
from sys_pxe.errors import InvalidInput, SysPxeError

MIB = 1 << 20


def noise(count: int, number: int = 1) -> bytes:
    return random.Random(number).randbytes(count)


# spans


@pytest.mark.parametrize(
    ("spans", "size", "wanted"),
    [
        ([], 10 * BLOCK, []),
        ([(0, 1)], 10 * BLOCK, [(0, BLOCK)]),
        ([(5, 6), (BLOCK - 1, BLOCK)], 10 * BLOCK, [(0, BLOCK)]),
        ([(0, 1), (BLOCK, BLOCK + 1)], 10 * BLOCK, [(0, 2 * BLOCK)]),
        (
            [(4096, 8192), (2 * BLOCK + 4096, 3 * BLOCK + 1)],
            10 * BLOCK,
            [(0, BLOCK), (2 * BLOCK, 4 * BLOCK)],
        ),
        # the volume ends before its file does
        ([(0, 4 * BLOCK)], BLOCK + 7, [(0, BLOCK + 7)]),
        ([(0, 1), (5 * BLOCK, 6 * BLOCK)], 4096, [(0, 4096)]),
    ],
)
def test_spans_are_whole_blocks(
    spans: list[tuple[int, int]], size: int, wanted: list[tuple[int, int]]
) -> None:
    assert list(seed_fill.aligned(spans, size)) == wanted


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 40 * BLOCK), max_size=20, unique=True),
    st.integers(1, 40 * BLOCK),
)
def test_no_byte_of_data_is_left_out_or_read_twice(
    edges: list[int], size: int
) -> None:
    ordered = sorted(edges)
    spans = list(zip(ordered[::2], ordered[1::2], strict=False))
    found = list(seed_fill.aligned(spans, size))
    for first, end in spans:
        last = min(end, size) - 1
        if first <= last:
            assert any(a <= first and last < b for a, b in found)
    assert all(a % BLOCK == 0 and a < b <= size for a, b in found)
    assert all(x[1] < y[0] for x, y in itertools.pairwise(found))


@pytest.mark.parametrize("end", [1, SHARE - 1, SHARE, SHARE + 1, 5 * SHARE])
def test_shares_cover_a_span(end: int) -> None:
    first = 3 * BLOCK
    found = list(seed_fill.shares([(first, first + end)]))
    assert (found[0][0], found[-1][1]) == (first, first + end)
    assert all(0 < b - a <= SHARE for a, b in found)
    assert all(x[1] == y[0] for x, y in itertools.pairwise(found))
    assert all(a % BLOCK == first % BLOCK for a, _ in found)


# plans


def test_only_data_of_a_sparse_file_is_planned(tmp_path: Path) -> None:
    path = tmp_path / "root.img"
    with path.open("wb") as stream:
        stream.truncate(200 << 30)
        os.pwrite(stream.fileno(), b"x", 100 << 30)
    plan = seed_fill.planned(Item("a", path, 200 << 30))
    assert 0 < plan.nbytes <= MIB
    assert plan.known
    assert any(first <= 100 << 30 < end for first, end in plan.spans)


def test_a_volume_without_source_is_all_hole() -> None:
    assert seed_fill.planned(Item("a", None, 2 << 40)).nbytes == 0


def test_an_empty_file_is_nothing_to_read(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert seed_fill.planned(Item("a", path, 0)).spans == ()


def test_a_source_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "root.img"
    path.write_bytes(b"x" * 4095)
    with pytest.raises(InvalidInput, match=r"ends at 4095 bytes.*4096") as e:
        seed_fill.planned(Item("vm-templates/d/root.img", path, 4096))
    assert e.value.hint


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.img"
    with pytest.raises(SysPxeError, match=r"gone\.img cannot be read: No such"):
        seed_fill.planned(Item("a", path, 1))


def test_a_folder_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(SysPxeError, match="directory"):
        seed_fill.planned(Item("a", tmp_path, 1))


@pytest.mark.parametrize(
    ("mapped", "known", "nbytes"),
    [
        (0, True, 0),
        (5 * MIB, True, 5 * MIB),
        # a chunk of LVM reaches beyond what is read
        (9 * MIB, True, 8 * MIB),
        (None, False, 8 * MIB),
    ],
)
def test_of_a_device_counts_what_is_mapped(
    mapped: int | None,
    known: bool,
    nbytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a device, of which more could be read than the volume has
    monkeypatch.setattr(os, "lseek", lambda *_: 16 * MIB)
    item = Item("a", Path("/dev/zero"), 8 * MIB, mapped)
    plan = seed_fill.planned(item)
    assert plan.spans == ((0, 8 * MIB),)
    assert (plan.known, plan.nbytes) == (known, nbytes)


def test_a_volume_of_0_bytes_is_nothing_to_read() -> None:
    plan = seed_fill.planned(Item("a", Path("/dev/zero"), 0, 0))
    assert (plan.spans, plan.nbytes) == ((), 0)


class Values(Bar):
    """A bar that keeps the values it had."""

    def __init__(self, total: int) -> None:
        super().__init__(Reporter(quiet=True), "seed", total, "bytes")
        self.values: list[int] = []

    def set(self, value: int, total: int | None = None) -> None:
        super().set(value, total)
        self.values.append(value)


@pytest.mark.parametrize("mapped", [MIB // 2, MIB, 3 * MIB, None])
def test_the_bar_of_a_thin_volume_moves_by_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: int | None
) -> None:
    # its owner is root's to give
    monkeypatch.setattr(seed_fill, "give", lambda *_: None)
    path = tmp_path / "device"
    # zeros that are no hole, for want of a device; data only at its begin
    path.write_bytes(noise(MIB) + bytes(15 * SHARE - MIB))
    item = Item("a", path, 15 * SHARE, mapped)
    plan = seed_fill.Plan(item, ((0, item.size),), known=mapped is not None)
    bar = Values(plan.nbytes)
    seed = tmp_path / "seed"
    seed.mkdir()
    seed_fill.Filler(seed, 0, lambda _: None, 1).fill([plan], bar)
    assert (seed / "a").read_bytes() == path.read_bytes()
    assert bar.values == sorted(bar.values)
    assert bar.value == plan.nbytes
    if mapped is not None:
        # what is read after the data is a hole: it moves nothing until the end
        assert set(bar.values[1:-1]) == {min(MIB, mapped)}
    else:
        assert len(set(bar.values)) > 5


# blocks


def test_equal_blocks_have_equal_keys() -> None:
    one, two = noise(BLOCK), noise(BLOCK)
    assert seed_fill.block_key(memoryview(one)) == seed_fill.block_key(
        memoryview(two)
    )
    assert one is not two


@pytest.mark.parametrize("at", [0, 1023, BLOCK // 2, BLOCK - 1024, BLOCK - 1])
def test_a_change_in_a_sample_changes_the_key(at: int) -> None:
    block = bytearray(noise(BLOCK))
    before = seed_fill.block_key(memoryview(block))
    block[at] ^= 1
    assert seed_fill.block_key(memoryview(block)) != before


def split(piece: bytes, known: dict[bytes, Place]) -> list[Run]:
    def find(block: memoryview) -> Place | None:
        return known.get(bytes(block))

    return list(seed_fill.runs(memoryview(piece), find))


A, B, C = noise(BLOCK, 1), noise(BLOCK, 2), noise(BLOCK, 3)
ZERO = bytes(BLOCK)


@pytest.mark.parametrize(
    ("piece", "known", "wanted"),
    [
        (b"", {}, []),
        (ZERO + ZERO, {}, []),
        (A + B, {}, [(0, 2, None)]),
        (A + ZERO + B, {}, [(0, 1, None), (2, 3, None)]),
        # a block of zeros is a hole even if somebody stored one
        (ZERO, {ZERO: (0, 0)}, []),
        (A + B, {A: (0, 0), B: (0, BLOCK)}, [(0, 2, (0, 0))]),
        # equal, but not beside each other, or in another file
        (
            A + B,
            {A: (0, 0), B: (0, 2 * BLOCK)},
            [(0, 1, (0, 0)), (1, 2, (0, 2 * BLOCK))],
        ),
        (
            A + B,
            {A: (0, 0), B: (1, BLOCK)},
            [(0, 1, (0, 0)), (1, 2, (1, BLOCK))],
        ),
        (
            A + C + B,
            {A: (0, 0), B: (0, 2 * BLOCK)},
            [(0, 1, (0, 0)), (1, 2, None), (2, 3, (0, 2 * BLOCK))],
        ),
    ],
)
def test_runs(
    piece: bytes,
    known: dict[bytes, Place],
    wanted: list[tuple[int, int, Place | None]],
) -> None:
    assert split(piece, known) == [
        Run(first * BLOCK, end * BLOCK, place) for first, end, place in wanted
    ]


def test_a_part_of_a_block_is_never_shared() -> None:
    tail = noise(4096, 9)
    found = split(A + tail, {A: (0, 0), tail: (0, BLOCK)})
    assert found == [
        Run(0, BLOCK, (0, 0)),
        Run(BLOCK, BLOCK + 4096, None),
    ]
    assert split(bytes(4096), {}) == []


# names


def test_folders_come_with_their_parents() -> None:
    found = seed.check_names(
        ["vm-templates/debian-13/root.img", "appvms/work/private.img"],
        ["vm-kernels/6.12.1"],
    )
    assert found == [
        *("appvms", "appvms/work", "vm-kernels", "vm-kernels/6.12.1"),
        *("vm-templates", "vm-templates/debian-13"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "a/../b",
        "../a",
        "a//b",
        "a/",
        "./a",
        "a\0",
    ],
)
def test_a_path_that_leaves_the_seed_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="no path in a seed"):
        seed.check_names([name], [])
    with pytest.raises(InvalidInput, match="no path in a seed"):
        seed.check_names([], [name])


@pytest.mark.parametrize(
    ("targets", "folders"),
    [
        (["a/b", "a/b"], []),
        (["a", "a/b"], []),
        (["a/b", "a"], []),
        (["a"], ["a"]),
        (["a"], ["a/b"]),
    ],
)
def test_a_path_is_one_thing(targets: list[str], folders: list[str]) -> None:
    with pytest.raises(InvalidInput, match="twice"):
        seed.check_names(targets, folders)


def test_too_little_space_is_seen_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "root.img"
    path.write_bytes(b"x" * 8 * MIB)
    monkeypatch.setattr(seed_image, "free_bytes", lambda _: 3 * MIB)
    with pytest.raises(
        SysPxeError, match=r"not enough space.*about 4 MiB, 3 MiB are free"
    ) as caught:
        seed.build(
            tmp_path / "seed",
            [Item("a", path, 8 * MIB)],
            [],
            tmp_path,
            3,
            Reporter(quiet=True),
        )
    assert caught.value.hint
    assert not (tmp_path / "seed").exists()


def test_what_is_mapped_of_thin_volumes_needs_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "device"
    path.touch()
    mapped = {200 << 30: 6 * MIB, 20 << 30: 2 * MIB, 10 << 30: None}
    monkeypatch.setattr(
        seed_fill,
        "planned",
        lambda item: seed_fill.Plan(
            item, ((0, item.size),), known=item.mapped is not None
        ),
    )
    monkeypatch.setattr(seed_image, "free_bytes", lambda _: 3 * MIB)
    with pytest.raises(SysPxeError, match=r"about 4 MiB, 3 MiB are free"):
        seed.build(
            tmp_path / "seed",
            [Item(str(s), path, s, m) for s, m in mapped.items()],
            [],
            tmp_path,
            3,
            Reporter(quiet=True),
        )
    assert not (tmp_path / "seed").exists()


# the superblock


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("0x100000001\n\t\t\t( WRITTEN |\n\t\t\t  SEEDING )", True),
        ("0x1\n\t\t\t( WRITTEN )", False),
        ("0x1\n\t\t\t( WRITTEN )\nlabel\t\t\tSEEDING", False),
    ],
)
def test_the_flag_of_a_seed(flags: str, wanted: bool) -> None:
    text = f"superblock: bytenr=65536\nflags\t\t\t{flags}\nmagic\t\tx [match]\n"
    assert seed_image.is_seed(text.encode("ascii")) is wanted
