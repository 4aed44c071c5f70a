"""Sealing trees with hostile links, odd names and things of another kind."""

import os
from pathlib import Path

import pytest

from sys_pxe.dom0 import seal, seal_rules
from sys_pxe.errors import SysPxeError
from tests.seal_tree import CONTENT, PLACES, golden, put, snapshot


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the tree that looks as if the rules were for it."""
    folder = tmp_path / "outside"
    golden(folder)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "srv/log/deep").mkdir(parents=True)
    (root / "srv/log/deep/x").write_bytes(CONTENT)
    (root / "usr/share/x").mkdir(parents=True)
    return root


@pytest.mark.parametrize("name", ["etc", "var", "home", "root", "boot"])
@pytest.mark.parametrize("inner", ["", "etc", "var"])
def test_nothing_outside_is_touched_by_way_of_a_link(
    tree: Path, outside: Path, name: str, inner: str
) -> None:
    (tree / name).symlink_to(outside / inner)
    before = snapshot(outside)
    if name == "etc":
        # it has to be made, and that link leads nowhere in the tree
        with pytest.raises(SysPxeError, match="/etc is not a folder"):
            seal.apply(tree)
    else:
        seal.apply(tree)
    assert snapshot(outside) == before


def test_links_at_every_place_of_a_rule_are_not_followed(
    tree: Path, outside: Path
) -> None:
    for hit, _ in PLACES.values():
        place = tree / hit
        place.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(place):
            place.symlink_to(outside / hit)
    before = snapshot(outside)
    seal.apply(tree)
    assert snapshot(outside) == before
    for path in (*("etc/fstab", "etc/machine-id", "etc/lvm/lvmlocal.conf"),):
        assert (tree / path).is_file()
        assert not (tree / path).is_symlink()


def test_other_names_of_a_file_keep_its_content(
    tree: Path, outside: Path
) -> None:
    (tree / "etc").mkdir()
    for name in ("fstab", "resolv.conf", "machine-id", "shadow-"):
        os.link(outside / "srv/swapfile", tree / "etc" / name)
    seal.apply(tree)
    assert (outside / "srv/swapfile").read_bytes() == CONTENT
    assert (tree / "etc/resolv.conf").read_bytes() == b""


@pytest.mark.parametrize("target", ["/srv/log", "../srv/log", "../../srv/log"])
def test_a_folder_behind_a_link_inside_is_sealed_there(
    tree: Path, target: str
) -> None:
    (tree / "var").mkdir()
    (tree / "var/log").symlink_to(target)
    (done,) = [line for line in seal.apply(tree) if "/var/log" in line]
    assert done.startswith("clear /var/log")
    assert not (tree / "srv/log/deep/x").exists()
    assert (tree / "srv/log/deep").is_dir()
    assert os.readlink(tree / "var/log") == target


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("etc", "/"),
        ("etc", ".."),
        ("etc", "/usr/share"),
        ("var", "/"),
        ("var/log", "/"),
        ("var/log", "../usr"),
        ("var/log", "/usr/share/x"),
        ("var/lib/qubes", "/var/lib"),
        ("var/cache", "../srv"),
        ("home/user", "/usr/share"),
    ],
)
def test_a_link_into_the_system_is_refused_by_name(
    tree: Path, name: str, target: str
) -> None:
    link = tree / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    with pytest.raises(SysPxeError, match=f"/{name} is, or lies") as caught:
        seal.apply(tree)
    assert "folder" in caught.value.hint
    assert (tree / "usr/share/x").is_dir()
    assert (tree / "srv/log/deep/x").exists()


@pytest.mark.parametrize("target", ["/tmp", "../run/x", "/dev/null", "loop"])
def test_a_link_to_what_is_no_part_of_a_release_is_left(
    tree: Path, target: str
) -> None:
    for name in ("var/log", "tmp", "run/x", "dev"):
        (tree / name).parent.mkdir(exist_ok=True)
    put(tree, "tmp/x")
    put(tree, "run/x/x")
    (tree / "var/log").symlink_to(target)
    seal.apply(tree)
    assert os.readlink(tree / "var/log") == target
    assert (tree / "tmp/x").exists()
    assert (tree / "run/x/x").exists()


def test_names_with_newlines_and_odd_bytes(tree: Path) -> None:
    names = [b"a\nb", b"\xff\xfe", b"-rf", b"*", b"\x1b[2J", b" "]
    for name in names:
        log = tree / "var/log/x" / os.fsdecode(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(CONTENT)
        put(tree, f"home/{os.fsdecode(name)}/.bash_history")
        put(tree, f"var/cache/{os.fsdecode(name)}/x")
    done = seal.apply(tree)
    assert all(line.isprintable() for line in done)
    assert len([line for line in done if "_history" in line]) == len(names)
    assert os.listdir(tree / "var/log/x") == []
    assert not list((tree / "home").glob("*/.bash_history"))
    seal.check(tree)


def test_odd_things_in_place_of_files_are_replaced(tree: Path) -> None:
    put(tree, "etc/fstab/folder/x")
    (tree / "etc/lvm/lvmlocal.conf").parent.mkdir()
    os.mkfifo(tree / "etc/lvm/lvmlocal.conf")
    os.mkfifo(tree / "etc/resolv.conf")
    (tree / "var").mkdir()
    os.mkfifo(tree / "var/log")
    os.mkfifo(tree / "etc/crypttab")
    seal.apply(tree)
    assert (tree / "etc/fstab").read_bytes() == seal_rules.NO_DISKS
    assert (tree / "etc/lvm/lvmlocal.conf").is_file()
    assert not (tree / "var/log").exists()


def test_a_file_where_a_folder_must_be_is_told(tree: Path) -> None:
    put(tree, "etc/lvm")
    with pytest.raises(SysPxeError, match="/etc/lvm is not a folder"):
        seal.apply(tree)


def test_a_huge_file_is_not_read(tree: Path) -> None:
    for name in ("var/lib/qubes/appvms/w/private.img", "etc/fstab", "swapfile"):
        path = put(tree, name)
        os.truncate(path, 1 << 40)
    seal.apply(tree)
    seal.check(tree)
