"""The boot files of a golden image: the newest, whole, and with a name."""

import gzip
from pathlib import Path

import pytest

from sys_pxe.dom0 import bootfiles
from sys_pxe.errors import InvalidInput, SysPxeError
from tests import golden_tree
from tests.golden_tree import put


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return golden_tree.versions(tmp_path / "tree")


def test_the_newest_xen_and_kernel_are_taken(tree: Path) -> None:
    found = bootfiles.find(tree)
    assert (found.xen.name, found.version) == ("xen-4.19.gz", "6.12.10")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("boot/vmlinuz-6*", "no vmlinuz"),
        ("boot/xen-*.gz", "no xen"),
        ("lib/modules/6.12.10/modules.dep", "no modules.dep"),
    ],
)
def test_what_is_missing_is_named_with_a_hint(
    tree: Path, pattern: str, message: str
) -> None:
    for path in tree.glob(pattern):
        path.unlink()
    with pytest.raises(SysPxeError, match=message) as caught:
        bootfiles.find(tree)
    assert "install" in caught.value.hint


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("6.12.9", "6.12.10"),
        ("6.9", "6.12"),
        ("6.12.1-1.qubes", "6.12.1-2.qubes"),
        ("xen-4.9.gz", "xen-4.19.gz"),
        ("6.12.9-1.fc41.x86_64", "6.12.10-1.fc37.x86_64"),
    ],
)
def test_versions_are_compared_by_their_numbers(low: str, high: str) -> None:
    assert bootfiles.version_key(low) < bootfiles.version_key(high)


def test_a_xen_is_written_as_iPXE_takes_it(tree: Path, tmp_path: Path) -> None:
    bootfiles.unpack_xen(tree / "boot/xen-4.19.gz", tmp_path / "xen")
    assert (tmp_path / "xen").read_bytes() == b"xen 4.19"


def test_a_xen_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(bytes(range(256)) * 99)
    put(tmp_path, "xen.gz", whole[:-20])
    with pytest.raises(SysPxeError, match="not a whole gzip"):
        bootfiles.unpack_xen(tmp_path / "xen.gz", tmp_path / "xen")
    assert not (tmp_path / "xen").exists()


def test_a_xen_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootfiles, "XEN_MAX", 1000)
    put(tmp_path, "xen.gz", gzip.compress(bytes(5000)))
    with pytest.raises(InvalidInput, match="more than 1000 bytes"):
        bootfiles.unpack_xen(tmp_path / "xen.gz", tmp_path / "xen")
