"""Writing: whole or not at all, and nothing left behind."""

import os
import stat
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.errors import Busy, InvalidInput


class Boom(Exception):
    pass


def names_in(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    files.write(tmp_path / "a", b"new", 0o600)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert names_in(tmp_path) == {"a"}


def test_readers_see_the_old_bytes_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with files.replacing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_failure_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(Boom), files.replacing(path) as stream:
        stream.write(b"half")
        raise Boom
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == {"a"}


def test_bytes_are_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        done.append("fsync folder" if folder else "fsync file")
        real_fsync(fd)

    def rename(source: str, target: Path) -> None:
        done.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    files.write(tmp_path / "a", b"x")
    assert done == ["fsync file", "rename", "fsync folder"]


def test_a_link_is_changed_in_one_step(tmp_path: Path) -> None:
    files.link_to(tmp_path / "now", "one")
    files.link_to(tmp_path / "now", "two")
    assert (tmp_path / "now").readlink() == Path("two")
    assert names_in(tmp_path) == {"now"}


def test_removing_takes_files_folders_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("folder", "file", "missing"):
        files.remove(tmp_path / name)
    assert names_in(tmp_path) == set()


def test_removing_a_link_spares_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    files.remove(tmp_path / "link")
    assert names_in(tmp_path) == {"kept"}
    assert names_in(tmp_path / "kept") == {"file"}


def test_a_copy_has_its_own_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    files.copy(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").write_bytes(b"changed")
    assert (tmp_path / "b").read_bytes() == b"x" * 3_000_000


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    first = files.make_folder(tmp_path / "a" / "b")
    assert files.make_folder(first) == first and first.is_dir()


def test_a_moved_file_keeps_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    target = files.make_folder(tmp_path / "below") / "b"
    files.rename(tmp_path / "a", target)
    assert target.read_bytes() == b"x" and names_in(tmp_path) == {"below"}


def test_a_sparse_file_has_its_size_and_is_new(tmp_path: Path) -> None:
    files.new_sparse(tmp_path / "a", 1 << 30).close()
    found = (tmp_path / "a").stat()
    assert (found.st_size, found.st_blocks) == (1 << 30, 0)
    with pytest.raises(FileExistsError):
        files.new_sparse(tmp_path / "a", 1)


def test_scratch_is_gone_after_a_failure_too(tmp_path: Path) -> None:
    seen = []
    with pytest.raises(Boom), files.scratch("sys-pxe-test-") as folder:
        (folder / "x").touch()
        seen.append(folder)
        raise Boom
    assert not seen[0].exists()


@pytest.mark.parametrize("size", [0, 10])
def test_a_file_within_the_limit_is_read(size: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(size))
    assert files.read_capped(tmp_path / "a", 10) == bytes(size)


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    with pytest.raises(InvalidInput, match="is larger than 10 bytes"):
        files.read_capped(tmp_path / "a", 10)


def test_a_lock_is_held_once_and_given_back(tmp_path: Path) -> None:
    with files.locked(tmp_path / "lock", "the store"):
        with (
            pytest.raises(Busy, match="the store is in use") as caught,
            files.locked(tmp_path / "lock", "the store"),
        ):
            pass
        assert caught.value.exit_code == 5
    with files.locked(tmp_path / "lock", "the store"):
        pass


def test_a_control_file_is_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "bind"
    path.touch()
    before = path.stat().st_ino
    files.write_control(path, "0000:00:03.0")
    assert path.read_text() == "0000:00:03.0"
    assert path.stat().st_ino == before


def test_the_number_of_a_group_is_found(tmp_path: Path) -> None:
    path = tmp_path / "group"
    files.write(
        path, b"root:x:0:\nqubes:x:98:user\nbroken\nodd:x:-1:\n\xff:x\n"
    )
    assert files.group_number(path, "qubes") == 98
    assert files.group_number(path, "odd") == 0
    assert files.group_number(path, "none") == 0
    assert files.group_number(tmp_path / "missing", "qubes") == 0
