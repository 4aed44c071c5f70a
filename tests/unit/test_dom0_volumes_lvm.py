"""The volumes of qubes on LVM: read from snapshots that nobody writes to."""

from pathlib import Path

import pytest

from sys_pxe.dom0 import lvm, volumes
from sys_pxe.dom0.volumes import Item, Volume
from sys_pxe.errors import InvalidInput, SysPxeError
from tests.lvm_double import Lvm, row
from tests.volume_tree import MIB, golden, kernel, opened, reflink

VG = "qubes_dom0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return golden(tmp_path / "tree")


def thin(size: int = 20 * MIB, place: str = f"{VG}/vm-T-root") -> Volume:
    return Volume(
        "T", "root", "lvm_thin", place, size, "vm-templates/T/root.img"
    )


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


def test_it_is_known_how_much_of_a_volume_is_data(
    world: Lvm, tree: Path
) -> None:
    found: list[Item] = []
    opened([thin()], tree, found.extend)
    assert found[0].mapped == 5 * MIB


def test_of_a_volume_that_is_not_active_its_snapshot_tells(
    world: Lvm, tree: Path
) -> None:
    world.rows[1].update(lv_attr="Vwi---tz--", data_percent="")
    found: list[Item] = []
    opened([thin()], tree, found.extend)
    assert found[0].mapped == 5 * MIB
    assert len(world.rows) == 3


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
