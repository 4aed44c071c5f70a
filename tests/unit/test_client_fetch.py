"""Fetching from servers that misbehave in every way a LAN has seen."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

import pytest

from sys_pxe.client import fetch
from sys_pxe.errors import SysPxeError, VerificationError
from sys_pxe.manifest import Artifact, Role
from tests.chunk_server import Answer, Request, Web

STEP = 64 << 10
CONTENT = bytes(range(256)) * (5 * STEP // 256) + b"the last chunk is short"


def artifact() -> Artifact:
    parts = [CONTENT[i : i + STEP] for i in range(0, len(CONTENT), STEP)]
    # equal chunks would share a name; these differ by their place
    parts = [bytes([i]) + part[1:] for i, part in enumerate(parts)]
    digests = tuple(hashlib.sha256(p).hexdigest() for p in parts)
    whole = b"".join(parts)
    WHOLE[0] = whole
    return Artifact(
        Role.DOM0_ROOT,
        "dom0-root",
        len(whole),
        hashlib.sha256(whole).hexdigest(),
        STEP,
        digests,
    )


WHOLE = [b""]
ARTIFACT = artifact()


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web(
        {
            chunk.sha256: WHOLE[0][chunk.offset : chunk.offset + chunk.size]
            for chunk in ARTIFACT.chunks
        }
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE", 0.3)
    monkeypatch.setattr(fetch, "PATIENCE", 1.0)
    monkeypatch.setattr(fetch, "PAUSE", 0.05)
    monkeypatch.setattr(fetch, "_STEP", 4096)


@contextmanager
def memory() -> Iterator[FileIO]:
    """Yield a file in RAM that has the artifact's size."""
    with FileIO(os.memfd_create("target"), "r+") as target:
        target.truncate(ARTIFACT.size)
        yield target


def run(web: Web) -> fetch.Progress:
    """Fetch all, and check that it is right."""
    progress = fetch.Progress(ARTIFACT.size)
    with memory() as target:
        server = ("127.0.0.1", web.port)
        fetch.fetch(server, ARTIFACT, target, progress, lambda: None)
        assert target.readall() == WHOLE[0]
    assert progress.done == ARTIFACT.size
    return progress


def fails(web: Web, kind: type[SysPxeError]) -> SysPxeError:
    """Fetch, and return the error."""
    progress = fetch.Progress(ARTIFACT.size)
    with memory() as target:
        with pytest.raises(kind) as caught:
            fetch.fetch(
                ("127.0.0.1", web.port),
                *(ARTIFACT, target, progress, lambda: None),
            )
        assert type(caught.value) is kind or kind is SysPxeError
    return caught.value


def chunk(number: int) -> str:
    return ARTIFACT.digests[number]


def flipped(body: bytes) -> bytes:
    return body[:100] + bytes([body[100] ^ 1]) + body[101:]


def test_all_chunks_arrive_once_each(web: Web) -> None:
    progress = run(web)
    assert sorted(web.asked) == sorted((d, 0) for d in ARTIFACT.digests)
    assert (progress.breaks, progress.resumed_at) == (0, [])
    assert progress.received == ARTIFACT.size


def test_the_caller_hears_of_it_in_its_own_thread(web: Web) -> None:
    seen: list[threading.Thread] = []
    with memory() as target:
        fetch.fetch(
            ("127.0.0.1", web.port),
            *(ARTIFACT, target, fetch.Progress(ARTIFACT.size)),
            lambda: seen.append(threading.current_thread()),
        )
    assert set(seen) == {threading.main_thread()}


def test_a_tick_that_raises_ends_the_fetch(web: Web) -> None:
    def tick() -> None:
        raise KeyboardInterrupt

    with memory() as target, pytest.raises(KeyboardInterrupt):
        fetch.fetch(
            ("127.0.0.1", web.port),
            *(ARTIFACT, target, fetch.Progress(ARTIFACT.size), tick),
        )


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_chunk_that_is_not_there_fails_at_once(web: Web, status: int) -> None:
    web.hook = lambda r: status if r.digest == chunk(2) else None
    error = fails(web, SysPxeError)
    assert f"dom0-root: the server answers {status}" in error.message
    assert chunk(2)[:12] in error.message
    assert "push" in error.hint
    assert sum(1 for name, _ in web.asked if name == chunk(2)) == 1


@pytest.mark.parametrize("status", [500, 503, 302, 206])
def test_a_server_that_is_not_well_is_asked_again(
    web: Web, status: int
) -> None:
    web.hook = lambda r: (
        status if r.digest == chunk(2) and r.number <= 3 else None
    )
    assert run(web).breaks >= 1


def test_a_server_that_never_gets_well_is_given_up(web: Web) -> None:
    web.hook = lambda r: 503
    begin = time.monotonic()
    error = fails(web, SysPxeError)
    assert 0.9 < time.monotonic() - begin < 10
    assert "503" in error.message
    assert "sys-pxe qube runs" in error.hint


@pytest.mark.parametrize("body", [b"", b"<html>", bytes(STEP + 1)])
def test_a_chunk_of_the_wrong_size_is_refused(web: Web, body: bytes) -> None:
    web.hook = lambda r: body if r.digest == chunk(1) else None
    error = fails(web, VerificationError)
    assert f"{len(body)} bytes" in error.message
    assert f"expected {STEP}" in error.message


def test_a_chunk_without_a_stated_size_is_refused(web: Web) -> None:
    def endless(request: Request) -> Answer:
        request.handler.send_response(200)
        request.handler.end_headers()
        request.handler.wfile.write(request.body * 2)
        request.handler.close_connection = True
        return None

    web.hook = endless
    fails(web, VerificationError)


def test_a_cut_chunk_goes_on_from_the_byte_where_it_broke(web: Web) -> None:
    def cut(request: Request) -> Answer:
        if request.digest == chunk(3) and request.number == 1:
            request.cut(10_000)
        return None

    web.hook = cut
    progress = run(web)
    assert [s for d, s in web.asked if d == chunk(3)] == [0, 10_000]
    assert progress.breaks == 1
    assert len(progress.resumed_at) == 1
    assert progress.received == ARTIFACT.size


def test_a_chunk_cut_again_and_again_comes_in_the_end(web: Web) -> None:
    def cut(request: Request) -> Answer:
        if len(request.body) > 9000:
            request.cut(9000)
        return None

    web.hook = cut
    progress = run(web)
    starts = [s for d, s in web.asked if d == chunk(0)]
    assert starts == list(range(0, STEP, 9000))
    assert progress.received == ARTIFACT.size


def test_a_server_without_ranges_is_not_believed(web: Web) -> None:
    """The whole chunk again (200) must not land behind the first part."""

    def cut(request: Request) -> Answer:
        if request.digest != chunk(3):
            return None
        if request.number == 1:
            request.cut(10_000)
        elif request.start:
            return 200
        return None

    web.hook = cut
    assert "answers 200" in fails(web, SysPxeError).message


def test_a_chunk_that_is_always_wrong_is_refused_by_name(web: Web) -> None:
    web.hook = lambda r: flipped(r.body) if r.digest == chunk(4) else None
    error = fails(web, VerificationError)
    assert error.message.startswith(f"dom0-root: chunk {chunk(4)[:12]} (bytes ")
    assert "wrong 3 times" in error.message
    assert [d for d, _ in web.asked].count(chunk(4)) == 3


def test_a_chunk_that_was_wrong_once_heals(web: Web) -> None:
    web.hook = lambda r: (
        flipped(r.body) if r.digest == chunk(4) and r.number == 1 else None
    )
    progress = run(web)
    assert progress.received == ARTIFACT.size + STEP
    assert [s for d, s in web.asked if d == chunk(4)] == [0, 0]


def test_a_server_that_goes_away_and_comes_back_costs_the_wait(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PATIENCE", 30.0)
    gone = threading.Event()

    def cut(request: Request) -> Answer:
        if request.digest == chunk(2) and not gone.is_set():
            request.cut(12_000)
            gone.set()
        return None

    def restart() -> None:
        assert gone.wait(10)
        web.stop()
        time.sleep(1.0)
        web.start()

    web.hook = cut
    helper = threading.Thread(target=restart)
    helper.start()
    begin = time.monotonic()
    progress = run(web)
    helper.join()
    assert time.monotonic() - begin > 1.0
    # not one for each of the attempts in that second
    assert 1 <= progress.breaks <= 3
    assert len(progress.resumed_at) == progress.breaks
    assert all(0 < at < ARTIFACT.size for at in progress.resumed_at)
    assert progress.received == ARTIFACT.size
    assert progress.trouble == ""


def test_a_server_that_stays_away_is_given_up_with_a_reason(web: Web) -> None:
    web.stop()
    error = fails(web, SysPxeError)
    assert "sent nothing for" in error.message
    assert "refused" in error.message


def test_a_server_that_falls_silent_is_asked_anew(web: Web) -> None:
    def dream(request: Request) -> Answer:
        if request.digest == chunk(1) and request.number == 1:
            request.handler.head(200, STEP)
            request.handler.wfile.write(request.body[:8192])
            time.sleep(0.6)
            request.handler.close_connection = True
        return None

    web.hook = dream
    progress = run(web)
    assert [s for d, s in web.asked if d == chunk(1)] == [0, 8192]
    assert progress.received == ARTIFACT.size


def test_a_server_that_answers_nonsense_is_given_up(web: Web) -> None:
    def nonsense(request: Request) -> Answer:
        request.handler.wfile.write(b"\0\xff garbage\r\n\r\n" * 20)
        request.handler.close_connection = True
        return None

    web.hook = nonsense
    fails(web, SysPxeError)


def test_a_worker_that_dies_is_no_success(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*words: object) -> bool:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(fetch, "_fetch_chunk", broken)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    error = fails(web, SysPxeError)
    assert "0 of 6 chunks came" in error.message


def test_a_file_that_cannot_be_written_is_no_break_of_the_network(
    web: Web,
) -> None:
    progress = fetch.Progress(ARTIFACT.size)
    # pwrite(2) to it is ENOSPC, as to a tmpfs that is full
    with (
        FileIO("/dev/full", "r+") as full,
        pytest.raises(SysPxeError, match="No space left") as caught,
    ):
        fetch.fetch(
            ("127.0.0.1", web.port),
            *(ARTIFACT, full, progress, lambda: None),
        )
    assert "ram.dom0" in caught.value.hint
    assert progress.breaks == 0


def small(web: Web, limit: int) -> bytes:
    path = f"/chunks/{chunk(0)}"
    return fetch.get_small(("127.0.0.1", web.port), path, limit)


def test_a_small_document_comes_whole(web: Web) -> None:
    assert small(web, STEP) == web.chunks[chunk(0)]


def test_a_document_over_its_limit_is_refused(web: Web) -> None:
    with pytest.raises(VerificationError, match="more than 100 bytes"):
        small(web, 100)


@pytest.mark.parametrize("status", [404, 500])
def test_a_document_that_is_not_there_is_an_error(
    web: Web, status: int
) -> None:
    web.hook = lambda r: status
    with pytest.raises(SysPxeError, match=f"answers {status}"):
        small(web, STEP)


def test_a_document_that_is_cut_off_is_an_error(web: Web) -> None:
    def cut(request: Request) -> Answer:
        request.cut(10)
        return None

    web.hook = cut
    with pytest.raises(SysPxeError):
        small(web, STEP)


def test_no_server_for_a_document_is_an_error_with_a_hint(web: Web) -> None:
    web.stop()
    with pytest.raises(SysPxeError, match="refused") as caught:
        small(web, STEP)
    assert caught.value.hint
