"""Paths inside of a tree: links are taken as after chroot(2)."""

import os
import stat
from pathlib import Path

import pytest

from sys_pxe.dom0 import rooted


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree beside a folder with a secret, with links of all kinds."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("outside")
    root = tmp_path / "tree"
    (root / "var/real/log").mkdir(parents=True)
    (root / "var/real/log/file").write_text("inside")
    for name, target in (
        ("absolute", "/var/real"),
        ("relative", "var/./real/"),
        ("up", "../../../../var/real"),
        ("var/back", "../var//real/log/.."),
        ("chain", "absolute/log"),
        ("out", str(tmp_path / "outside")),
        ("loop", "loop"),
        ("ring", "var/ring"),
        ("var/ring", "../ring"),
        ("top", "/"),
        ("to-file", "/var/real/log/file"),
        ("through-file", "var/real/log/file/x"),
        ("long", "x" * 300),
    ):
        (root / name).symlink_to(target)
    return root


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("var/real", "var/real"),
        ("/var/real/", "var/real"),
        ("absolute", "var/real"),
        ("relative/log", "var/real/log"),
        ("up", "var/real"),
        ("var/back", "var/real"),
        ("chain/file", "var/real/log/file"),
        ("to-file", "var/real/log/file"),
        ("top", ""),
        ("top/top/var", "var"),
        ("", ""),
        ("../..", ""),
        ("out", None),
        ("out/file", None),
        ("loop", None),
        ("ring/x", None),
        ("missing", None),
        ("through-file", None),
        ("to-file/x", None),
        ("long", None),
    ],
)
def test_a_path_is_taken_inside_of_the_tree(
    tree: Path, path: str, real: str | None
) -> None:
    with rooted.root(tree) as root:
        assert rooted.resolve(root, path) == real


def test_too_many_links_lead_to_nothing(tree: Path) -> None:
    for number in range(rooted.LINKS_MAX + 1):
        (tree / f"n{number}").symlink_to(f"n{number + 1}")
    (tree / f"n{rooted.LINKS_MAX + 1}").mkdir()
    with rooted.root(tree) as root:
        assert rooted.resolve(root, "n0") is None
        assert rooted.resolve(root, "n1") == f"n{rooted.LINKS_MAX + 1}"


def test_opening_follows_no_link(tree: Path) -> None:
    with rooted.root(tree) as root:
        assert rooted.listed(root, "var/real/log") == ["file"]
        assert stat.S_ISLNK(rooted.kind(root, "out"))
        for path in ("out", "absolute", "chain/x"):
            with pytest.raises(OSError), rooted.opened(root, path):
                pass


def test_only_regular_files_inside_are_read(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with rooted.root(tree) as root:
        assert rooted.read(root, "to-file", 100) == b"inside"
        assert rooted.read(root, "to-file", 2) == b"in"
        for path in ("out/file", "fifo", "var", "missing", "top"):
            assert rooted.read(root, path, 100) == b""


def test_no_descriptor_is_left_open(tree: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with rooted.root(tree) as root:
        rooted.resolve(root, "chain/file")
        rooted.resolve(root, "out")
        rooted.read(root, "to-file", 1)
        with pytest.raises(OSError), rooted.opened(root, "var/missing"):
            pass
    assert sorted(os.listdir("/proc/self/fd")) == before
