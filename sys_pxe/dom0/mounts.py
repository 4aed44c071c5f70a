"""Mounts that are gone when the block ends, or when the process does.

After :func:`private` all mounts belong to this process and its children: the
kernel undoes them when the last of these ends, also after SIGKILL.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.dom0.stopping import undisturbed
from sys_pxe.errors import SysPxeError

# linux/sched.h; os.unshare is there from Python 3.12 on
_CLONE_NEWNS = 0x00020000
LOWER, UPPER, WORK, MERGED = "lower", "upper", "work", "merged"


def private() -> None:
    """Put this process into a mount namespace of its own.

    What it mounts from now on is seen by its later children only. Threads that
    run already stay where they are. Raises SysPxeError without the right to.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        why = os.strerror(ctypes.get_errno())
        raise SysPxeError(
            f"no mount namespace of its own for the build: {why}",
            "call it with sudo",
        )
    run.run(["mount", "--make-rprivate", "/"])


@contextmanager
def mounted(
    what: Path | str, where: Path, *options: str, hint: str = ""
) -> Iterator[Path]:
    """Mount ``what`` on the folder ``where``, which is made, and yield it.

    ``options`` are words of mount(8), such as ``--bind`` or ``-o``, ``ro``.
    Raises SysPxeError, with ``hint``, when mount fails.
    """
    files.make_folder(where)
    done = False
    try:
        with undisturbed():
            run.run(["mount", *options, "--", str(what), str(where)], hint=hint)
            done = True
        yield where
    finally:
        with undisturbed():
            if done:
                _unmount(where)


@contextmanager
def bound(what: Path, where: Path) -> Iterator[Path]:
    """Show a folder, without what is mounted below it, read-only elsewhere."""
    with mounted(what, where, "--bind"):
        run.run(["mount", "-o", "remount,bind,ro", "--", str(where)])
        yield where


@contextmanager
def overlaid(lower: Path, work: Path, name: str) -> Iterator[Path]:
    """Yield a tree that shows ``lower``; writing to it does not touch that.

    What is written lands in a new folder ``name`` of ``work``, which must not
    lie on an overlay; it stays behind. Mounts below ``lower`` do not show.
    """
    place = files.make_folder(work / name, 0o700)
    for part in (UPPER, WORK):
        files.make_folder(place / part)
    # the root of an overlay has the mode of its upper layer
    files.set_mode(place / UPPER, lower.stat().st_mode & 0o7777)
    options = f"lowerdir={LOWER},upperdir={UPPER},workdir={WORK}"
    # a bind mount, so that no character of the path reaches mount's options;
    # read-only, so that who removes the work folder removes nothing else
    with bound(lower.absolute(), place / LOWER):
        merged = files.make_folder(place / MERGED)
        try:
            with undisturbed():
                run.run(
                    ["mount", "-t", "overlay", "-o", options, name, MERGED],
                    cwd=str(place),
                    hint="the kernel needs overlayfs, and the folder of "
                    "--state must lie on a local file system that is not an "
                    "overlay itself",
                )
            yield merged
        finally:
            with undisturbed():
                if merged.is_mount():
                    _unmount(merged)


def _unmount(where: Path) -> None:
    done = run.run(["umount", "--", str(where)], check=False)
    if done.status != 0:
        # whoever still reads there keeps it; nobody else may go in
        run.run(["umount", "--lazy", "--", str(where)])
