"""FIEMAP: what its answers mean, and what happens where there is none."""

import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from sys_pxe.client import extents
from sys_pxe.errors import SysPxeError

KIB = 1024
LAST, DELALLOC, ENCODED, INLINE, PREALLOCATED = 0x1, 0x4, 0x8, 0x200, 0x800
SEED, SPROUT = 1 << 30, 1 << 40

Row = tuple[int, int, int, int]


def answer(rows: Sequence[Row], told: int | None = None) -> bytes:
    """As struct fiemap is in linux/fiemap.h, byte by byte."""
    mapped = len(rows) if told is None else told
    head = struct.pack("<QQIIII", 0, 0, 0, mapped, len(rows), 0)
    return head + b"".join(
        struct.pack("<QQQQQIIII", *row[:3], 0, 0, row[3], 0, 0, 0)
        for row in rows
    )


class Kernel:
    """Answers FIEMAP from a table of files, some rows at a time."""

    def __init__(self, rows: dict[str, list[Row]], at_once: int = 2) -> None:
        self.rows = rows
        self.at_once = at_once
        self.calls = 0

    def ioctl(self, stream: object, request: int, buffer: bytearray) -> int:
        assert request == 0xC020660B
        start, length = struct.unpack_from("<QQ", buffer)
        assert start + length == (1 << 64) - 1
        count = struct.unpack_from("<I", buffer, 24)[0]
        assert len(buffer) >= 32 + 56 * count
        name = Path(stream.name).name  # type: ignore[attr-defined]
        self.calls += 1
        rest = [r for r in self.rows[name] if r[0] + r[2] > start]
        filled = answer(rest[: self.at_once])
        buffer[: len(filled)] = filled
        return 0


def kernel(
    monkeypatch: pytest.MonkeyPatch, folder: Path, rows: dict[str, list[Row]]
) -> Kernel:
    found = Kernel(rows)
    monkeypatch.setattr(fcntl, "ioctl", found.ioctl)
    for name in rows:
        (folder / name).write_bytes(b"")
    return found


def test_an_answer_is_read() -> None:
    found = extents.parse(answer([(0, SEED, 8 * KIB, 0), (1, 2, 3, LAST)]))
    assert found == [
        extents.Extent(0, SEED, 8 * KIB, 0),
        extents.Extent(1, 2, 3, LAST),
    ]
    assert extents.parse(answer([])) == []


def test_an_answer_that_tells_more_than_it_holds_is_refused() -> None:
    with pytest.raises(SysPxeError, match="2 extents in room for 1"):
        extents.parse(answer([(0, 0, 1, 0)], told=2))


def test_only_what_lies_behind_the_boundary_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        (0, SEED, 4 * KIB, 0),
        (4 * KIB, SPROUT, 8 * KIB, 0),
        (12 * KIB, SEED + 4 * KIB, 4 * KIB, ENCODED),
        (16 * KIB, SPROUT + 8 * KIB, 4 * KIB, PREALLOCATED),
        (20 * KIB, 0, 16 * KIB, DELALLOC),
        (36 * KIB, 0, 100, INLINE | LAST),
    ]
    found = kernel(monkeypatch, tmp_path, {"root.img": rows})
    image = tmp_path / "root.img"
    assert extents.own_bytes(image, SPROUT) == (8 + 4 + 16) * KIB
    assert found.calls == 3
    assert extents.own_bytes(image, SPROUT + 1) == (4 + 16) * KIB
    assert extents.own_bytes(image, 1 << 50) == 16 * KIB


def test_what_two_files_share_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel(
        monkeypatch,
        tmp_path,
        {
            "a": [(0, SPROUT, 8 * KIB, LAST)],
            "b": [(0, SPROUT + 4 * KIB, 8 * KIB, LAST)],
            "c": [(0, SPROUT + 2 * KIB, 1 * KIB, LAST)],
        },
    )
    files = [tmp_path / name for name in ("a", "b", "c", "gone")]
    assert extents.own_of(files, SPROUT) == 12 * KIB
    assert sum(extents.own_bytes(f, SPROUT) for f in files) == 17 * KIB


def test_extents_that_do_not_go_on_are_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(_: object, __: int, buffer: bytearray) -> int:
        filled = answer([(0, SEED, 0, 0)])
        buffer[: len(filled)] = filled
        return 0

    (tmp_path / "a").write_bytes(b"")
    monkeypatch.setattr(fcntl, "ioctl", stuck)
    with pytest.raises(SysPxeError, match="do not go on"):
        extents.own_bytes(tmp_path / "a", 0)


def refuse(number: int) -> object:
    def ioctl(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return ioctl


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOTTY])
def test_without_a_map_all_that_a_file_takes_is_its_own(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "a"
    image.write_bytes(b"x" * 10_000)
    monkeypatch.setattr(fcntl, "ioctl", refuse(number))
    assert extents.own_bytes(image, 0) == image.stat().st_blocks * 512


def test_another_error_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.setattr(fcntl, "ioctl", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        extents.own_bytes(tmp_path / "a", 0)


def test_a_file_system_in_ram_has_no_map() -> None:
    """The real kernel's answer: a memory file lies on its own tmpfs."""
    with open(os.memfd_create("map"), "wb", buffering=0) as stream:
        stream.write(b"x" * 10_000)
        path = Path(f"/proc/self/fd/{stream.fileno()}")
        assert extents.own_bytes(path, 0) == path.stat().st_blocks * 512 > 0
