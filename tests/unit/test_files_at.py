"""Changes below a folder's descriptor: no link is followed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.errors import InvalidInput


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("kept")
    return folder


@pytest.fixture
def at(tmp_path: Path, outside: Path) -> Iterator[int]:
    """A folder with a file, a folder, and links that lead out of it."""
    inside = tmp_path / "inside"
    (inside / "folder/deep").mkdir(parents=True)
    (inside / "folder/deep/file").write_text("x")
    (inside / "folder/link").symlink_to(outside)
    (inside / "file").write_text("content")
    (inside / "link").symlink_to(outside)
    (inside / "to-file").symlink_to(outside / "file")
    fd = files.open_folder(inside)
    yield fd
    os.close(fd)


def test_a_link_is_not_opened_as_a_folder(at: int) -> None:
    os.close(files.open_folder("folder", at))
    for name in ("link", "file", "missing"):
        with pytest.raises(OSError):
            files.open_folder(name, at)


def test_links_are_removed_and_what_they_lead_to_is_not(
    at: int, outside: Path
) -> None:
    for name in ("folder", "file", "link", "to-file"):
        files.remove_at(at, name)
    assert os.listdir(at) == []
    assert (outside / "file").read_text() == "kept"
    with pytest.raises(FileNotFoundError):
        files.remove_at(at, "file")


def test_only_regular_files_are_read(at: int) -> None:
    assert files.read_at(at, "file", 3) == b"con"
    for name in ("to-file", "folder", "link"):
        with pytest.raises(InvalidInput, match="regular"):
            files.read_at(at, name, 3)


def test_what_exists_is_never_written_to(at: int, outside: Path) -> None:
    for name in ("file", "to-file", "link", "folder"):
        with pytest.raises(FileExistsError):
            files.new_at(at, name, b"x", 0o644)
        with pytest.raises(FileExistsError):
            files.new_folder_at(at, name)
        with pytest.raises(FileExistsError):
            files.new_link_at(at, name, "x")
    assert (outside / "file").read_text() == "kept"


def test_new_things_have_mode_content_and_time(at: int) -> None:
    files.new_at(at, "new", b"bytes", 0o404)
    files.new_folder_at(at, "f")
    files.new_link_at(at, "l", "/dev/null")
    assert files.read_at(at, "new", 9) == b"bytes"
    assert os.stat("new", dir_fd=at).st_mode & 0o777 == 0o404
    assert os.readlink("l", dir_fd=at) == "/dev/null"
    for name in ("new", "f", "l"):
        files.set_time(at, 5_000_000_007, name)
        seen = os.stat(name, dir_fd=at, follow_symlinks=False)
        assert seen.st_mtime_ns == 5_000_000_007
    files.set_time(at, 6_000_000_000)
    assert os.fstat(at).st_mtime_ns == 6_000_000_000
