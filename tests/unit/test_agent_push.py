"""Receiving a release: verified before it is stored, resumed, shared."""

import errno
import hashlib
import os
import random
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sys_pxe import files, frames, manifest, names, signature
from sys_pxe.agent import push
from sys_pxe.errors import (
    Busy,
    InvalidInput,
    SysPxeError,
    VerificationError,
)
from sys_pxe.manifest import Role
from tests.agent_world import DAY, World, key_pair


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def stored(world: World) -> list[str]:
    """Everything that a push could have left in the store."""
    folders = (world.store.releases, world.store.pending, world.store.chunks)
    return [p.name for folder in folders for p in folder.iterdir()]


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


@pytest.mark.parametrize("cut", [0, 5, 12, 40, 200])
def test_a_push_cut_in_its_manifest_stores_nothing(
    world: World, cut: int
) -> None:
    with pytest.raises(InvalidInput):
        world.push(world.release(), world.release().frames()[:cut])
    assert stored(world) == []


def test_another_key_stores_nothing(world: World) -> None:
    world.private.write_bytes(key_pair(1)[0])
    with pytest.raises(VerificationError, match="does not match the key"):
        world.push(world.release())
    assert stored(world) == []


def test_a_manifest_edited_after_signing_stores_nothing(world: World) -> None:
    release = world.release()
    edited = release.signed.replace(b"serial 1\n", b"serial 9\n")
    assert edited != release.signed
    content = frames.frame("manifest", edited)
    with pytest.raises(VerificationError):
        world.push(release, content)
    assert stored(world) == []


def test_the_signature_is_checked_before_the_text_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(_: bytes) -> None:
        raise AssertionError("parsed without a signature")

    monkeypatch.setattr(manifest, "parse", parse)
    fake = b"signature " + b"A" * 86 + b"==\n" + b"sys-pxe manifest 1\n"
    with pytest.raises(VerificationError):
        world.push(world.release(), frames.frame("manifest", fake))


def test_a_signed_text_that_is_no_manifest_is_refused(world: World) -> None:
    signed = world.sign(b"sys-pxe pointer 1\nend\n")
    with pytest.raises(InvalidInput):
        world.push(world.release(), frames.frame("manifest", signed))
    assert stored(world) == []


def test_a_manifest_of_another_name_is_refused(world: World) -> None:
    stream = BytesIO(world.release("r2").frames())
    with pytest.raises(VerificationError, match="of release r2"):
        push.receive(world.store, "r1", stream, world.now, 0)
    assert stored(world) == []


@pytest.mark.parametrize(
    ("created", "expires", "word"),
    [(-2 * DAY, -1, "expired"), (2 * DAY, 3 * DAY, "clock")],
)
def test_a_release_out_of_its_time_is_refused(
    world: World, created: int, expires: int, word: str
) -> None:
    release = world.release(created=created, expires=expires)
    with pytest.raises(VerificationError, match=word):
        world.push(release)
    assert stored(world) == []


@pytest.mark.parametrize("year", [-1, 1])
def test_a_clock_that_is_a_year_off_is_named_with_what_to_do(
    world: World, year: int
) -> None:
    stream = BytesIO(world.release().frames())
    now = world.now + year * 365 * DAY
    with pytest.raises(VerificationError) as caught:
        push.receive(world.store, "r1", stream, now, 0)
    assert f"the clock says {names.format_time(now)}" in caught.value.message
    assert "the clock of dom0" in caught.value.hint
    assert stored(world) == []


def test_a_chunk_that_the_manifest_does_not_name_is_refused(
    world: World,
) -> None:
    release = world.release()
    other = hashlib.sha256(b"other").hexdigest()
    content = release.frames(only=()) + frames.frame(other, b"other")
    with pytest.raises(InvalidInput, match="not a chunk of r1"):
        world.push(release, content)
    assert list(world.store.chunks.iterdir()) == []


def test_a_chunk_of_another_size_is_refused(world: World) -> None:
    release = world.release()
    digest, body = next(iter(release.chunks.items()))
    content = release.frames(only=()) + frames.frame(digest, body + b"x")
    with pytest.raises(InvalidInput, match="expected"):
        world.push(release, content)
    assert list(world.store.chunks.iterdir()) == []


def test_a_chunk_with_other_content_is_not_kept(world: World) -> None:
    release = world.release()
    digest, body = next(iter(release.chunks.items()))
    wrong = bytes([body[0] ^ 1]) + body[1:]
    content = release.frames(only=()) + frames.frame(digest, wrong)
    with pytest.raises(VerificationError, match="other content"):
        world.push(release, content)
    assert list(world.store.chunks.iterdir()) == []


def test_a_complete_release_never_changes(world: World) -> None:
    world.push(world.release("r1", 1))
    other = world.release("r1", 2, root=b"other" * 3000)
    with pytest.raises(VerificationError, match="never changes"):
        world.push(other)
    assert world.store.release("r1") == world.release("r1", 1).manifest


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


def test_a_serial_belongs_to_one_release(world: World) -> None:
    world.push(world.release("r1", 1))
    with pytest.raises(VerificationError, match="has serial 1 already"):
        world.push(world.release("r2", 1))
    assert world.push(world.release("r3", 3)).complete
    assert world.push(world.release("r2", 2)).complete


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


def test_a_manifest_whose_whole_digest_is_wrong_is_never_complete(
    world: World,
) -> None:
    release = world.release()
    last = release.manifest.artifacts[-1]
    text = manifest.write(release.manifest).replace(
        f" {last.sha256} ".encode(), b" " + b"0" * 64 + b" "
    )
    signed = signature.signed(text, world.private)
    content = (
        frames.frame("manifest", signed)
        + release.frames()[len(release.frames(only=())) :]
    )
    with pytest.raises(VerificationError, match="0 of its chunks"):
        world.push(release, content)
    assert world.store.release("r1") is None


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


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(junk=st.binary(min_size=1, max_size=300))
def test_garbage_frames_are_refused_and_leave_nothing(
    world: World, junk: bytes
) -> None:
    with pytest.raises(SysPxeError):
        push.receive(world.store, "r1", BytesIO(junk), world.now, 0)
    assert stored(world) == []


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(junk=st.binary(min_size=1, max_size=300))
def test_garbage_after_a_good_manifest_stores_no_chunk(
    world: World, junk: bytes
) -> None:
    release = world.release()
    with pytest.raises(SysPxeError):
        world.push(release, release.frames(only=()) + junk)
    assert list(world.store.chunks.iterdir()) == []
