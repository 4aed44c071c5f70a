"""Push: only what the store lacks, resumed after a break, never for ever."""

from pathlib import Path

import pytest

from sys_pxe import manifest
from sys_pxe.dom0 import push
from sys_pxe.dom0.push import Outcome
from sys_pxe.dom0.state import State
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Manifest
from tests.dom0_world import QUIET, Store, keep_release, new_state

CHUNK_SIZE = 1 << 20
BIG = 3 * CHUNK_SIZE + 7


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "CHUNK_SIZE", CHUNK_SIZE)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return new_state(tmp_path / "state")


@pytest.fixture
def store(state: State) -> Store:
    return Store(state.public_key)


def send(
    state: State, store: Store, made: Manifest, batch: int = push.BATCH_SIZE
) -> Outcome:
    return push.push(
        made,
        state.signed_manifest(made.release),
        state.release_folder(made.release),
        store,
        QUIET,
        batch_size=batch,
    )


def test_the_manifest_goes_first_and_then_every_chunk_once(
    state: State, store: Store
) -> None:
    made = keep_release(state, "r1", BIG)
    done = send(state, store, made)
    sizes = made.chunks()
    assert done == Outcome(
        chunks=len(sizes),
        present=0,
        sent_chunks=len(sizes),
        sent_bytes=sum(sizes.values()),
        calls=2,
    )
    assert store.chunks.keys() == sizes.keys()


def test_a_second_push_sends_nothing(state: State, store: Store) -> None:
    made = keep_release(state, "r1")
    send(state, store, made)
    again = send(state, store, made)
    assert (again.sent_bytes, again.calls) == (0, 1)
    assert again.present == again.chunks


def test_what_releases_share_is_sent_once(state: State, store: Store) -> None:
    send(state, store, keep_release(state, "r1", seed=1))
    done = send(state, store, keep_release(state, "r2", seed=1))
    assert done.sent_bytes == 0


def test_batches_bound_what_one_call_carries(
    state: State, store: Store
) -> None:
    made = keep_release(state, "r1", BIG)
    done = send(state, store, made, batch=CHUNK_SIZE + 100)
    assert done.sent_bytes == sum(made.chunks().values())
    assert done.calls == 1 + 3


def test_a_chunk_larger_than_a_batch_goes_alone(
    state: State, store: Store
) -> None:
    made = keep_release(state, "r1", BIG)
    assert send(state, store, made, batch=1).calls == 1 + len(made.chunks())


def test_a_push_that_broke_goes_on_where_it_was(
    state: State, store: Store
) -> None:
    made = keep_release(state, "r1", BIG)
    send_size = len(state.signed_manifest("r1"))

    def cut_in_third_chunk() -> None:
        store.cut_after = send_size + 2 * CHUNK_SIZE

    class Cutting(Store):
        def call(self, *given: object, **named: object) -> bytes:
            if len(store.calls) == 1:
                cut_in_third_chunk()
            return store.call(*given, **named)  # type: ignore[arg-type]

    with pytest.raises(InvalidInput, match="too early"):
        send(state, Cutting(state.public_key), made)
    kept = set(store.chunks)
    assert 0 < len(kept) < len(made.chunks())
    done = send(state, store, made)
    assert done.present == len(kept)
    assert done.sent_chunks == len(made.chunks()) - len(kept)


def test_a_store_that_takes_nothing_is_given_up_on(
    state: State, store: Store
) -> None:
    made = keep_release(state, "r1")
    store.deaf = True
    with pytest.raises(SysPxeError, match="took none in 3 calls"):
        send(state, store, made)
    assert len(store.calls) == 4


@pytest.mark.parametrize(
    "answer",
    [
        b'{"release":"r1","complete":false,"missing":[],"stored":0}\n',
        b'{"release":"r1","complete":false,"missing":["%s"],"stored":0}\n'
        % (b"ab" * 32),
    ],
)
def test_an_answer_that_makes_no_sense_ends_the_push(
    state: State, store: Store, answer: bytes
) -> None:
    made = keep_release(state, "r1")
    store.forced["syspxe.Push"] = answer
    with pytest.raises(InvalidInput):
        send(state, store, made)
    assert len(store.calls) == 1


def test_a_chunk_that_is_asked_for_twice_ends_the_push(
    state: State, store: Store
) -> None:
    made = keep_release(state, "r1")
    digest = made.artifacts[0].digests[0]
    store.forced["syspxe.Push"] = (
        f'{{"release":"r1","complete":false,"missing":["{digest}","{digest}"],'
        '"stored":0}\n'
    ).encode()
    with pytest.raises(InvalidInput, match="asks for chunks"):
        send(state, store, made)


def test_an_artifact_that_became_shorter_is_named(
    state: State, store: Store
) -> None:
    made = keep_release(state, "r1")
    path = state.release_folder("r1") / "dom0-root"
    path.write_bytes(b"x")
    with pytest.raises(SysPxeError, match="dom0-root: it is shorter") as caught:
        send(state, store, made)
    assert "build it again" in caught.value.hint


def test_an_artifact_that_is_missing_is_named(
    state: State, store: Store
) -> None:
    made = keep_release(state, "r1")
    (state.release_folder("r1") / "kernel").unlink()
    with pytest.raises(SysPxeError, match="kernel: No such file"):
        send(state, store, made)
