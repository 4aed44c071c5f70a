"""Variants of a golden tree are overlay mounts. Needs root."""

from pathlib import Path

import pytest

from sys_pxe.errors import InvalidInput
from sys_pxe.lab.golden import variant


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "root").mkdir(mode=0o700)
    (tree / "etc/issue").write_text("release 1")
    (tree / "etc/issue").chmod(0o600)
    (tree / "etc/same").write_text("same")
    return tree


def test_a_variant_differs_in_the_given_files_only(tree: Path) -> None:
    changes = {"etc/issue": b"release 2", "opt/new/file": b"new"}
    with variant(tree, "r2", changes) as second:
        assert (second / "etc/issue").read_text() == "release 2"
        assert (second / "etc/issue").stat().st_mode & 0o777 == 0o600
        assert (second / "opt/new/file").read_text() == "new"
        assert (second / "etc/same").read_text() == "same"
        assert (second / "root").stat().st_mode & 0o777 == 0o700
    assert (tree / "etc/issue").read_text() == "release 1"
    assert not (tree / "opt").exists()


def test_writing_to_a_variant_leaves_the_tree_alone(tree: Path) -> None:
    with variant(tree, "r2", {}) as second:
        (second / "etc/same").write_text("changed")
        (second / "etc/issue").unlink()
    assert (tree / "etc/same").read_text() == "same"
    assert (tree / "etc/issue").exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_stays_mounted(tree: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), variant(tree, "r2", {}) as second:
        assert str(second) in Path("/proc/mounts").read_text()
        raise error
    assert str(second) not in Path("/proc/mounts").read_text()
    assert not second.parent.exists()


def test_a_change_outside_of_the_tree_is_refused(tree: Path) -> None:
    changes = {"../outside": b"x"}
    with (
        pytest.raises(InvalidInput, match="not a path below"),
        variant(tree, "r2", changes),
    ):
        pass
    assert not (tree.parent / "outside").exists()
