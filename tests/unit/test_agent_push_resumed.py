"""Receiving a release: shared chunks, a push that goes on, and repairs."""

import errno
import hashlib
import os
import random
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from sys_pxe import files, manifest
from sys_pxe.errors import (
    Busy,
    InvalidInput,
    SysPxeError,
    VerificationError,
)
from sys_pxe.manifest import Role
from tests.agent_world import Release, World, stored


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def assert_sound(world: World) -> None:
    """Each chunk that has its name is whole; nothing half lies about."""
    for chunk in world.store.chunks.iterdir():
        content = chunk.read_bytes()
        assert hashlib.sha256(content).hexdigest() == chunk.name


def test_a_whole_push_makes_a_complete_release(world: World) -> None:
    release = world.release()
    got = world.push(release)
    assert (got.complete, got.stored) == (True, len(release.chunks))
    assert world.store.release("r1") == release.manifest
    assert world.store.pending_names() == []
    assert_sound(world)


def test_a_manifest_alone_says_what_is_missing(world: World) -> None:
    release = world.release()
    got = world.push(release, release.frames(only=()))
    assert set(got.missing) == set(release.chunks)
    assert not got.complete
    assert world.store.release("r1") is None
    assert world.store.pending_names() == ["r1"]


def test_two_releases_share_their_chunks(world: World) -> None:
    root = os.urandom(20_000)
    world.push(world.release("r1", 1, root=root))
    second = world.release("r2", 2, root=root + b"more")
    got = world.push(second, second.frames(only=()))
    assert len(got.missing) == 4  # three boot files and the last slice
    assert world.push(second, second.frames(only=got.missing)).complete


def test_a_push_cut_at_ten_random_points_goes_on(world: World) -> None:
    release = world.release()
    whole = release.frames()
    begin = len(release.frames(only=()))
    cuts = sorted(random.Random(1).sample(range(begin, len(whole)), 10))
    before = len(release.chunks)
    for cut in cuts:
        with pytest.raises(InvalidInput):
            world.push(release, whole[:cut] + b"")
        assert_sound(world)
        assert world.leftovers() == []
        left = len(world.store.missing(release.manifest))
        assert left <= before
        before = left
    assert before < len(release.chunks)
    missing = world.push(release, release.frames(only=())).missing
    assert len(missing) == before
    assert world.push(release, release.frames(only=missing)).complete


def test_a_complete_release_may_be_pushed_again(world: World) -> None:
    release = world.release()
    world.push(release)
    again = world.push(release)
    assert (again.complete, again.stored) == (True, 0)


def test_a_chunk_lost_after_completion_can_be_brought_back(
    world: World,
) -> None:
    release = world.release()
    world.push(release)
    lost = next(iter(release.chunks))
    files.remove(world.store.chunks / lost)
    assert world.push(release, release.frames(only=())).missing == (lost,)
    assert world.push(release, release.frames(only=(lost,))).complete


@pytest.mark.parametrize("role", [Role.KERNEL, Role.DOM0_ROOT])
def test_a_chunk_damaged_after_completion_is_brought_back(
    world: World, role: Role
) -> None:
    release = world.release()
    world.push(release)
    damaged = release.manifest.find(role).digests[-1]
    path = world.store.chunks / damaged
    good = path.read_bytes()
    path.write_bytes(bytes(len(good)))
    asked = world.push(release, release.frames(only=()))
    assert asked.missing == (damaged,)
    got = world.push(release, release.frames(only=asked.missing))
    assert got.complete
    assert path.read_bytes() == good


def test_a_damaged_chunk_that_artifacts_share_is_brought_back(
    world: World,
) -> None:
    """And what else of them is damaged, in the same push."""
    release = world.release()
    root = release.manifest.find(Role.DOM0_ROOT)
    boot = release.manifest.artifacts[:3]
    twin = replace(root, role=Role.LOADER, name="twin")
    made = replace(release.manifest, artifacts=(*boot, twin, root))
    both = Release(made, world.sign(manifest.write(made)), release.chunks)
    assert world.push(both).complete
    lost = {root.digests[0], root.digests[-1], boot[0].digests[0]}
    for name in lost:
        path = world.store.chunks / name
        path.write_bytes(bytes(path.stat().st_size))
    asked = world.push(both, both.frames(only=()))
    assert set(asked.missing) == lost
    assert world.push(both, both.frames(only=asked.missing)).complete


def test_a_full_disk_is_seen_before_anything_is_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = world.release()
    needed = sum(len(body) for body in release.chunks.values())
    monkeypatch.setattr(world.store, "free", lambda: needed + 99)
    with pytest.raises(SysPxeError, match="disk is full") as caught:
        world.push(release, reserve=100)
    assert str(needed) in caught.value.message
    assert str(needed + 99) in caught.value.message
    assert "prune" in caught.value.hint
    assert stored(world) == []
    monkeypatch.setattr(world.store, "free", lambda: needed + 100)
    assert world.push(release, reserve=100).complete


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_on_the_way_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    release = world.release()
    real, seen = files.replacing, []

    def replacing(
        path: Path, mode: int = 0o644
    ) -> AbstractContextManager[IO[bytes]]:
        seen.append(path)
        if len(seen) == 4:
            raise OSError(number, os.strerror(number))
        return real(path, mode)

    monkeypatch.setattr(files, "replacing", replacing)
    with pytest.raises(SysPxeError, match="disk is full"):
        world.push(release)
    assert len(list(world.store.chunks.iterdir())) == 2
    assert_sound(world)
    assert world.push(release).complete


def test_a_broken_disk_is_not_called_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replacing(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(files, "replacing", replacing)
    with pytest.raises(OSError, match="broken"):
        world.push(world.release())


def test_a_chunk_damaged_on_the_disk_is_found_and_fetched_again(
    world: World,
) -> None:
    release = world.release()
    first, *rest = release.chunks
    world.push(release, release.frames(only=(first,)))
    path = world.store.chunks / first
    path.write_bytes(bytes(len(release.chunks[first])))
    with pytest.raises(VerificationError, match="damaged on the disk"):
        world.push(release, release.frames(only=tuple(rest)))
    assert world.store.release("r1") is None
    assert not path.exists()
    assert world.push(release, release.frames(only=(first,))).complete


def test_what_a_killed_push_left_is_cleared(world: World) -> None:
    left = world.store.chunks / f"{files.TEMPORARY_PREFIX}abc"
    left.write_bytes(b"half")
    world.push(world.release())
    assert not left.exists()


def test_a_second_push_at_the_same_time_is_told_so(world: World) -> None:
    release = world.release()
    with world.store.locked(), pytest.raises(Busy) as caught:
        world.push(release)
    assert caught.value.exit_code == 5
    assert world.push(release).complete


def test_two_processes_cannot_push_at_once(world: World) -> None:
    release = world.release()
    content = release.frames()
    first = world.spawn_rpc("syspxe.Push", "r1")
    assert first.stdin and first.stdout and first.stderr
    with first:
        first.stdin.write(content[: len(content) // 2])
        first.stdin.flush()
        while not list(world.store.chunks.glob("?" * 64)):
            assert first.poll() is None
        second = world.rpc("syspxe.Push", "r1", stdin=content)
        assert (second.status, second.stdout) == (5, b"")
        out, _ = first.communicate(content[len(content) // 2 :], timeout=60)
    assert first.returncode == 0
    assert b'"complete": true' in out


def test_a_damaged_manifest_in_the_store_is_replaced(world: World) -> None:
    release = world.release()
    world.push(release)
    (world.store.releases / "r1").write_bytes(b"damaged")
    assert world.push(release, release.frames(only=())).complete
    assert world.store.release("r1") == release.manifest
