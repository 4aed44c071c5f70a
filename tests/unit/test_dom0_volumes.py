"""The volumes of qubes: the last commit, whole, or refused by name."""

import json
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.dom0 import lvm, volumes
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.volumes import Item, Volume
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.run import Result
from tests.dom0_world import QUIET
from tests.lvm_double import Lvm, row

MIB = 1 << 20
VG = "qubes_dom0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A golden image with file-reflink volumes and a kernel."""
    root = tmp_path / "tree"
    for name, size in (
        ("vm-templates/debian-13/root.img", 3 * MIB),
        ("vm-templates/debian-13/private.img", 2 * MIB),
        ("appvms/work/private.img", 2 * MIB),
        ("vm-kernels/6.12.1/vmlinuz", 1000),
        ("vm-kernels/6.12.1/initramfs", 2000),
        ("vm-kernels/6.12.1/modules.img", MIB),
    ):
        put(root, name, size)
    return root


def put(root: Path, name: str, size: int, text: str = "committed") -> Path:
    path = root / volumes.PLACE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    os.truncate(path, size)
    return path


def reflink(
    target: str = "appvms/work/private.img",
    size: int = 2 * MIB,
    driver: str = "file-reflink",
    place: str = "",
) -> Volume:
    return Volume(
        qube=target.split("/")[1],
        name=Path(target).stem,
        driver=driver,
        place=place or f"var/lib/qubes/{target}",
        size=size,
        target=target,
    )


def kernel() -> Volume:
    place, target = "var/lib/qubes/vm-kernels/6.12.1", "vm-kernels/6.12.1"
    return Volume("work", "kernel", "linux-kernel", place, 0, target)


def thin(size: int = 20 * MIB, place: str = f"{VG}/vm-T-root") -> Volume:
    return Volume(
        "T", "root", "lvm_thin", place, size, "vm-templates/T/root.img"
    )


def opened(
    wanted: list[Volume],
    tree: Path,
    look: Callable[[list[Item]], None] = lambda _: None,
) -> str:
    """Open volumes, look at the items, return what was reported."""
    stream = StringIO()
    with volumes.opened(wanted, tree, Reporter(stream)) as items:
        look(items)
    return stream.getvalue()


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


# LVM


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Lvm:
    made = Lvm(
        [
            row(f"{VG}/vm-pool", attr="twi-aotz--", pool=""),
            row(f"{VG}/vm-T-root"),
            row(f"{VG}/vm-T-root-1700000000-back"),
        ]
    )
    made.install(monkeypatch)
    monkeypatch.setattr(volumes, "PAUSES", (0.0, 0.0))
    return made


def made_from(world: Lvm) -> list[str]:
    return [c[-1] for c in world.calls if c[0] == "lvcreate"]


def test_a_thin_volume_is_read_from_a_snapshot(world: Lvm, tree: Path) -> None:
    found: list[Item] = []

    def look(items: list[Item]) -> None:
        found.extend(items)
        assert str(items[0].source).removeprefix("/dev/") in world.vids

    said = opened([thin()], tree, look)
    assert said == ""
    assert (found[0].target, found[0].size) == (
        "vm-templates/T/root.img",
        20 * MIB,
    )
    assert made_from(world) == [f"{VG}/vm-T-root"]
    assert len(world.rows) == 3


def test_the_copy_of_a_qube_that_runs_is_never_read(
    world: Lvm, tree: Path
) -> None:
    world.rows.append(row(f"{VG}/vm-T-root-snap", attr="Vwi-aotz--"))
    said = opened([thin()], tree)
    assert "T runs" in said
    assert "last shutdown" in said
    assert made_from(world) == [f"{VG}/vm-T-root"]


def test_a_volume_that_its_qube_writes_to_is_refused(
    world: Lvm, tree: Path
) -> None:
    world.rows[1]["lv_attr"] = "Vwi-aotz--"
    with pytest.raises(SysPxeError, match=r"T:root.*in use") as caught:
        opened([thin()], tree)
    assert "shut T down" in caught.value.hint
    assert made_from(world) == []


@pytest.mark.parametrize(
    "change", [{"lv_attr": "Vwi-aotz--"}, {"lv_name": "vm-T-root-snap"}]
)
def test_a_volume_that_is_busy_for_a_moment_is_waited_for(
    world: Lvm, tree: Path, change: dict[str, str]
) -> None:
    good = dict(world.rows[1])
    world.rows[1].update(change)

    def second_look(argv: list[str]) -> None:
        if [c[0] for c in world.calls] == ["lvs", "lvs"]:
            world.rows[1].update(good)

    world.before = second_look
    opened([thin()], tree)
    assert made_from(world) == [f"{VG}/vm-T-root"]


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (thin(20 * MIB + 1), "T:root has 20971520 bytes.*20971521"),
        (thin(0), "T:root is empty"),
        (thin(place=f"{VG}/vm-gone-root"), "T:root.*vm-gone-root is missing"),
        (thin(place=f"{VG}/vm-pool"), "T:root.*not a thin volume"),
        (thin(place="other/vm-T-root"), "T:root.*is missing"),
    ],
)
def test_what_is_wrong_is_told_before_a_snapshot_is_made(
    world: Lvm, tree: Path, volume: Volume, words: str
) -> None:
    with pytest.raises(SysPxeError, match=words):
        opened([thin(), volume], tree)
    assert made_from(world) == []


@pytest.mark.parametrize("place", ["a", "a/b/c", "../b", "-a/b", "a/b\n"])
def test_hostile_names_of_thin_volumes_are_refused(
    world: Lvm, tree: Path, place: str
) -> None:
    with pytest.raises(InvalidInput, match="T:root"):
        opened([thin(place=place)], tree)
    assert made_from(world) == []


def test_a_rounded_volume_is_taken_whole(world: Lvm, tree: Path) -> None:
    found: list[Item] = []
    opened([thin(20 * MIB - 1)], tree, found.extend)
    assert found[0].size == 20 * MIB


def test_a_failure_later_takes_the_snapshots_along(
    world: Lvm, tree: Path
) -> None:
    with pytest.raises(SysPxeError, match="gone:private"):
        opened([thin(), reflink("appvms/gone/private.img")], tree)
    assert len(world.rows) == 3
    assert len(made_from(world)) == 1


def test_what_a_killed_build_left_goes_first(world: Lvm, tree: Path) -> None:
    old = f"{VG}/vm-sys-pxe-build-4194304-77-1-snap"
    world.rows.append(row(old))

    def look(_: list[Item]) -> None:
        assert old not in world.vids

    assert "killed" in opened([thin()], tree, look)


def test_lvm_is_not_asked_without_a_thin_volume(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lvs() -> list[lvm.Lv]:
        pytest.fail("no volume is on LVM")

    monkeypatch.setattr(lvm, "volumes", no_lvs)
    opened([reflink(), kernel()], tree)
