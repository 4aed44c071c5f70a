"""Which bytes of a file lie in the pool's sprout, and not in its seed.

btrfs gives one logical address space to both. The seed's chunks were there
first, so all that is written later has higher addresses: a file's extents from
the boundary on (chunks.py) are what it takes of the pool. FIEMAP tells the
addresses (Linux, Documentation/filesystems/fiemap.rst; struct fiemap in
linux/fiemap.h).
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from sys_pxe.errors import SysPxeError

# _IOWR('f', 11, struct fiemap)
FIEMAP = 0xC020660B
# start, length, flags, mapped_extents, extent_count, reserved
_HEAD = struct.Struct("=QQIIII")
# logical, physical, length, 2 reserved, flags, 3 reserved
_EXTENT = struct.Struct("=QQQ16xI12x")
_AT_ONCE = 1000
_LAST, _UNKNOWN, _DELALLOC, _INLINE = 0x1, 0x2, 0x4, 0x200
_NO_MAP = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL)


class Extent(NamedTuple):
    """A part of a file: its place in the file, its address, its bytes."""

    logical: int
    physical: int
    length: int
    flags: int

    @property
    def placed(self) -> bool:
        """Whether it has an address of its own."""
        return not self.flags & (_UNKNOWN | _DELALLOC | _INLINE)

    @property
    def waiting(self) -> bool:
        """Whether it is written, but has no address yet."""
        return bool(self.flags & (_UNKNOWN | _DELALLOC))


def parse(untrusted: bytes) -> list[Extent]:
    """Return the extents in a buffer that FIEMAP has filled."""
    mapped = _HEAD.unpack_from(untrusted)[3]
    room = (len(untrusted) - _HEAD.size) // _EXTENT.size
    if mapped > room:
        raise SysPxeError(f"FIEMAP told {mapped} extents in room for {room}")
    end = _HEAD.size + mapped * _EXTENT.size
    rows = _EXTENT.iter_unpack(untrusted[_HEAD.size : end])
    # a template's image has some hundred thousand
    return [Extent._make(row) for row in rows]


def extents(path: Path) -> Iterator[Extent]:
    """Yield the extents of a file; OSError where there is no such map."""
    with open(path, "rb", buffering=0) as stream:
        start = 0
        while True:
            buffer = bytearray(_HEAD.size + _AT_ONCE * _EXTENT.size)
            rest = (1 << 64) - 1 - start
            _HEAD.pack_into(buffer, 0, start, rest, 0, 0, _AT_ONCE, 0)
            fcntl.ioctl(stream, FIEMAP, buffer)
            found = parse(bytes(buffer))
            yield from found
            if not found or found[-1].flags & _LAST:
                return
            after = found[-1].logical + found[-1].length
            if after <= start:
                raise SysPxeError(f"{path}: its extents do not go on")
            start = after


def own_bytes(path: Path, boundary: int) -> int:
    """Return the bytes of a file that lie at ``boundary`` or above.

    On a file system without extents all it takes is its own. OSError where
    the file cannot be read.
    """
    return own_of([path], boundary)


def own_of(paths: Iterable[Path], boundary: int) -> int:
    """Return the bytes of files at ``boundary`` or above, shared ones once.

    What several of them share by reflink counts once; a file that is gone
    counts nothing. OSError where a file cannot be read.
    """
    ranges: list[tuple[int, int]] = []
    total = 0
    for path in paths:
        try:
            found = list(extents(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in _NO_MAP:
                raise
            total += os.stat(path).st_blocks * 512
            continue
        total += sum(e.length for e in found if e.waiting)
        ranges += [
            (e.physical, e.physical + e.length)
            for e in found
            if e.placed and e.physical >= boundary
        ]
    return total + _joined(ranges)


def _joined(ranges: list[tuple[int, int]]) -> int:
    """Return how much ranges cover together."""
    total = reached = 0
    for first, end in sorted(ranges):
        total += max(end - max(first, reached), 0)
        reached = max(reached, end)
    return total
