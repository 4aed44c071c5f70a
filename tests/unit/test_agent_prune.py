"""Prune drops what nothing needs, and not one chunk more."""

import os
from pathlib import Path

import pytest

from sys_pxe.agent.prune import prune
from sys_pxe.errors import Busy
from tests.agent_world import DAY, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_old_release_goes_and_shared_chunks_stay(world: World) -> None:
    root = os.urandom(30_000)
    old = world.release("r1", 1, root=root)
    new = world.release("r2", 2, root=root + b"new")
    for release in (old, new):
        world.push(release)
    world.activate(1, new)
    done = prune(world.store, world.now)
    only_old = set(old.chunks) - set(new.chunks)
    assert done.releases == ("r1",)
    assert done.chunks == len(only_old) > 0
    assert done.bytes == sum(len(old.chunks[d]) for d in only_old)
    assert set(world.store.chunk_sizes()) == set(new.chunks)
    assert world.push(new).stored == 0


def test_every_channels_release_is_kept(world: World) -> None:
    for serial in (1, 2, 3):
        world.push(world.release(f"r{serial}", serial))
    world.activate(1, world.release("r1", 1), "stable")
    world.activate(1, world.release("r3", 3), "testing")
    assert prune(world.store, world.now).releases == ("r2",)
    assert world.store.release_names() == ["r1", "r3"]


def test_a_newer_release_waits_to_be_activated(world: World) -> None:
    for serial in (1, 2):
        world.push(world.release(f"r{serial}", serial))
    world.activate(1, world.release("r1", 1))
    assert prune(world.store, world.now).releases == ()
    assert prune(world.store, world.now + 2 * DAY).releases == ("r2",)


def test_a_push_under_way_is_kept_until_it_expires(world: World) -> None:
    release = world.release()
    some = tuple(release.chunks)[:3]
    world.push(release, release.frames(only=some))
    assert prune(world.store, world.now).chunks == 0
    done = prune(world.store, world.now + 2 * DAY)
    assert (done.releases, done.chunks) == (("r1",), 3)


def test_a_chunk_that_nobody_names_goes(world: World) -> None:
    (world.store.chunks / ("a" * 64)).write_bytes(b"12345")
    assert prune(world.store, world.now).bytes == 5


def test_prune_does_not_run_beside_a_push(world: World) -> None:
    with world.store.locked(), pytest.raises(Busy):
        prune(world.store, world.now)
