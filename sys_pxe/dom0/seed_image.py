"""The btrfs image of a seed while it is made: mkfs, loop, grow, trim, seal.

The image begins small and grows while it is filled: a file system that was
too large keeps its data spread over it, and cannot be made small again.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from threading import Lock

from sys_pxe import files, run
from sys_pxe.errors import SysPxeError

MIB = 1 << 20
# btrfs refuses to resize below 256 MiB (fs/btrfs/ioctl.c, SZ_256M)
SMALLEST = 256 * MIB
# what may be on its way to the image, and room for a piece of metadata
MARGIN = 64 * MIB
STEP = 32 * MIB
# below it the file system that holds the image counts as full
HOST_MARGIN = 48 * MIB
# what btrfs takes (fs/btrfs/zstd.c, ZSTD_BTRFS_MAX_LEVEL)
BTRFS_LEVELS = (1, 15)
_HINT = "install the packages btrfs-progs and util-linux"
# nothing in it is run or taken for a device; a commit only when asked for
_OPTIONS = "noatime,nodev,nosuid,noexec,commit=300,nodiscard"
_SEEDING = re.compile(rb"^flags\s+0x[0-9a-f]+\s+\([^)]*\bSEEDING\b", re.M)
_RELEASE_TRIES, _RELEASE_PAUSE = 50, 0.2


class SeedImage:
    """A mounted image that grows. ``mount`` is its root."""

    def __init__(self, path: Path, loop: str, mount: Path) -> None:
        self.path = path
        self.loop = loop
        self.mount = mount
        self._stream = FileIO(str(path), "r+")
        self._lock = Lock()

    def close(self) -> None:
        """Close the file; it stays as it is."""
        self._stream.close()

    def make_room(self, more: bool = False) -> None:
        """See that what is written next has room; any thread may call it.

        ``more`` lets the image grow in any case: btrfs itself found no room.
        Raises SysPxeError when the disk that holds the image is full.
        """
        with self._lock:
            if free_bytes(self.path.parent) < HOST_MARGIN:
                raise full(self.path)
            if more:
                self._resize(self._stream.seek(0, 2) + STEP)
            while free_bytes(self.mount) < MARGIN:
                self._resize(self._stream.seek(0, 2) + STEP)

    def _resize(self, size: int) -> None:
        self._stream.truncate(size)
        run.run(["losetup", "--set-capacity", self.loop])
        run.run(
            ["btrfs", "filesystem", "resize", "max", str(self.mount)],
            hint=f"look into the kernel's log (dmesg) for {self.loop}",
        )

    def finish(self) -> None:
        """Bring all to the image, cut its unused end off, free its holes.

        Raises SysPxeError for what could not be written.
        """
        place = str(self.mount)
        self._checked(["sync", "--file-system", place])
        least = run.run(["btrfs", "inspect-internal", "min-dev-size", place])
        size = max(int(least.stdout.split()[0]), SMALLEST)
        size += -size % MIB
        if size < self._stream.seek(0, 2):
            # only what was never handed out: nothing has to move
            self._checked(["btrfs", "filesystem", "resize", str(size), place])
            self._stream.truncate(size)
            run.run(["losetup", "--set-capacity", self.loop])
        self._checked(["fstrim", place])
        self._checked(["sync", "--file-system", place])

    def _checked(self, argv: list[str]) -> None:
        try:
            run.run(argv, hint=_HINT)
        except SysPxeError:
            if free_bytes(self.path.parent) < HOST_MARGIN:
                raise full(self.path) from None
            raise


@contextmanager
def mounted(target: Path, work: Path, level: int) -> Iterator[SeedImage]:
    """Make the image ``target`` and yield it mounted below ``work``.

    ``level`` is zstd's; btrfs takes 1 to 15, more counts as 15. At the end
    neither mount nor loop device are left; ``target`` is. Raises SysPxeError,
    also when somebody else still holds the mount.
    """
    level = min(max(level, BTRFS_LEVELS[0]), BTRFS_LEVELS[1])
    files.new_sparse(target, SMALLEST).close()
    run.run(
        [
            *("mkfs.btrfs", "--quiet", "--nodiscard"),
            *("--data", "single", "--metadata", "single", str(target)),
        ],
        hint=_HINT,
    )
    found = run.run(["losetup", "--find", "--show", str(target)], hint=_HINT)
    loop = found.stdout.decode("ascii").strip()
    try:
        with _mount(loop, work, level) as place:
            image = SeedImage(target, loop, place)
            try:
                yield image
            finally:
                image.close()
    finally:
        run.run(["losetup", "--detach", loop], check=False)
    _wait_for_release(Path("/sys/block") / Path(loop).name, target)


@contextmanager
def _mount(loop: str, work: Path, level: int) -> Iterator[Path]:
    place = files.make_folder(work / "seed", 0o700)
    options = f"{_OPTIONS},compress-force=zstd:{level}"
    run.run(["mount", "-t", "btrfs", "-o", options, loop, str(place)])
    try:
        yield place
    except BaseException:
        # what was not written yet need not be: or its end is minutes away
        with suppress(OSError):
            for left in place.iterdir():
                files.remove(left)
        _unmount(place)
        raise
    else:
        _unmount(place)
    finally:
        # Linux also ends the copies of the mount in other mount namespaces
        # when their folder is removed (fs/namei.c, detach_mounts)
        files.remove_empty(place)


def _unmount(place: Path) -> None:
    try:
        run.run(
            ["umount", str(place)],
            hint=f"end what looks into {place}, then build again",
        )
    except SysPxeError:
        run.run(["umount", "--lazy", str(place)], check=False)
        raise


def _wait_for_release(block: Path, target: Path) -> None:
    """Wait until the kernel let go of the image, or say that it does not."""
    for _ in range(_RELEASE_TRIES):
        if not (block / "loop/backing_file").exists():
            return
        time.sleep(_RELEASE_PAUSE)
    raise SysPxeError(
        f"{target} is still in use by a process in another mount namespace",
        "end what looks into it there, then build again",
    )


def seal(target: Path) -> None:
    """Check an unmounted image, data and all, and make it a seed.

    Raises SysPxeError when it has a fault or did not become a seed.
    """
    run.run(
        ["btrfs", "check", "--readonly", "--check-data-csum", str(target)],
        hint="the disk or the RAM of this PC changed bytes; build again",
    )
    run.run(["btrfstune", "-S", "1", str(target)], hint=_HINT)
    files.sync(target)
    shown = run.run(["btrfs", "inspect-internal", "dump-super", str(target)])
    if not is_seed(shown.stdout):
        raise SysPxeError(
            f"{target} did not become a seed: its SEEDING flag is not set",
            "see that nobody mounts it meanwhile, then build again",
        )


def is_seed(superblock: bytes) -> bool:
    """Say whether the text of ``dump-super`` shows the flag of a seed."""
    return _SEEDING.search(superblock) is not None


def free_bytes(place: Path) -> int:
    """Return the bytes that a file system still has for files."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def full(target: Path) -> SysPxeError:
    """Return the error of a disk that has no room for the image."""
    return SysPxeError(
        f"the disk is full: {target.parent} has "
        f"{free_bytes(target.parent) // MIB} MiB left for {target.name}",
        "free some space there (remove old releases, for example), or put "
        "fewer qubes into the release, then build again",
    )
