"""The volumes of qubes that are files: the last commit, whole, or refused."""

import json
import os
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.dom0 import volumes
from sys_pxe.dom0.volumes import Item, Volume
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.run import Result
from tests.dom0_world import QUIET
from tests.volume_tree import MIB, golden, kernel, opened, put, reflink


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return golden(tmp_path / "tree")


def content(item: Item) -> str:
    assert item.source
    return item.source.read_bytes()[:20].rstrip(b"\0").decode()


# file-reflink


def test_images_are_opened_whole(tree: Path) -> None:
    def look(items: list[Item]) -> None:
        assert [(i.target, i.size) for i in items] == [
            ("vm-templates/debian-13/root.img", 3 * MIB),
            ("appvms/work/private.img", 2 * MIB),
        ]
        assert [content(i) for i in items] == ["committed"] * 2

    root = reflink("vm-templates/debian-13/root.img", 3 * MIB)
    assert opened([root, reflink()], tree, look) == ""


def test_a_commit_during_the_build_changes_nothing(tree: Path) -> None:
    dirty = put(tree, "appvms/work/private-dirty.img", 2 * MIB, "running")

    def look(items: list[Item]) -> None:
        os.rename(dirty, dirty.with_name("private.img"))
        assert content(items[0]) == "committed"
        # a child of the build sees it too
        code = ["head", "-c", "9", str(items[0].source)]
        assert run.run(code).stdout == b"committed"

    said = opened([reflink()], tree, look)
    assert "work runs" in said
    opened([reflink()], tree, lambda i: None if content(i[0]) == "running"
           else pytest.fail("the commit was lost"))  # fmt: skip


def test_a_qube_that_runs_is_named_once(tree: Path) -> None:
    for name in ("root", "private"):
        put(tree, f"vm-templates/debian-13/{name}-dirty.img", MIB, "running")
    folder = "vm-templates/debian-13"
    both = [reflink(f"{folder}/{n}.img") for n in ("root", "private")]
    assert opened(both, tree).count("debian-13 runs") == 1


def test_no_descriptor_stays_open(tree: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    with pytest.raises(SysPxeError):
        opened([reflink(), reflink(size=9 * MIB)], tree)
    opened([reflink(), kernel()], tree)
    assert count() == before


def test_a_sparse_image_of_200_gib_is_fine(tree: Path) -> None:
    put(tree, "appvms/work/private.img", 200 << 30)
    found: list[Item] = []
    opened([reflink(size=200 << 30)], tree, found.extend)
    assert found[0].size == 200 << 30


def test_a_larger_image_is_taken_whole(tree: Path) -> None:
    found: list[Item] = []
    opened([reflink(size=2 * MIB - 512)], tree, found.extend)
    assert found[0].size == 2 * MIB


def test_a_smaller_image_is_refused_with_both_numbers(tree: Path) -> None:
    with pytest.raises(SysPxeError, match=r"work:private") as caught:
        opened([reflink(size=2 * MIB + 512)], tree)
    assert str(2 * MIB) in caught.value.message
    assert str(2 * MIB + 512) in caught.value.message
    assert "work" in caught.value.hint


@pytest.mark.parametrize(("real", "stated"), [(0, 0), (0, MIB), (MIB, 0)])
def test_an_empty_volume_is_refused_by_name(
    tree: Path, real: int, stated: int
) -> None:
    put(tree, "appvms/work/private.img", real)
    with pytest.raises(SysPxeError, match="work:private is empty"):
        opened([reflink(size=stated)], tree)


def test_a_missing_image_is_named(tree: Path) -> None:
    with pytest.raises(SysPxeError, match=r"gone:private.*missing") as caught:
        opened([reflink("appvms/gone/private.img")], tree)
    assert "qvm-volume info gone:private" in caught.value.hint


def test_a_folder_in_place_of_an_image_is_refused(tree: Path) -> None:
    (tree / "var/lib/qubes/appvms/x/private.img").mkdir(parents=True)
    with pytest.raises(SysPxeError, match="not a file"):
        opened([reflink("appvms/x/private.img")], tree)


@pytest.mark.parametrize(
    "place",
    [
        *("/etc/shadow", "../x", "var/../../x", "var//x", "", ".", "a\0b"),
        "var/lib/qubes/appvms/work/",
    ],
)
def test_places_outside_of_the_tree_are_refused(tree: Path, place: str) -> None:
    wanted = Volume("work", "private", "file-reflink", place, 5, "a/b/c")
    with pytest.raises(InvalidInput, match="work:private"):
        opened([wanted], tree)


@pytest.mark.parametrize("link", ["private.img", "../work"])
def test_links_are_not_followed(tree: Path, link: str) -> None:
    outside = tree.parent / "outside"
    outside.mkdir()
    (outside / "private.img").write_bytes(bytes(2 * MIB))
    place = tree / "var/lib/qubes/appvms/work"
    (place / "private.img").unlink()
    if link == "private.img":
        (place / link).symlink_to(outside / link)
    else:
        place.rmdir()
        place.symlink_to(outside)
    with pytest.raises(SysPxeError, match="symbolic link") as caught:
        opened([reflink()], tree)
    assert "bind" in caught.value.hint


# small files and kernels


def test_firewall_rules_come_along(tree: Path) -> None:
    put(tree, "appvms/work/firewall.xml", 40, "<firewall/>")
    found: list[str] = []

    def look(items: list[Item]) -> None:
        found.extend(i.target for i in items)
        assert content(items[-1]) == "<firewall/>"

    opened([reflink(), kernel()], tree, look)
    assert found == [
        "appvms/work/private.img",
        *(
            f"vm-kernels/6.12.1/{n}"
            for n in ("initramfs", "modules.img", "vmlinuz")
        ),
        "appvms/work/firewall.xml",
    ]


def test_firewall_rules_of_a_qube_without_volumes_come_along(
    tree: Path,
) -> None:
    put(tree, "appvms/disp1/firewall.xml", 40, "<firewall/>")
    folders = ("appvms/disp1", "appvms/disp2")
    with volumes.opened([], tree, QUIET, folders) as items:
        assert [item.target for item in items] == ["appvms/disp1/firewall.xml"]


def test_a_huge_firewall_file_is_refused(tree: Path) -> None:
    put(tree, "appvms/work/firewall.xml", (1 << 20) + 1)
    with pytest.raises(InvalidInput, match=r"work/firewall\.xml"):
        opened([reflink()], tree)


def test_a_firewall_file_that_is_a_link_is_refused(tree: Path) -> None:
    place = tree / "var/lib/qubes/appvms/work/firewall.xml"
    place.symlink_to("/etc/shadow")
    with pytest.raises(SysPxeError, match="symbolic link"):
        opened([reflink()], tree)


def test_a_kernel_is_all_its_files(tree: Path) -> None:
    (tree / "var/lib/qubes/vm-kernels/6.12.1/folder").mkdir()
    found: list[Item] = []
    opened([kernel()], tree, found.extend)
    assert [(i.target.rpartition("/")[2], i.size) for i in found] == [
        ("initramfs", 2000),
        ("modules.img", MIB),
        ("vmlinuz", 1000),
    ]


@pytest.mark.parametrize("name", ["a b", "x\ny", "-rf", "\x1b[2J", ".hidden"])
def test_odd_files_in_a_kernel_are_refused(tree: Path, name: str) -> None:
    put(tree, f"vm-kernels/6.12.1/{name}", 5)
    with pytest.raises(InvalidInput, match=r"vm-kernels/6\.12\.1") as caught:
        opened([kernel()], tree)
    assert caught.value.message.isprintable()


def test_a_kernel_that_is_not_there_is_named(tree: Path) -> None:
    (tree / "var/lib/qubes/vm-kernels/6.12.1/vmlinuz").unlink()
    with pytest.raises(SysPxeError, match=r"work:kernel.*vmlinuz is missing"):
        opened([kernel()], tree)


# the driver "file", and those that are unknown


def loops(*rows: tuple[str, int, str]) -> bytes:
    keys = ("back-maj:min", "back-ino", "back-file")
    return json.dumps(
        {"loopdevices": [dict(zip(keys, r, strict=True)) for r in rows]}
    ).encode()


def with_loops(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    def losetup(argv: list[str], **_: object) -> Result:
        assert argv[:3] == ["losetup", "--list", "--json"]
        return Result(tuple(argv), 0, said, b"")

    monkeypatch.setattr(run, "run", losetup)


@pytest.mark.parametrize(
    "said", [b"", loops(("8:1", 5, "/var/lib/qubes/appvms/other/private.img"))]
)
def test_an_image_of_the_driver_file_is_read_when_its_qube_is_off(
    tree: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    with_loops(monkeypatch, said)
    opened([reflink(driver="file")], tree, lambda i: None
           if content(i[0]) == "committed" else pytest.fail("?"))  # fmt: skip


def test_an_image_of_the_driver_file_in_use_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "/var/lib/qubes/appvms/work/private.img"
    own = (tree / place.lstrip("/")).stat()
    number = f"{os.major(own.st_dev)}:{os.minor(own.st_dev)}"
    for said in (
        loops(("0:0", 1, place)),
        loops((f" {number}", own.st_ino, "/elsewhere")),
    ):
        with_loops(monkeypatch, said)
        with pytest.raises(
            SysPxeError, match=r"work:private.*in use"
        ) as caught:
            opened([reflink(driver="file")], tree)
        assert "shut work down" in caught.value.hint


@pytest.mark.parametrize("said", [b"x", b"[]", b'{"loopdevices": [{}]}'])
def test_what_losetup_does_not_say_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    with_loops(monkeypatch, said)
    with pytest.raises(InvalidInput, match="losetup"):
        opened([reflink(driver="file")], tree)


def test_a_driver_that_is_not_known_is_named(tree: Path) -> None:
    with pytest.raises(SysPxeError, match="driver zfs") as caught:
        opened([reflink(driver="zfs")], tree)
    assert "file-reflink" in caught.value.hint
