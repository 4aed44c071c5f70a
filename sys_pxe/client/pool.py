"""The VM pool: the release's btrfs seed, in RAM, with a zram sprout on top.

The seed is a read-only file system image; what qubes write goes to the zram,
whose disksize is the pool's limit. Never a limit on zram's memory, which turns
a full pool into a dead file system; never a backing device, which is a disk.
The steps are those of "Seeding device" in btrfs(5).
"""

import fcntl
import struct
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files, run, usage
from sys_pxe.client import chunks, memory
from sys_pxe.errors import SysPxeError

# sysroot-var-lib-qubes.mount binds it into dom0's root
POOL = memory.BASE / "pool"
RESERVE = POOL / ".sys-pxe-reserve"
ZRAM = Path("/dev/zram0")
SYSFS = Path("/sys/block/zram0")
MODULES = ("loop", "btrfs", "zram")
# _IOW(0x94, 10, struct btrfs_ioctl_vol_args), linux/btrfs.h
_ADD_DEVICE = 0x5000940A
_VOL_ARGS = struct.Struct("=q4088s")
_HINT = "the kernel of this release lacks btrfs with zstd, or zram"


@dataclass(frozen=True)
class Pool:
    """The pool as it was made; sizes in bytes.

    ``boundary`` is the btrfs address above which nothing of the seed lies.
    """

    seed_bytes: int
    disksize: int
    boundary: int


def begin_loading() -> "run.Popen[bytes]":
    """Start to load the modules, which test their algorithms for seconds."""
    return run.spawn(["modprobe", "-a", *MODULES])


def make(seed: Path, pool_mib: int) -> Pool:
    """Mount the pool and return its facts. Raises SysPxeError."""
    files.make_folder(POOL)
    run.run(
        ["mount", "-t", "btrfs", "-o", "loop,ro", str(seed), str(POOL)],
        timeout=120,
        hint=_HINT,
    )
    boundary = chunks.end_of(POOL)
    disksize = pool_mib << 20
    try:
        files.write_control(SYSFS / "disksize", str(disksize))
        _add(ZRAM)
    except OSError as error:
        raise SysPxeError(
            f"the VM pool cannot take a zram of {pool_mib} MiB: "
            f"{error.strerror}",
            _HINT,
        ) from None
    # discard: what a qube frees goes back to the system at once
    run.run(
        ["mount", "-o", "remount,rw,noatime,discard", str(POOL)], timeout=120
    )
    files.allocate(RESERVE, usage.reserve_size(disksize))
    return Pool(seed.stat().st_size, disksize, boundary)


def _add(device: Path) -> None:
    """Let the file system grow by a device, which takes all that is written."""
    # a bytearray: fcntl takes bytes of at most 1 KiB
    arguments = bytearray(_VOL_ARGS.pack(0, str(device).encode("ascii")))
    with files.opened_folder(POOL) as descriptor:
        fcntl.ioctl(descriptor, _ADD_DEVICE, arguments)
