"""Read-only snapshots of btrfs subvolumes, out of sight of the running system.

They lie at the top of the file system, which is mounted only for the moments
in which one is made or removed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sys_pxe import run
from sys_pxe.dom0 import marks
from sys_pxe.dom0.mounts import mounted
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.stopping import stoppable, undisturbed
from sys_pxe.errors import SysPxeError

# of the folder that a subvolume is: BTRFS_FIRST_FREE_OBJECTID
SUBVOLUME_INODE = 256
_HINT = "install the package btrfs-progs"


@contextmanager
def snapshot(
    device: str, subvolume: str, work: Path, reporter: Reporter
) -> Iterator[str]:
    """Yield the name of a snapshot at the top of the file system.

    ``subvolume`` is its path from the top, ``work`` a folder to mount in. The
    snapshot is gone when the block ends, also by Ctrl-C, SIGTERM or SIGHUP;
    what killed builds left is removed first. Raises SysPxeError.
    """
    name = marks.new()
    with stoppable():
        try:
            with undisturbed(), _top(device, work) as top:
                _sweep(top, reporter)
                source = top / subvolume.lstrip("/")
                run.run(
                    [
                        *("btrfs", "subvolume", "snapshot", "-r", "--"),
                        *(str(source), str(top / name)),
                    ],
                    hint=_HINT,
                )
            yield name
        finally:
            with undisturbed(), _top(device, work) as top:
                if (top / name).exists():
                    _delete(top / name)


def inner(folder: Path, subvolume: str) -> list[str]:
    """Return the subvolumes that lie in one, as paths below its folder.

    A snapshot has empty folders in their places. ``subvolume`` is its path
    from the top of the file system.
    """
    words = ["btrfs", "subvolume", "list", "-o", "--", str(folder)]
    said = run.run(words, hint=_HINT).stdout.decode("utf-8", "replace")
    before = f"{subvolume.strip('/')}/".lstrip("/")
    paths = [line.partition(" path ")[2] for line in said.splitlines()]
    return [p.removeprefix(before) for p in paths if p.startswith(before)]


@contextmanager
def _top(device: str, work: Path) -> Iterator[Path]:
    options = ("-t", "btrfs", "-o", "subvolid=5")
    with mounted(device, work / "top", *options) as top:
        yield top


def _delete(path: Path) -> None:
    run.run(["btrfs", "subvolume", "delete", "--", str(path)], hint=_HINT)


def _sweep(top: Path, reporter: Reporter) -> None:
    for path in sorted(top.glob(f"{marks.PREFIX}*")):
        if not marks.is_left(path.name):
            continue
        reporter.step(
            f"    removing the snapshot {path.name}, left by a build that was "
            "killed"
        )
        try:
            _delete(path)
        except SysPxeError as error:
            reporter.step(f"    warning: {error.explain()}")
