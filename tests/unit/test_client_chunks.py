"""The end of a btrfs: what the search in its chunk tree answers."""

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sys_pxe.client import chunks
from sys_pxe.errors import SysPxeError

MIB = 1 << 20
FIRST, LAST = 13 * MIB, 1 << 40

Chunk = tuple[int, int]
# struct btrfs_ioctl_search_key, after a search that found two items
KEY = (
    "0300000000000000 0001000000000000 0001000000000000 0000000000000000"
    "ffffffffffffffff 0000000000000000 ffffffffffffffff e4000000 e4000000"
    "02000000 00000000" + 32 * "00"
)


def item(start: int, length: int, size: int = 80) -> bytes:
    """As linux/btrfs.h and btrfs_tree.h have it: a header, then a chunk."""
    header = struct.pack("<QQQII", 6, 256, start, 228, size)
    content = struct.pack("<QQQQIIIHH", length, 2, 65536, 1, 4096, 4096, 4096,
                          1, 1)  # fmt: skip
    return header + (content + bytes(32))[:size]


def answer(found: list[Chunk], told: int | None = None) -> bytes:
    count = len(found) if told is None else told
    key = bytearray.fromhex(KEY)
    struct.pack_into("<I", key, 64, count)
    return bytes(key) + b"".join(item(*chunk) for chunk in found)


class Kernel:
    """Answers the search from a table of chunks, some at a time."""

    def __init__(self, found: list[Chunk], at_once: int = 2) -> None:
        self.found = found
        self.at_once = at_once
        self.calls = 0

    def ioctl(self, folder: int, request: int, buffer: bytearray) -> int:
        assert (request, len(buffer)) == (0xD0009411, 4096)
        assert os.path.isdir(f"/proc/self/fd/{folder}")
        tree, *objects, start, most = struct.unpack_from("<5Q", buffer)
        assert (tree, objects, most) == (3, [256, 256], (1 << 64) - 1)
        assert struct.unpack_from("<QQ", buffer, 40) == (0, (1 << 64) - 1)
        assert struct.unpack_from("<II", buffer, 56) == (228, 228)
        assert struct.unpack_from("<I", buffer, 64)[0] >= 1
        self.calls += 1
        rest = [chunk for chunk in self.found if chunk[0] >= start]
        filled = answer(rest[: self.at_once])
        buffer[: len(filled)] = filled
        return 0


def test_an_answer_is_read_byte_by_byte() -> None:
    untrusted = bytes.fromhex(
        KEY +
        # generation, object, offset, type, size
        "0600000000000000 0001000000000000 0000d00000000000 e4000000 50000000"
        # length, owner, stripe length, type
        "0000800000000000 0200000000000000 0000010000000000 0100000000000000"
        # align, width, sector, stripes; device, offset, UUID
        "00100000 00100000 00100000 0100 0100"
        "0100000000000000 0000d00000000000" + 16 * "ab" +
        # one with two stripes
        "0800000000000000 0001000000000000 0000500100000000 e4000000 70000000"
        "0000000200000000 0200000000000000 0000010000000000 2400000000000000"
        "00000100 00000100 00100000 0200 0100" + 64 * "cd" + 99 * "00"
    )  # fmt: skip
    assert chunks.parse(untrusted) == [21 * MIB, 21 * MIB + (32 << 20)]
    assert chunks.parse(answer([])) == []


@pytest.mark.parametrize("cut", [1, 72, 79, 80, 81, 111, 112])
def test_an_answer_that_is_cut_is_refused(cut: int) -> None:
    whole = answer([(FIRST, MIB), (LAST, MIB)])
    with pytest.raises(SysPxeError, match="2 chunks, but only 1 are whole"):
        chunks.parse(whole[:-cut])


def test_an_answer_that_tells_more_than_it_holds_is_refused() -> None:
    with pytest.raises(SysPxeError, match="3 chunks, but only 1 are whole"):
        chunks.parse(answer([(FIRST, MIB)], told=3) + bytes(4000))


@pytest.mark.parametrize("size", [0, 7])
def test_an_item_that_is_no_chunk_is_refused(size: int) -> None:
    untrusted = answer([], told=1) + item(FIRST, MIB, size) + bytes(100)
    with pytest.raises(SysPxeError, match="only 0 are whole"):
        chunks.parse(untrusted)


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_the_end_is_behind_the_last_of_all_chunks(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(FIRST, 8 * MIB), (FIRST + 8 * MIB, MIB), (LAST, 1 << 30)]
    kernel = Kernel(found, at_once)
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    assert chunks.end_of(tmp_path) == LAST + (1 << 30)
    assert kernel.calls == -(-len(found) // at_once) + 1


def test_many_chunks_take_few_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a seed of 100 GiB, with as many in an answer as there is room for
    found = [(FIRST + (n << 30), 1 << 30) for n in range(100)]
    kernel = Kernel(found, (4096 - 104) // (32 + 80))
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    assert chunks.end_of(tmp_path) == FIRST + (100 << 30)
    assert kernel.calls == 4


def test_a_file_system_without_chunks_has_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", Kernel([]).ioctl)
    with pytest.raises(SysPxeError, match="no chunks"):
        chunks.end_of(tmp_path)


def test_chunks_that_do_not_go_on_are_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(_: object, __: int, buffer: bytearray) -> int:
        filled = answer([(FIRST, MIB)])
        buffer[: len(filled)] = filled
        return 0

    monkeypatch.setattr(fcntl, "ioctl", stuck)
    with pytest.raises(SysPxeError, match="do not go on"):
        chunks.end_of(tmp_path)


def refuse(number: int) -> Callable[..., int]:
    def ioctl(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return ioctl


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EPERM, errno.EIO])
def test_chunks_that_cannot_be_read_are_told(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", refuse(number))
    with pytest.raises(SysPxeError, match="chunks cannot be read") as caught:
        chunks.end_of(tmp_path)
    assert os.strerror(number) in caught.value.message
    assert "btrfs" in caught.value.hint


def test_the_real_call_takes_a_buffer_of_its_size() -> None:
    """Python refuses long bytes itself; /proc is never a btrfs."""
    with pytest.raises(SysPxeError, match=os.strerror(errno.ENOTTY)):
        chunks.end_of(Path("/proc"))
