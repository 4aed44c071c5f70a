"""Paths inside of a tree, as a system sees them that has the tree as its root.

A link in the tree is never followed by the kernel: it is read, and what it says
is taken inside the tree, as after chroot(2). So ``/x`` starts at the tree's
root, and ``..`` ends there. Paths have no slash in front.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sys_pxe import files
from sys_pxe.errors import InvalidInput

# as the kernel's own, path_resolution(7)
LINKS_MAX = 40
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


@contextmanager
def root(tree: Path) -> Iterator[int]:
    """Yield a descriptor of a tree's root; ``tree`` may be a link itself."""
    fd = files.open_folder(tree.resolve())
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened(at: int, path: str) -> Iterator[int]:
    """Yield a descriptor of a folder; a link on the way is an OSError."""
    fd = os.dup(at)
    try:
        for name in path.split("/") if path else ():
            inner = files.open_folder(name, fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def kind(at: int, path: str) -> int:
    """Return the file type (``stat.S_IFMT``) at a path without links, or 0."""
    folder, _, name = path.rpartition("/")
    try:
        with opened(at, folder) as fd:
            seen = os.stat(name or ".", dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NOTHING:
            return 0
        raise
    return stat.S_IFMT(seen.st_mode)


def resolve(at: int, path: str) -> str | None:
    """Return the path without links that a path means; None: it is nothing."""
    here: list[str] = []
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        name = todo.pop()
        if name == "..":
            here = here[:-1]
        if name in ("", ".", ".."):
            continue
        place = "/".join((*here, name))
        found = kind(at, place)
        if stat.S_ISLNK(found):
            links += 1
            if links > LINKS_MAX:
                return None
            target = _target(at, "/".join(here), name)
            if target.startswith("/"):
                here = []
            todo += target.split("/")[::-1]
        elif found == 0 or (todo and not stat.S_ISDIR(found)):
            return None
        else:
            here.append(name)
    return "/".join(here)


def _target(at: int, folder: str, name: str) -> str:
    with opened(at, folder) as fd:
        return os.readlink(name, dir_fd=fd)


def is_folder(at: int, path: str) -> bool:
    """Whether a path without links is a folder."""
    return path == "" or stat.S_ISDIR(kind(at, path))


def listed(at: int, path: str) -> list[str]:
    """Return the sorted names in a folder, given by a path without links."""
    with opened(at, path) as fd:
        return sorted(os.listdir(fd))


def read(at: int, path: str, limit: int) -> bytes:
    """Return the first bytes of a regular file; what is none has no bytes."""
    place = resolve(at, path)
    if place is None:
        return b""
    folder, _, name = place.rpartition("/")
    try:
        with opened(at, folder) as fd:
            return files.read_at(fd, name or ".", limit)
    except InvalidInput:
        return b""
