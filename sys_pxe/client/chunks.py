"""Where a btrfs ends in its address space: behind its last chunk.

A chunk is a range of logical addresses that has a place on a device. A new one
begins behind all others (Linux, fs/btrfs/volumes.c, find_next_chunk). Those of
a seed take nothing new: they are read-only as their device is, and none of
them goes away (fs/btrfs/block-group.c, read_one_block_group and
btrfs_delete_unused_bgs). So the end of a seed stays what it was before it got
a sprout. Its chunks are few, about one per GiB, however many files it has.
"""

import fcntl
import struct
from pathlib import Path

from sys_pxe import files
from sys_pxe.errors import SysPxeError

# _IOWR(0x94, 17, struct btrfs_ioctl_search_args), linux/btrfs.h
TREE_SEARCH = 0xD0009411
_ARGS_BYTES = 4096
# struct btrfs_ioctl_search_key: tree; least and most object, offset,
# generation; least and most type; items; 5 unused
_KEY = struct.Struct("=7Q3I36x")
# struct btrfs_ioctl_search_header: generation, object, offset, type, bytes
_HEADER = struct.Struct("=3Q2I")
# struct btrfs_chunk, linux/btrfs_tree.h: its first field
_LENGTH = struct.Struct("<Q")
_CHUNK_TREE, _CHUNKS, _CHUNK = 3, 256, 228
_U64, _U32 = (1 << 64) - 1, (1 << 32) - 1


def parse(untrusted: bytes) -> list[int]:
    """Return the ends of the chunks in a buffer that the search has filled.

    Raises SysPxeError for an answer that tells more than it holds.
    """
    count = _KEY.unpack_from(untrusted)[9]
    at = _KEY.size
    ends: list[int] = []
    for _ in range(count):
        begin = at + _HEADER.size
        size = 0
        if begin <= len(untrusted):
            _, _, start, _, size = _HEADER.unpack_from(untrusted, at)
        if size < _LENGTH.size or begin + size > len(untrusted):
            raise SysPxeError(
                f"btrfs told {count} chunks, but only {len(ends)} are whole"
            )
        ends.append(start + _LENGTH.unpack_from(untrusted, begin)[0])
        at = begin + size
    return ends


def end_of(mounted: Path) -> int:
    """Return the address behind the last chunk of a mounted btrfs.

    Needs CAP_SYS_ADMIN. SysPxeError where the file system tells no chunks.
    """
    end = 0
    with files.opened_folder(mounted) as folder:
        # sorted, so the last one ends last
        while found := _search(folder, mounted, end):
            if found[-1] <= end:
                raise SysPxeError(f"{mounted}: its chunks do not go on")
            end = found[-1]
    if not end:
        raise SysPxeError(f"{mounted}: it has no chunks")
    return end


def _search(folder: int, mounted: Path, start: int) -> list[int]:
    """Return the ends of the next chunks that begin at ``start`` or behind."""
    # a bytearray: fcntl takes bytes of at most 1 KiB
    buffer = bytearray(_ARGS_BYTES)
    objects, offsets, all_of_time = (_CHUNKS, _CHUNKS), (start, _U64), (0, _U64)
    _KEY.pack_into(
        *(buffer, 0, _CHUNK_TREE, *objects, *offsets, *all_of_time),
        *(_CHUNK, _CHUNK, _U32),
    )
    try:
        fcntl.ioctl(folder, TREE_SEARCH, buffer)
    except OSError as error:
        raise SysPxeError(
            f"{mounted}: its chunks cannot be read: {error.strerror}",
            "the seed of a VM pool is a btrfs file system; build the "
            "release again",
        ) from None
    return parse(bytes(buffer))
