"""dom0's state: the key, serials that only grow, the pointers sent."""

import stat
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.dom0 import channels, keys
from sys_pxe.dom0.state import State
from sys_pxe.errors import (
    Busy,
    InvalidInput,
    SysPxeError,
    UsageError,
    VerificationError,
)
from tests.dom0_world import NOW, Store, keep_release, new_state


@pytest.fixture
def state(tmp_path: Path) -> State:
    return new_state(tmp_path / "state")


def test_the_private_key_is_for_root_alone(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    mark = keys.create(state)
    assert stat.S_IMODE(state.private_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.key_folder.stat().st_mode) == 0o700
    assert mark == keys.fingerprint(state.public_key)
    assert len(mark) == 64


def test_a_key_is_never_overwritten(state: State) -> None:
    before = state.private_key.read_bytes()
    with pytest.raises(UsageError, match="there is a key"):
        keys.create(state)
    assert state.private_key.read_bytes() == before


def test_half_a_key_pair_counts_as_a_key(tmp_path: Path) -> None:
    state = State(tmp_path)
    files.make_folder(state.key_folder)
    files.write(state.key_folder / "public.pem", b"x")
    with pytest.raises(UsageError, match="there is a key"):
        keys.create(state)


def test_a_fingerprint_of_nonsense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"-----BEGIN PUBLIC KEY-----\n!!!\n")
    with pytest.raises(InvalidInput, match="not a PEM"):
        keys.fingerprint(path)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SysPxeError) as caught:
        _ = State(tmp_path).private_key
    assert "key create" in caught.value.hint


def test_serials_grow_and_each_kind_has_its_own(state: State) -> None:
    assert [state.take_serial("site") for _ in range(3)] == [1, 2, 3]
    assert state.take_serial("pointer") == 1
    assert State(state.root).take_serial("site") == 4


@pytest.mark.parametrize("text", [b"", b"x", b"-1", b"01", b"9" * 20, b"\xff"])
def test_a_damaged_serial_is_refused_and_not_guessed(
    state: State, text: bytes
) -> None:
    state.take_serial("site")
    files.write(state.root / "serials/site", text)
    with pytest.raises(InvalidInput):
        state.take_serial("site")


def test_serials_are_not_given_out_twice_at_once(state: State) -> None:
    with files.locked(state.root / "lock", "x"), pytest.raises(Busy):
        state.take_serial("site")


def test_a_release_is_read_back_and_listed_by_serial(state: State) -> None:
    made = [keep_release(state, name) for name in ("b", "a")]
    assert state.releases() == made
    assert state.release("a") == made[1]


def test_a_changed_manifest_is_refused(state: State) -> None:
    keep_release(state, "r1")
    path = state.release_folder("r1") / "manifest"
    path.write_bytes(path.read_bytes().replace(b"serial 1", b"serial 9"))
    with pytest.raises(VerificationError):
        state.release("r1")


def test_a_renamed_release_is_refused(state: State) -> None:
    keep_release(state, "r1")
    files.rename(state.release_folder("r1"), state.release_folder("r2"))
    with pytest.raises(InvalidInput, match="holds the manifest of release r1"):
        state.release("r2")


@pytest.mark.parametrize("name", ["..", "../key", "", "a/b"])
def test_a_release_name_cannot_leave_its_folder(
    state: State, name: str
) -> None:
    with pytest.raises(InvalidInput):
        state.release(name)


def test_an_unknown_release_says_how_to_list(state: State) -> None:
    with pytest.raises(SysPxeError, match="no release r1") as caught:
        state.release("r1")
    assert "release list" in caught.value.hint


@pytest.fixture
def store(state: State) -> Store:
    return Store(state.public_key)


def point(state: State, store: Store, release: str, back: bool = False) -> None:
    store.releases[release] = state.release(release)
    channels.activate(state, "stable", release, store, NOW, rollback=back)


def test_a_channel_names_what_was_sent_last(state: State, store: Store) -> None:
    keep_release(state, "r1")
    assert channels.current(state, "stable") is None
    point(state, store, "r1")
    now = channels.current(state, "stable")
    assert now is not None
    assert (now.release, now.rollback) == ("r1", False)


def test_rollback_goes_back_step_by_step_and_never_forward(
    state: State, store: Store
) -> None:
    for name in ("r1", "r2", "r3"):
        keep_release(state, name)
        point(state, store, name)
    assert channels.before(state, "stable") == "r2"
    point(state, store, "r2", back=True)
    assert channels.before(state, "stable") == "r1"
    point(state, store, "r1", back=True)
    with pytest.raises(SysPxeError, match="no older release"):
        channels.before(state, "stable")
    assert store.channels["stable"].rollback


def test_a_refused_pointer_is_not_remembered(
    state: State, store: Store
) -> None:
    keep_release(state, "r1")
    store.forced["syspxe.Activate"] = VerificationError("no")
    with pytest.raises(VerificationError):
        point(state, store, "r1")
    assert channels.current(state, "stable") is None


def test_a_pointer_that_was_stored_before_an_error_is_remembered(
    state: State, store: Store
) -> None:
    keep_release(state, "r1")
    point(state, store, "r1")
    files.remove(state.root / "channels")
    store.forced["syspxe.Activate"] = SysPxeError("stored, but no nginx")
    with pytest.raises(SysPxeError, match="nginx"):
        point(state, store, "r1")
    assert channels.current(state, "stable") is not None


def test_a_forged_pointer_in_the_state_is_refused(
    state: State, store: Store
) -> None:
    keep_release(state, "r1")
    point(state, store, "r1")
    path = state.root / "channels/stable/1"
    path.write_bytes(path.read_bytes().replace(b"rollback no", b"rollback yes"))
    with pytest.raises(VerificationError):
        channels.current(state, "stable")
