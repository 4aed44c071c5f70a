"""A copy of an XFS file system in which all files share their data: reflinks.

XFS has no snapshots. The copy lies in a hidden folder at the root of the same
file system and takes room for names and inodes only. Files are taken one after
the other; each is whole, as clones are atomic to writers (ioctl_ficlone(2)).
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.dom0 import marks
from sys_pxe.dom0.mounts import bound, mounted
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.squash import EMPTIED
from sys_pxe.dom0.stopping import stoppable, undisturbed

TREE = "tree"
# fs/xfs/libxfs/xfs_fs.h: XFS_IOC_FSGEOMETRY_V4, the size of its struct, where
# flags lie in it, XFS_FSOP_GEOM_FLAGS_REFLINK
_GEOMETRY, _GEOMETRY_SIZE, _FLAGS_AT, _REFLINK = 0x8070587C, 112, 92, 1 << 20
# what cp(1) says of a file that was removed meanwhile, and of a swap file that
# is in use, which cannot be cloned and which no release has
_LEFT_OUT = (b": No such file or directory\n", b": Text file busy\n")
_HINT = (
    "the copy shares the data of all files, and takes about 1 KiB of each for "
    "its name and inode: is there room? 'df -h' and 'df -i' show it; of a file "
    "that was replaced in that moment there is nothing to do but build again"
)


def possible(path: Path) -> bool:
    """Say whether files of the XFS that is mounted at ``path`` can be cloned.

    False where it cannot be written to through this mount.
    """
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return False
    asked = bytes(_GEOMETRY_SIZE)
    with files.opened_folder(path) as folder:
        found = fcntl.ioctl(folder, _GEOMETRY, asked)
    (flags,) = struct.unpack_from("=I", found, _FLAGS_AT)
    return bool(flags & _REFLINK)


@contextmanager
def snapshot(path: Path, work: Path, reporter: Reporter) -> Iterator[Path]:
    """Yield a copy of the file system whose root is mounted at ``path``.

    ``work`` is a folder to mount in. What is mounted below ``path`` is not in
    the copy, nor what a release has empty. The copy is gone when the block
    ends, also by Ctrl-C, SIGTERM or SIGHUP, and in the middle of copying; what
    killed builds left is removed first. Raises SysPxeError with cp's words.
    """
    folder = path / marks.new_folder()
    with stoppable():
        try:
            with undisturbed():
                _sweep(path, reporter)
                # by the tool, for a file system that is full says it here
                words = ["mkdir", "--mode=0700", "--", str(folder)]
                run.run(words, hint=_HINT)
            _copy(path, folder / TREE, work)
            yield folder / TREE
        finally:
            with undisturbed():
                files.remove(folder)


def _copy(path: Path, target: Path, work: Path) -> None:
    with ExitStack() as stack:
        source = stack.enter_context(bound(path, work / "live"))
        # not only this build's: another golden image may be on the same disk
        own = [hidden.name for hidden in source.glob(marks.FOLDERS)]
        for name in (*EMPTIED, *own):
            folder = source / name
            # no link may lead to a folder of the running system
            inside = folder.resolve() == source.resolve() / name
            if inside and folder.is_dir():
                _mask(folder, stack)
        clone(source, target)
    for name in own:
        files.remove_empty(target / name)


def _mask(folder: Path, stack: ExitStack) -> None:
    """Show an empty folder of another file system in a folder's place."""
    seen = folder.stat()
    options = f"mode={seen.st_mode & 0o7777:o},uid={seen.st_uid},"
    options += f"gid={seen.st_gid}"
    words = ("-t", "tmpfs", "-o", options)
    stack.enter_context(mounted("tmpfs", folder, *words))
    with files.opened_folder(folder) as at:
        files.set_time(at, seen.st_mtime_ns)


def clone(source: Path, target: Path) -> None:
    """Copy a tree within a file system by reflinks, with all that files have.

    Files that go away meanwhile are left out; a swap file in use comes out
    empty. Raises SysPxeError with the first other thing that cp complains of.
    From one mount to another, as here, this needs Linux 5.18 (fs/ioctl.c,
    fs/remap_range.c).
    """
    argv = [
        # it would go on filling the folder after a build that was killed
        *("setpriv", "--pdeathsig", "KILL", "cp", "--archive"),
        *("--reflink=always", "--one-file-system", "--no-target-directory"),
        *("--", str(source), str(target)),
    ]
    child = run.spawn(argv, stderr=run.PIPE)
    line, fault = b"", False
    try:
        for line in child.stderr or ():
            # cp would go on with all other files, up to the last free inode
            if fault := not line.endswith(_LEFT_OUT):
                break
        else:
            # 1 is cp's for files that it left out
            fault = child.wait() not in (0, 1)
    finally:
        status = run.stop(child)
        if child.stderr:
            child.stderr.close()
    if fault:
        raise run.failure(run.Result(tuple(argv), status, b"", line), _HINT)


def _sweep(path: Path, reporter: Reporter) -> None:
    for folder in sorted(path.glob(marks.FOLDERS)):
        if not marks.is_left(folder.name):
            continue
        reporter.step(
            f"    removing the copy {folder.name}, left by a build that was "
            "killed"
        )
        try:
            files.remove(folder)
        except OSError as error:
            reporter.step(f"    warning: it stays: {error.strerror}")
