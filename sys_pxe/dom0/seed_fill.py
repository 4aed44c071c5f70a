"""Fills a seed: reads only data, leaves holes, stores equal blocks once.

The unit is btrfs' compression extent. A block is known by a key of a few
samples of it; before two files share an extent all its bytes are compared
with what the image holds.
"""

import errno
import fcntl
import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from io import FileIO
from itertools import pairwise
from pathlib import Path
from threading import Event, Lock

from sys_pxe import files
from sys_pxe.dom0.progress import Bar
from sys_pxe.dom0.volumes import Item
from sys_pxe.errors import InvalidInput, SysPxeError

# what btrfs compresses as one (fs/btrfs/fs.h, BTRFS_MAX_UNCOMPRESSED)
BLOCK = 128 << 10
# one read, and one write if nothing of it is known
PIECE = 8 * BLOCK
# what a thread takes at a time, and what it leaves behind uncompressed
SHARE = 8 * PIECE
THREADS_MAX = 4
FILE_MODE = 0o660
# include/uapi/linux/fs.h: FICLONERANGE and its struct file_clone_range
_CLONE_RANGE = 0x4020940D
_CLONE_STRUCT = struct.Struct("=qQQQ")
_ZEROS = bytes(BLOCK)
_SAMPLE = 1 << 10
# how often btrfs may say that it is full while its image grows
_TRIES = 4
_SAMPLES_AT = (0, BLOCK // 2, BLOCK - _SAMPLE)

Place = tuple[int, int]
Span = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """What is read of one item: spans of (first, end) bytes, in order.

    ``known`` says that ``nbytes`` is data: the source named its holes, or LVM
    told how much of it is none. Of another device nobody knows.
    """

    item: Item
    spans: tuple[Span, ...]
    known: bool = True

    @property
    def nbytes(self) -> int:
        """Return the bytes of data, or what is read where nobody tells."""
        read = sum(end - first for first, end in self.spans)
        mapped = self.item.mapped
        return read if mapped is None else min(mapped, read)


def planned(item: Item) -> Plan:
    """Look at a source and return what has to be read of it.

    Raises SysPxeError when it cannot be opened or is too short.
    """
    if item.source is None:
        return Plan(item, ())
    try:
        with open(item.source, "rb", buffering=0) as source:
            fd = source.fileno()
            size = os.lseek(fd, 0, os.SEEK_END)
            if size < item.size:
                raise _too_short(item, size)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return Plan(item, tuple(aligned(_data(fd), item.size)))
    except OSError as error:
        raise _unreadable(item, error) from None
    spans = ((0, item.size),) if item.size else ()
    return Plan(item, spans, known=item.mapped is not None)


def _data(fd: int) -> Iterator[Span]:
    """Yield where a file has data (lseek(2), SEEK_DATA)."""
    end = 0
    while True:
        try:
            first = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(fd, first, os.SEEK_HOLE)
        yield first, end


def aligned(spans: Iterable[Span], size: int) -> Iterator[Span]:
    """Widen sorted spans to whole blocks, join what touches, cut at size."""
    last: Span | None = None
    for span_first, span_end in spans:
        first = span_first - span_first % BLOCK
        end = min(span_end + -span_end % BLOCK, size)
        if first >= end:
            continue
        if last is not None and first <= last[1]:
            last = (last[0], max(last[1], end))
            continue
        if last is not None:
            yield last
        last = (first, end)
    if last is not None:
        yield last


def shares(spans: Iterable[Span]) -> Iterator[Span]:
    """Cut spans into what one thread takes at a time."""
    for first, end in spans:
        cuts = [*range(first, end, SHARE), end]
        yield from pairwise(cuts)


def block_key(block: memoryview) -> int:
    """Return the key of a whole block: equal blocks have equal keys."""
    digest = hashlib.blake2b(digest_size=8)
    for at in _SAMPLES_AT:
        digest.update(block[at : at + _SAMPLE])
    return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True)
class Run:
    """Blocks of a piece that go the same way: ``[first, end)`` in the piece.

    ``place`` is where the image has the same bytes; None: they are new.
    """

    first: int
    end: int
    place: Place | None


def runs(
    piece: memoryview, known: Callable[[memoryview], Place | None]
) -> Iterator[Run]:
    """Split a piece into runs; blocks of zeros are in none of them."""
    last: Run | None = None
    for first in range(0, len(piece), BLOCK):
        block = piece[first : first + BLOCK]
        end = first + len(block)
        # startswith: of two buffers, == compares byte by byte, and slowly
        if _ZEROS.startswith(block):
            continue
        # a part of a block ends a file; it is not worth sharing
        place = known(block) if len(block) == BLOCK else None
        if last is not None and _goes_on(last, first, place):
            last = Run(last.first, end, last.place)
            continue
        if last is not None:
            yield last
        last = Run(first, end, place)
    if last is not None:
        yield last


def _goes_on(run: Run, first: int, place: Place | None) -> bool:
    if run.end != first or (run.place is None) != (place is None):
        return False
    if run.place is None or place is None:
        return True
    number, offset = run.place
    return place == (number, offset + run.end - run.first)


class Filler:
    """Writes items into the mounted image, several threads at once.

    ``make_room`` is called before each write, with False, and with True when
    there was no room all the same; ``threads`` is 1 or more.
    """

    def __init__(
        self,
        root: Path,
        gid: int,
        make_room: Callable[[bool], None],
        threads: int,
    ) -> None:
        self._root = root
        self._gid = gid
        self._make_room = make_room
        self._threads = threads
        self._stop = Event()
        self._lock = Lock()
        # what has data, kept open to compare and to share with it
        self._targets: list[FileIO] = []
        self._places: dict[int, int] = {}

    def fill(self, plans: Sequence[Plan], bar: Bar) -> None:
        """Write all items; the bar moves by bytes of the sources.

        Raises SysPxeError for a source or an image that fails.
        """
        try:
            with ThreadPoolExecutor(self._threads) as pool:
                try:
                    for plan in plans:
                        self._item(plan, pool, bar)
                except BaseException:
                    self._stop.set()
                    raise
        finally:
            for target in self._targets:
                target.close()
        bar.end()

    def _item(self, plan: Plan, pool: ThreadPoolExecutor, bar: Bar) -> None:
        item = plan.item
        self._make_room(False)
        path = self._root / item.target
        target = files.new_sparse(path, item.size)
        give(path, FILE_MODE, self._gid)
        if item.source is None or not plan.spans:
            target.close()
            return
        self._targets.append(target)
        copy = _Copy(item, len(self._targets) - 1, target)
        end = bar.value + plan.nbytes
        waiting: set[Future[int]] = set()
        for share in shares(plan.spans):
            if len(waiting) >= 2 * self._threads:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                moved = sum(future.result() for future in done)
                bar.add(min(moved, end - bar.value))
            waiting.add(pool.submit(self._share, copy, share))
        for future in waiting:
            future.result()
        # what is mapped may be zeros, and a block more than a chunk of LVM
        bar.add(end - bar.value)

    def _share(self, copy: "_Copy", share: Span) -> int:
        """Store a share; return by how many bytes the bar moves."""
        moved = 0
        item, fd = copy.item, copy.target.fileno()
        assert item.source is not None
        behind: list[Span] = []
        buffer = memoryview(bytearray(PIECE))
        with open(item.source, "rb", buffering=0) as source:
            for first in range(share[0], share[1], PIECE):
                if self._stop.is_set():
                    break
                piece = buffer[: min(PIECE, share[1] - first)]
                _read(source, piece, first, item)
                data, fresh = self._piece(copy, piece, first)
                # the holes of a thin volume are not in the bar's total
                moved += len(piece) if item.mapped is None else data
                if fresh:
                    _write_back(fd, (first, len(piece)))
                    behind.append((first, len(piece)))
            for span in behind:
                _write_back(fd, span)
        return moved

    def _piece(
        self, copy: "_Copy", piece: memoryview, at: int
    ) -> tuple[int, bool]:
        """Store a piece; return its data's bytes, and if some was new."""
        data = 0
        fresh: list[Run] = []
        for run in runs(piece, self._known):
            data += run.end - run.first
            self._make_room(False)
            for tries_left in reversed(range(_TRIES)):
                try:
                    _store(copy, run, piece, at, self._targets)
                    break
                except OSError as error:
                    if error.errno != errno.ENOSPC or not tries_left:
                        raise _unwritable(copy.item, error) from None
                self._make_room(True)
            if run.place is None:
                fresh.append(run)
        # only now: another thread may read at once what is named here
        for run in fresh:
            for first in range(run.first, run.end, BLOCK):
                block = piece[first : first + BLOCK]
                if len(block) == BLOCK:
                    self._remember(block, copy.number, at + first)
        return data, bool(fresh)

    def _remember(self, block: memoryview, number: int, offset: int) -> None:
        # one number for both: 50 GiB of blocks are 400,000 entries
        place = number << 48 | offset
        with self._lock:
            self._places.setdefault(block_key(block), place)

    def _known(self, block: memoryview) -> Place | None:
        """Return where the image has the bytes of a block, or None."""
        found = self._places.get(block_key(block))
        if found is None:
            return None
        number, offset = found >> 48, found & ((1 << 48) - 1)
        # a difference is a sample that says too little: never share it
        held = os.pread(self._targets[number].fileno(), BLOCK, offset)
        same = len(held) == len(block) and held.startswith(block)
        return (number, offset) if same else None


def give(path: Path, mode: int, gid: int) -> None:
    """Give a file or folder of the seed to root and a group."""
    # in this order: a change of the owner may take bits away
    files.set_owner(path, 0, gid)
    files.set_mode(path, mode)


@dataclass(frozen=True)
class _Copy:
    """An item that is written; ``number`` is its place among the targets."""

    item: Item
    number: int
    target: FileIO


def _read(source: FileIO, into: memoryview, at: int, item: Item) -> None:
    done = 0
    try:
        while done < len(into):
            got = os.preadv(source.fileno(), [into[done:]], at + done)
            if not got:
                raise _too_short(item, at + done)
            done += got
    except OSError as error:
        raise _unreadable(item, error, at + done) from None


def _store(
    copy: _Copy,
    run: Run,
    piece: memoryview,
    at: int,
    targets: Sequence[FileIO],
) -> None:
    """Write a run of a piece, or share what the image has of it. OSError."""
    fd = copy.target.fileno()
    if run.place is not None:
        number, offset = run.place
        length = run.end - run.first
        source = targets[number].fileno()
        asked = _CLONE_STRUCT.pack(source, offset, length, at + run.first)
        fcntl.ioctl(fd, _CLONE_RANGE, asked)
        return
    done = run.first
    while done < run.end:
        done += os.pwrite(fd, piece[done : run.end], at + done)


def _write_back(fd: int, span: Span) -> None:
    """Have a span compressed now; called again it waits until it is.

    Linux starts writing when it is told that the pages are not needed
    (mm/fadvise.c), and they are locked until btrfs compressed them.
    """
    os.posix_fadvise(fd, *span, os.POSIX_FADV_DONTNEED)


def _too_short(item: Item, size: int) -> SysPxeError:
    return InvalidInput(
        f"{item.source} ends at {size} bytes, but {item.target} has "
        f"{item.size} by qubes.xml",
        "start and shut down that qube once in the golden image, or restore "
        "the volume, then build again",
    )


def _unreadable(item: Item, error: OSError, at: int = 0) -> SysPxeError:
    where = f" at byte {at}" if at else ""
    return SysPxeError(
        f"{item.source} cannot be read{where}: {error.strerror}",
        f"it is the source of {item.target}; check the golden image's disk "
        "(dmesg), then build again",
    )


def _unwritable(item: Item, error: OSError) -> SysPxeError:
    return SysPxeError(
        f"{item.target} cannot be written into the seed: {error.strerror}",
        "see the kernel's log (dmesg) and the free space where releases are "
        "kept, then build again",
    )
