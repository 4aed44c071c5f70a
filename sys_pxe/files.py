"""The one door to the disk for writing: whole, durable, or not at all.

A file is written beside its place (same folder), fsynced, renamed over it, and
the folder is fsynced; whoever reads sees the old bytes or the new ones.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO

from sys_pxe.errors import Busy, InvalidInput

TEMPORARY_PREFIX = ".new-"
_GROUPS_MAX = 1 << 20


@contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """Yield a descriptor of a folder, for what works on descriptors only."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    with opened_folder(folder) as fd:
        os.fsync(fd)


def make_folder(folder: Path, mode: int = 0o755) -> Path:
    """Make a folder with its parents, if it is not there, and return it."""
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    return folder


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Yield a file whose bytes take the place of ``path`` at the end.

    If the block raises, ``path`` is as before and nothing is left behind.
    """
    fd, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with open(fd, "wb") as stream:
            os.fchmod(fd, mode)
            yield stream
            stream.flush()
            os.fsync(fd)
        os.rename(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a whole file in place of ``path``."""
    with replacing(path, mode) as stream:
        stream.write(content)


def rewrite(path: Path, before: bytes, content: bytes) -> None:
    """Replace a person's file, which keeps its owner and permissions.

    Busy when it no longer holds ``before``: somebody else has changed it.
    """
    state = path.stat()
    with replacing(path, stat.S_IMODE(state.st_mode)) as file:
        if (state.st_uid, state.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(file.fileno(), state.st_uid, state.st_gid)
        file.write(content)
        if path.read_bytes() != before:
            raise Busy(f"{path} was changed by somebody else", "try again")


def write_generated(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file that is made anew at each start; a crash may lose it."""
    path.write_bytes(content)
    path.chmod(mode)


@contextmanager
def scratch(prefix: str, folder: Path | None = None) -> Iterator[Path]:
    """Yield a folder for things in between; it is gone when the block ends.

    It lies in ``folder``, or where the system has such things.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as name:
        yield Path(name)


def unnamed() -> IO[bytes]:
    """Return an open file that has no name and is gone when it is closed."""
    return tempfile.TemporaryFile()


def set_mode(path: Path, mode: int) -> None:
    """Set the permission bits of a file, folder or socket."""
    path.chmod(mode)


def set_owner(path: Path, uid: int, gid: int) -> None:
    """Set the numbers of a file's user and group; a link is not followed."""
    os.chown(path, uid, gid, follow_symlinks=False)


def rename(source: Path, target: Path) -> None:
    """Move a file or folder within a file system, durably."""
    os.rename(source, target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds; missing is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing; one that does, stays (OSError)."""
    folder.rmdir()


def sync(path: Path) -> None:
    """Make the bytes of a file durable."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def link_to(path: Path, target: str) -> None:
    """Make ``path`` a symbolic link to ``target`` in one step."""
    new = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}"
    new.unlink(missing_ok=True)
    os.symlink(target, new)
    rename(new, path)


def copy(source: Path, target: Path, mode: int = 0o644) -> None:
    """Copy a file's bytes in place of ``target``."""
    with open(source, "rb") as stream, replacing(target, mode) as new:
        shutil.copyfileobj(stream, new, 1 << 20)


def open_folder(name: str | Path, at: int | None = None) -> int:
    """Return a descriptor of a folder (below ``at``); a link is an OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=at)


def remove_at(at: int, name: str) -> None:
    """Remove what a folder's descriptor holds under a name, links as links."""
    if stat.S_ISDIR(os.lstat(name, dir_fd=at).st_mode):
        shutil.rmtree(name, dir_fd=at)
    else:
        os.unlink(name, dir_fd=at)


def new_at(at: int, name: str, content: bytes, mode: int) -> None:
    """Make a small file in a folder, not durably. OSError if there is one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(name, flags, mode, dir_fd=at), "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)


def read_at(at: int, name: str, limit: int) -> bytes:
    """Return the first bytes of a regular file in a folder, never a link's.

    OSError, or InvalidInput for what is no regular file.
    """
    seen = os.stat(name, dir_fd=at, follow_symlinks=False)
    if not stat.S_ISREG(seen.st_mode):
        raise InvalidInput(f"{name!r} is not a regular file")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=at), "rb") as stream:
        return stream.read(limit)


def new_folder_at(at: int, name: str) -> None:
    """Make a folder in a folder. OSError if the name exists."""
    os.mkdir(name, 0o755, dir_fd=at)


def new_link_at(at: int, name: str, target: str) -> None:
    """Make a symbolic link in a folder. OSError if the name exists."""
    os.symlink(target, name, dir_fd=at)


def set_time(at: int, nanoseconds: int, name: str | None = None) -> None:
    """Set the times of a folder's descriptor, or of what it holds."""
    times = (nanoseconds, nanoseconds)
    if name is None:
        os.utime(at, ns=times)
    else:
        os.utime(name, ns=times, dir_fd=at, follow_symlinks=False)


def new_sparse(path: Path, size: int) -> FileIO:
    """Make a file of ``size`` zeros and return it open for reading, writing.

    No room is taken for it. OSError for a path that exists.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    stream = FileIO(os.open(path, flags, 0o600), "r+")
    stream.truncate(size)
    return stream


def allocate(path: Path, size: int) -> None:
    """Make a file that takes ``size`` bytes of its file system's room.

    OSError for a path that exists, or where there is no such room; nothing is
    left behind then.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(fd)


def write_control(path: Path, text: str) -> None:
    """Write to a file of /sys or /proc, which knows no rename (OSError)."""
    with open(path, "w", encoding="ascii") as stream:
        stream.write(text)


def read_capped(path: Path, limit: int) -> bytes:
    """Return a file's bytes; more than ``limit`` of them is InvalidInput."""
    with open(path, "rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise InvalidInput(f"{path} is larger than {limit} bytes")
    return content


def group_number(path: Path, name: str) -> int:
    """Return the number of a group in a file like group(5), or root's."""
    if not path.is_file():
        return 0
    content = read_capped(path, _GROUPS_MAX).decode("utf-8", "replace")
    for line in content.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2 and fields[2].isdecimal():
            return int(fields[2])
    return 0


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; Busy when somebody else has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"{what} is in use by another call",
                "wait until it has ended, then call again",
            ) from None
        yield
    finally:
        os.close(fd)
