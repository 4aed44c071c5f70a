"""What the watcher reads: how full the places are, and who took what."""

import errno
from pathlib import Path

import pytest

from sys_pxe import usage
from sys_pxe.client import extents, measure
from sys_pxe.errors import SysPxeError
from sys_pxe.usage import MIB, Taker
from tests.watch_world import LIMIT, World, put


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_pool_is_what_a_writer_can_still_get(world: World) -> None:
    world.free = 400
    found = measure.pool(world.places, world.room)
    assert found == usage.Usage("VM pool", 600 * MIB, LIMIT)


def test_what_is_written_but_not_allocated_counts(world: World) -> None:
    world.free = 400
    world.allocation("may_use", 300 * MIB)
    world.allocation("reserved", 50 * MIB)
    assert measure.pool(world.places, world.room).free_bytes == 50 * MIB
    world.allocation("may_use", 900 * MIB)
    assert measure.pool(world.places, world.room).percent == 100


def test_another_btrfs_is_not_asked(world: World) -> None:
    other = world.sys / "fs/btrfs/other"
    put(other / "devices/loop0/size", 1)
    put(other / "allocation/data/bytes_may_use", 900 * MIB)
    assert measure.pool(world.places, world.room).used_bytes == 0


def test_a_file_system_larger_than_its_disk_is_not_below_zero(
    world: World,
) -> None:
    world.free = 5000
    assert measure.pool(world.places, world.room).used_bytes == 0


@pytest.mark.parametrize("content", ["0", "", "many"])
def test_no_pool_is_an_error(world: World, content: str) -> None:
    put(world.sys / "block/zram0/disksize", content)
    with pytest.raises(SysPxeError, match="the VM pool is gone"):
        measure.pool(world.places, world.room)


def test_a_qubes_disks_are_added_up(world: World) -> None:
    world.wrote(3, 1)
    world.wrote(3, 2, disk=51728)
    world.wrote(5, 7)
    put(world.sys / "bus/xen-backend/devices/vif-3-0/statistics/wr_sect", 9)
    put(world.sys / "bus/xen-backend/devices/vbd-x-1/statistics/wr_sect", 9)
    put(world.sys / "bus/xen-backend/devices/vbd-6-1/mode", "r")
    assert measure.written(world.places) == {3: 3 * MIB, 5: 7 * MIB, 6: 0}


def test_a_disk_outside_of_the_pool_does_not_count(world: World) -> None:
    pool = world.places.pool
    for domid, path in (
        (3, f"{pool}/appvms/work/private-dirty.img (deleted)"),
        (4, "/home/user/stick.img"),
        (5, f"{pool}2/x"),
        (6, f"{world.places.run}/pool/appvms/mail/private-dirty.img"),
    ):
        world.wrote(domid, 1)
        world.backing(domid, path)
    assert measure.written(world.places) == {3: MIB, 6: MIB}


def test_who_took_what_of_the_pool(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = world.places.pool
    put(pool / "appvms/work/private.img", "x")
    put(pool / "appvms/work/root-dirty.img", "x")
    (pool / "appvms/work/link").symlink_to("private.img")
    put(pool / "appvms/broken/private.img", "x")
    put(pool / "appvms/stray", "x")
    put(pool / "vm-templates/deb\x1b/root.img", "x")

    def own_of(paths: list[Path], boundary: int) -> int:
        assert boundary == 77
        if paths[0].parent.name == "broken":
            raise OSError(errno.EIO, "broken")
        return len(paths) * MIB

    monkeypatch.setattr(extents, "own_of", own_of)
    assert measure.pool_takers(world.places, 77) == [
        Taker("broken", 0),
        Taker("work", 2 * MIB),
        Taker("deb?", MIB),
    ]


def test_which_folders_took_the_overlay(world: World) -> None:
    upper = world.places.changes / "upper"
    for name in ("var/log/a/b", "var/log/c", "home/user/d", "top"):
        path = upper / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100_000)
    (upper / "loop").symlink_to(upper)
    sizes = {t.name: t.used_bytes for t in measure.overlay_takers(world.places)}
    assert sizes["/var/log"] >= 200_000 > sizes["/home/user"] >= 100_000
    assert set(sizes) == {"/", "/var", "/var/log", "/home", "/home/user"}
    assert sum(
        t.used_bytes for t in measure.overlay_takers(world.places, 3)
    ) < sum(sizes.values())


def test_nothing_changed_yet_is_no_error(world: World) -> None:
    assert measure.overlay_takers(world.places) == []
    assert measure.pool_takers(world.places, 0) == []


def test_the_room_of_a_real_file_system(tmp_path: Path) -> None:
    found = measure.room(tmp_path)
    assert 0 <= found.free <= found.total
    with pytest.raises(OSError, match="No such file"):
        measure.room(tmp_path / "none")
