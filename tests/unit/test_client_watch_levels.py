"""What the watcher tells of how full a client is, and how often it looks."""

from pathlib import Path

import pytest

from sys_pxe import usage
from sys_pxe.client import extents, measure, watch
from sys_pxe.usage import MIB, Level, Taker
from tests.watch_world import World, put


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_calm_client_is_left_alone(world: World) -> None:
    found = world.watcher()
    put(world.places.reserve, "x")
    # nobody writes: 1000 MiB last for four looks, if somebody begins
    assert found.look() == 1000 / 1024
    world.free, world.overlay_free, world.now = 300, 60, world.now + 10
    assert found.look() == 300 / 1024
    assert (world.did, world.told, world.said) == ([], [], [])


def test_the_more_is_written_the_sooner_is_the_next_look(world: World) -> None:
    found = world.watcher()
    world.wrote(3, 100)
    found.look()
    world.now, world.free = world.now + 1, 100
    world.wrote(3, 600)
    # 100 MiB at 900 MiB/s
    assert found.look() == usage.LOOK_MIN


def test_each_level_is_told_once_with_who_took_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.places.pool / "appvms/work/private.img", "x")
    monkeypatch.setattr(extents, "own_of", lambda *_: 5 * MIB)
    found = world.watcher()
    for free in (1000, 251, 250, 270, 240, 100, 120, 99, 29, 310, 301, 240):
        world.free, world.now = free, world.now + 1
        found.look()
    assert world.titles() == [
        "The VM pool is 75 % full",
        "The VM pool is 90 % full",
        "The VM pool is 97 % full",
        "The VM pool is 69 % full",
        "The VM pool is 76 % full",
    ]
    assert "Largest: work 5 MiB." in world.told[0].text
    assert world.told[3].level is Level.OK


def test_the_overlay_is_told_apart(world: World) -> None:
    found = world.watcher(None)
    world.overlay_free = 5
    assert found.look() == watch.OVERLAY_EVERY
    assert world.titles() == ["The overlay is 95 % full"]
    assert world.told[0].level is Level.CRITICAL
    state = world.state()
    assert [p.usage.name for p in state.places] == ["overlay"]
    assert (state.ram_bytes, state.reserve) == (None, False)


def test_the_state_is_written_at_a_change_and_each_minute(
    world: World,
) -> None:
    found = world.watcher()
    seen = []
    for now, free in ((0, 900), (59, 800), (60, 800), (61, 200), (119, 190)):
        world.now, world.free = float(now), free
        found.look()
        state = world.state()
        seen.append((state.uptime, state.places[1].usage.used_bytes // MIB))
    assert seen == [(0, 100), (0, 100), (60, 200), (61, 800), (61, 800)]
    assert world.state().ram_bytes == 777
    assert world.places.state.stat().st_mode & 0o777 == 0o644


def test_who_took_what_is_not_looked_up_again_for_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def takers(*_: object) -> list[Taker]:
        looked.append(int(world.now))
        return [Taker("work", 1)]

    monkeypatch.setattr(measure, "pool_takers", takers)
    found = world.watcher()
    for now, free in ((0, 900), (60, 891), (120, 889), (180, 889), (190, 100)):
        world.now, world.free = float(now), free
        found.look()
        assert world.state().places[1].largest == (Taker("work", 1),)
    assert looked == [0, 120, 190]
