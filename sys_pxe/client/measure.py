"""Reads how full pool and overlay are, who writes, and who took what.

How much the pool can still take is what btrfs would give a writer: statvfs
counts the sprout's unallocated bytes and the free ones in its data chunks, and
leaves out the seed, whose chunks are read-only (btrfs_statfs in the kernel).
It counts a write only when its extent is allocated, up to half a minute later:
what was promised in the meantime is in sysfs, and is subtracted.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import names, usage
from sys_pxe.client import extents
from sys_pxe.errors import SysPxeError
from sys_pxe.usage import Taker, Usage

ZRAM = "zram0"
# folders of Qubes' file-reflink driver, one folder per qube below each
_QUBES = ("appvms", "vm-templates")
_PROMISED = ("bytes_may_use", "bytes_reserved")
# Documentation/admin-guide/blockdev/zram.rst: mem_used_total is the third
_MEM_USED = 2
# of sector counts in statistics, whatever the disk's own are
_SECTOR = 512
# entries of the overlay that one walk looks at
WALK_MAX = 20_000
# folders of dom0 are told by so many names, such as /var/log
_DEPTH = 2
_NAME_MAX = 80


@dataclass(frozen=True)
class Places:
    """Where things are; tests have them elsewhere."""

    run: Path = Path("/run/sys-pxe")
    pool: Path = Path("/var/lib/qubes")
    sys: Path = Path("/sys")

    @property
    def boot(self) -> Path:
        """What the client program found out while it booted."""
        return self.run / "boot.json"

    @property
    def state(self) -> Path:
        """Where the state for people and programs goes."""
        return self.run / "usage.json"

    @property
    def changes(self) -> Path:
        """The tmpfs that holds the overlay's upper layer."""
        return self.run / "changes"

    @property
    def reserve(self) -> Path:
        """The file whose bytes are given up when the pool is full."""
        return self.pool / ".sys-pxe-reserve"


@dataclass(frozen=True)
class Room:
    """The size of a file system and what a writer can still get, in bytes."""

    total: int
    free: int


Look = Callable[[Path], Room]


def room(path: Path) -> Room:
    """Return the room of the file system that ``path`` is on (OSError)."""
    found = os.statvfs(path)
    size = found.f_frsize
    return Room(found.f_blocks * size, found.f_bavail * size)


def _numbers(path: Path) -> list[int] | None:
    """Return the numbers in a file of sysfs; None where there are none."""
    try:
        return [int(word) for word in path.read_text("ascii").split()]
    except (OSError, ValueError):
        return None


def _number(path: Path) -> int:
    return (_numbers(path) or [0])[0]


def pool(places: Places, look: Look) -> Usage:
    """Return how full the VM pool is. SysPxeError where there is none."""
    size = places.sys / "block" / ZRAM / "disksize"
    limit = _number(size)
    if limit <= 0:
        raise SysPxeError(
            f"the VM pool is gone: {size} tells no size",
            "restart this PC",
        )
    free = look(places.pool).free - _promised(places)
    return Usage(usage.POOL, limit - min(max(free, 0), limit), limit)


def _promised(places: Places) -> int:
    """Return the bytes that were written but are not allocated yet."""
    devices = (places.sys / "fs/btrfs").glob(f"*/devices/{ZRAM}")
    return sum(
        _number(device.parent.parent / "allocation/data" / name)
        for device in devices
        for name in _PROMISED
    )


def overlay(places: Places, look: Look) -> Usage:
    """Return how full dom0's overlay is (OSError)."""
    found = look(places.changes)
    return Usage(usage.OVERLAY, found.total - found.free, found.total)


def ram_bytes(places: Places) -> int | None:
    """Return the RAM that the pool takes now; None where nobody tells."""
    found = _numbers(places.sys / "block" / ZRAM / "mm_stat") or []
    return found[_MEM_USED] if len(found) > _MEM_USED else None


def written(places: Places) -> dict[int, int]:
    """Return domain number -> bytes that it wrote to disks in the pool."""
    found: dict[int, int] = {}
    for folder in (places.sys / "bus/xen-backend/devices").glob("vbd-*-*"):
        domid = folder.name.split("-")[1]
        if not domid.isdecimal() or not _in_pool(folder, places):
            continue
        # a disk that has just gone tells nothing
        sectors = _number(folder / "statistics/wr_sect")
        found[int(domid)] = found.get(int(domid), 0) + sectors * _SECTOR
    return found


def _in_pool(vbd: Path, places: Places) -> bool:
    """Whether a disk is a file of the pool; one that nobody knows may be."""
    try:
        device = (vbd / "physical_device").read_text("ascii").strip()
        # xen-blkback writes both numbers in hex, /sys/dev in decimal
        major, minor = (int(part, 16) for part in device.split(":"))
        block = places.sys / "dev/block" / f"{major}:{minor}"
        backing = (block / "loop/backing_file").read_text("utf-8")
    except (OSError, ValueError):
        return True
    # the client program mounts it at one place, and binds it to the other
    return backing.startswith((f"{places.pool}/", f"{places.run}/pool/"))


def pool_takers(places: Places, boundary: int) -> list[Taker]:
    """Return what each qube takes of the pool."""
    return [
        Taker(_shown(folder.name), _own(folder, boundary))
        for kind in _QUBES
        for folder in _below(places.pool / kind)
        if folder.is_dir()
    ]


def _shown(untrusted: str) -> str:
    return names.printable(untrusted, _NAME_MAX)


def _own(folder: Path, boundary: int) -> int:
    images = [p for p in _below(folder) if p.is_file() and not p.is_symlink()]
    try:
        return extents.own_of(images, boundary)
    except OSError:
        # one qube that cannot be read must not hide the others
        return 0


def _below(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing where it is gone."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def overlay_takers(places: Places, most: int = WALK_MAX) -> list[Taker]:
    """Return what dom0's folders take of the overlay.

    Of a larger overlay ``most`` files and folders are looked at.
    """
    sums: dict[str, int] = {}
    upper = places.changes / "upper"
    for count, (path, size) in enumerate(_walk(upper)):
        if count >= most:
            break
        parts = path.relative_to(upper).parts[:-1][:_DEPTH]
        name = _shown("/" + "/".join(parts))
        sums[name] = sums.get(name, 0) + size
    return [Taker(name, size) for name, size in sums.items()]


def _walk(top: Path) -> Iterator[tuple[Path, int]]:
    """Yield what is below a folder with the bytes it takes, near ones first."""
    waiting = [top]
    for folder in waiting:
        for path in _below(folder):
            try:
                found = path.lstat()
            except OSError:
                continue
            yield path, found.st_blocks * 512
            if stat.S_ISDIR(found.st_mode):
                waiting.append(path)
