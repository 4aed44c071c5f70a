"""RAM that the release lies in: a tmpfs of its own size, its files, root.

The tmpfs is not /run, which systemd caps at 20 % of the RAM. Nothing is
unpacked: the squashfs stays compressed and is mounted where it lies.
"""

import os
from io import FileIO
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.errors import SysPxeError

MEMINFO = Path("/proc/meminfo")
BASE = Path("/run/sys-pxe")
IMAGES = BASE / "images"
ROOT = BASE / "root"
ISSUES = Path("/run/issue.d")
# sysroot.mount names these in its options
CHANGES = BASE / "changes"
UPPER = CHANGES / "upper"
WORK = CHANGES / "work"
# room for the tmpfs' own bookkeeping, in bytes
_SLACK = 1 << 20


def total_mib(meminfo: Path = MEMINFO) -> int:
    """Return the RAM that this dom0 has, in MiB."""
    return _kib(meminfo, "MemTotal") // 1024


def _kib(meminfo: Path, wanted: str) -> int:
    for line in meminfo.read_text("ascii").splitlines():
        key, _, value = line.partition(":")
        if key == wanted and value.split():
            return int(value.split()[0])
    raise SysPxeError(f"{meminfo} has no {wanted}")


def mount_tmpfs(where: Path, size: int) -> None:
    """Mount a tmpfs that holds ``size`` bytes, for root's eyes only."""
    files.make_folder(where)
    run.run(
        [
            *("mount", "-t", "tmpfs", "-o"),
            f"size={size + _SLACK},mode=0700,nosuid,nodev,noexec",
            *("sys-pxe", str(where)),
        ],
        timeout=60,
    )


def new_image(path: Path, size: int, meminfo: Path = MEMINFO) -> FileIO:
    """Return a new file of ``size`` zeros, open for reading and writing.

    That there is room is checked here (SysPxeError), so that RAM does not run
    out in mid-transfer. The pages are taken as bytes arrive, which spares
    zeroing them all before.
    """
    disk = os.statvfs(path.parent)
    available = _kib(meminfo, "MemAvailable") << 10
    room = min(disk.f_bavail * disk.f_frsize, available)
    if size > room:
        raise SysPxeError(
            f"no RAM for {path.name}: it needs {size >> 20} MiB, "
            f"{room >> 20} MiB are free",
            "raise ram.dom0 in the client's profile",
        )
    try:
        return files.new_sparse(path, size)
    except OSError as error:
        raise SysPxeError(f"{path}: {error.strerror}") from None


def mount_root(image: Path, overlay_mib: int) -> None:
    """Mount the squashfs, and make the capped place for its changes.

    What is joined to an overlay, and mounted at /sysroot, is sysroot.mount's.
    """
    run.run(["modprobe", "-a", "loop", "squashfs", "overlay"], timeout=60)
    files.make_folder(ROOT)
    run.run(
        ["mount", "-t", "squashfs", "-o", "loop,ro", str(image), str(ROOT)],
        timeout=60,
        hint="the kernel of this release lacks squashfs with zstd",
    )
    mount_changes(overlay_mib)


def mount_changes(overlay_mib: int) -> None:
    """Mount the tmpfs that takes all changes of the root, at most this big."""
    files.make_folder(CHANGES)
    run.run(
        [
            *("mount", "-t", "tmpfs", "-o", f"size={overlay_mib}m,mode=0755"),
            *("sys-pxe-changes", str(CHANGES)),
        ],
        timeout=60,
    )
    files.make_folder(UPPER)
    files.make_folder(WORK)


def write_issue(text: str, folder: Path = ISSUES) -> None:
    """Show a line above the login prompt; agetty(8) reads issue.d."""
    files.make_folder(folder)
    files.write(folder / "sys-pxe.issue", text.encode("ascii") + b"\n")


def write_hostname(name: str) -> None:
    """Give the machine its client's name, in the overlay's upper layer."""
    etc = files.make_folder(UPPER / "etc")
    files.write(etc / "hostname", name.encode("ascii") + b"\n")
