"""A push that is refused: nothing is stored that was not verified."""

import hashlib
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sys_pxe import frames, manifest, names, signature
from sys_pxe.agent import push
from sys_pxe.errors import InvalidInput, SysPxeError, VerificationError
from tests.agent_world import DAY, World, key_pair, stored


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


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


def test_a_serial_belongs_to_one_release(world: World) -> None:
    world.push(world.release("r1", 1))
    with pytest.raises(VerificationError, match="has serial 1 already"):
        world.push(world.release("r2", 1))
    assert world.push(world.release("r3", 3)).complete
    assert world.push(world.release("r2", 2)).complete


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
