"""The squashfs of the sealed dom0 root, laid out so that releases share chunks.

mksquashfs writes the data of files in the order of their priorities and the
tables at the end. What changes rarely comes first, so that a change in /etc
leaves all chunks but the first (it holds the superblock) and the last as they
were.
"""

import re
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.dom0.progress import Reporter
from sys_pxe.errors import SysPxeError

DEFAULT_LEVEL = 15
LEVELS = range(1, 23)
# folder -> priority of the files below it; what is not named has 0
PRIORITIES = {
    "usr/lib/firmware": 900,
    "usr/lib/modules": 800,
    "usr/lib": 700,
    "usr/lib64": 650,
    "usr/share": 600,
    "usr": 500,
    "boot": 400,
    "var/lib": -400,
    "var": -500,
    "usr/local": -600,
    "srv": -650,
    "home": -700,
    "root": -750,
    "etc": -800,
}
# filled at each boot; the folders themselves stay
EMPTIED = ("proc", "sys", "dev", "run", "tmp", "var/tmp")
_PROGRESS = re.compile(rb"([0-9]{1,12})/([0-9]{1,12}) +[0-9]{1,3}%")
# the words of ENOSPC and EDQUOT, which it repeats (strerror of glibc)
_FULL = re.compile(rb"No space left on device|Disk quota exceeded")


def arguments(tree: Path, target: Path, order: Path, level: int) -> list[str]:
    """Return the call of mksquashfs; the same tree gives the same bytes."""
    return [
        # mksquashfs refuses -mkfs-time when this variable is set
        *("env", "-u", "SOURCE_DATE_EPOCH"),
        *("mksquashfs", str(tree), str(target)),
        *("-noappend", "-comp", "zstd", "-Xcompression-level", str(level)),
        # no time of the build in the image; no table for NFS exports
        *("-mkfs-time", "0", "-no-exports", "-sort", str(order)),
        *("-wildcards", "-e"),
        *(f"{folder}/{rest}" for folder in EMPTIED for rest in ("*", ".*")),
    ]


def order_text(tree: Path) -> bytes:
    """Return the sort file for a tree (sort_readme of squashfs-tools)."""
    lines = [
        f"{folder} {priority}\n"
        for folder, priority in PRIORITIES.items()
        if (tree / folder).is_dir() and not (tree / folder).is_symlink()
    ]
    return "".join(lines).encode("ascii")


def build(
    tree: Path, target: Path, work: Path, level: int, reporter: Reporter
) -> None:
    """Write the squashfs of a tree; ``work`` is a folder for small files.

    Raises SysPxeError when mksquashfs is missing or fails, and says so where
    the disk is full.
    """
    order = work / "squashfs-order"
    files.write(order, order_text(tree))
    argv = arguments(tree.absolute(), target, order, level)
    child = run.spawn(argv, stdout=run.PIPE, stderr=run.STDOUT)
    bar = reporter.bar(target.name, 0, "blocks")
    last = b""
    try:
        while child.stdout and (part := child.stdout.read1(1 << 12)):  # type: ignore[attr-defined]
            last = (last + part)[-4000:]
            if found := _PROGRESS.findall(last):
                done, total = found[-1]
                bar.set(int(done), int(total))
        status = child.wait()
    finally:
        run.stop(child)
        if child.stdout:
            child.stdout.close()
    if status != 0:
        # the progress bar and the notes before it say nothing about the cause
        said = last.replace(b"\r", b"\n")
        raise _failure(run.Result(tuple(argv), status, b"", said), target)
    bar.end()


def _failure(result: run.Result, target: Path) -> SysPxeError:
    if not re.search(_FULL, result.stderr):
        return run.failure(result, "install the package squashfs-tools")
    error = run.failure(result)
    return SysPxeError(
        f"the disk is full: {target} does not fit: {error.message}",
        "free some space there (remove old releases, for example), or put "
        "the state elsewhere with --state",
    )
