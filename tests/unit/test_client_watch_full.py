"""What the watcher does in a full pool: pauses, and its reserve."""

import errno
from pathlib import Path

import pytest

from sys_pxe import files, usage
from sys_pxe.client import watch
from sys_pxe.client.xen import Domain
from tests.watch_world import DOM0, LIMIT, MAIL, WORK, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def full(world: World, **rates: int) -> watch.Watch:
    """A watcher of a pool that domains fill with so many MiB each second."""
    found = world.watcher()
    for domid in rates:
        world.wrote(int(domid[1:]), 100)
    found.look()
    world.now += 1
    for domid, rate in rates.items():
        world.wrote(int(domid[1:]), 100 + rate)
    world.free = 25
    return found


# rates


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rates = watch.Rates()
    assert rates.add(0, {3: 1000}) == {3: 0}
    assert rates.add(1, {3: 3000}) == {3: 2000}
    assert rates.add(2, {3: 3000, 4: 9999}) == {3: 1000, 4: 0}
    assert rates.add(3, {3: 3000, 4: 9999}) == {3: 0, 4: 0}
    # it came back with another counter
    assert rates.add(4, {3: 10}) == {3: 0}
    assert rates.add(4, {}) == {}


def test_writers_are_qubes_with_their_device_models() -> None:
    running = [
        DOM0,
        Domain(7, "win-dm", False),
        Domain(6, "win", False),
        Domain(8, "late-dm", False),
        Domain(9, "held", True),
    ]
    rates = {6: 1.0, 7: 2.0, 8: 4.0, 9: 8.0, 99: 16.0}
    assert watch.writers(running, rates) == [
        usage.Writer("win", 6, 3.0),
        usage.Writer("late-dm", 8, 4.0),
    ]


# pauses


def test_the_largest_writer_of_a_full_pool_is_paused(world: World) -> None:
    found = full(world, d3=80, d5=9)
    found.look()
    assert world.did == ["pause 3", "adopt 3 work"]
    assert world.titles() == [
        "The qube work was paused",
        "The VM pool is 97 % full",
    ]
    assert "80 MiB/s" in world.told[0].text
    assert "'qvm-unpause work'" in world.told[0].text
    assert world.state().paused == ("work",)
    # the other's 9 MiB/s last for a while, and work is not paused twice
    world.free = 200
    world.now += 1
    found.look()
    assert world.did == ["pause 3", "adopt 3 work"]


def test_one_that_goes_on_writing_after_the_first_is_next(
    world: World,
) -> None:
    found = full(world, d3=80, d5=9)
    found.look()
    world.now, world.free = world.now + 0.1, 10
    found.look()
    assert world.did[2:] == ["pause 5", "adopt 5 mail"]
    assert world.state().paused == ("mail", "work")


def test_a_qube_that_goes_on_again_is_no_longer_shown(world: World) -> None:
    found = full(world, d3=80)
    found.look()
    assert world.state().paused == ("work",)
    world.running = [DOM0, WORK, MAIL]
    world.free, world.now = 1000, world.now + 60
    found.look()
    assert world.state().paused == ()


@pytest.mark.parametrize(
    ("rates", "free"),
    [
        # not full yet
        ({"d3": 80}, 31),
        # dom0 itself
        ({"d0": 80}, 25),
        # too slow to be the cause
        ({"d3": 0, "d5": 0}, 0),
        ({"d3": 1}, 25),
    ],
)
def test_nobody_is_paused_without_need(
    world: World, rates: dict[str, int], free: int
) -> None:
    found = full(world, **rates)
    world.free = free
    found.look()
    assert world.did == []


def test_a_pause_that_fails_is_told_and_not_tried_again_at_once(
    world: World,
) -> None:
    world.broken["pause"] = "xl pause 3: exit status 1"
    found = full(world, d3=80)
    for step in (0, 1, 5):
        world.now += step
        world.wrote(3, 180 + 500 * step)
        found.look()
    assert [t for t in world.titles() if "paused" in t] == [
        "The qube work fills the VM pool and was not paused"
    ]
    assert world.told[0].text.startswith("xl pause 3: exit status 1.")
    del world.broken["pause"]
    world.now += 5
    world.wrote(3, 9000)
    found.look()
    assert world.did == ["pause 3", "adopt 3 work"]


def test_xl_that_tells_nothing_does_not_end_the_watch(world: World) -> None:
    world.broken["list"] = "xl list: exit status 1"
    found = full(world, d3=80)
    found.look()
    assert world.said == ["xl list: exit status 1"]
    assert world.titles() == ["The VM pool is 97 % full"]


# the reserve


def test_the_reserve_is_made_given_up_and_made_again(world: World) -> None:
    reserve = world.places.reserve
    found = world.watcher()
    there = []
    for free in (1000, 11, 10, 9, 251, 250, 251, 300):
        world.free, world.now = free, world.now + 1
        found.look()
        there.append(reserve.exists())
    assert there == [True, True, True, False, True, True, True, True]
    reserve.unlink()
    world.free = 250
    found.look()
    assert not reserve.exists()
    assert world.said == ["the VM pool's reserve is in use"]


def test_the_state_tells_at_once_that_the_reserve_is_gone(
    world: World,
) -> None:
    found = world.watcher()
    found.look()
    world.free = 10
    found.look()
    assert world.state().reserve
    world.free = 9
    found.look()
    assert not world.state().reserve


def test_the_reserve_takes_room(world: World) -> None:
    world.watcher().look()
    found = world.places.reserve.stat()
    assert found.st_size == LIMIT // 32
    assert found.st_blocks * 512 >= found.st_size
    assert world.state().reserve


def test_a_qube_is_paused_before_the_reserve_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = full(world, d3=80)
    world.free = 1
    remove = files.remove

    def removed(path: Path) -> None:
        world.did.append(f"remove {path.name}")
        remove(path)

    monkeypatch.setattr(files, "remove", removed)
    found.look()
    assert world.did[-1] == "remove .sys-pxe-reserve"
    assert world.did[0] == "pause 3"


def test_a_reserve_that_cannot_be_made_is_tried_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def allocate(path: Path, size: int) -> None:
        tries.append(world.now)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "allocate", allocate)
    found = world.watcher()
    for now in (0.0, 5.0, 9.0, 10.0):
        world.now = now
        found.look()
    assert tries == [0.0, 10.0]
    text = "the VM pool's reserve: No space left on device"
    assert world.said == [text, text]
