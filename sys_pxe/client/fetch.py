"""Fetch an artifact into RAM: several chunks at once, each verified.

A chunk is hashed while it arrives, in a buffer that stays in the processor's
cache, and is written to its place from there. It counts when its digest holds.
A broken connection is taken up again with an HTTP range request (RFC 9110,
section 14) from the byte where it broke, so that a server that went away for a
while costs the wait and nothing else.
"""

import functools
import hashlib
import http.client
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from itertools import groupby

from sys_pxe.errors import SysPxeError, VerificationError
from sys_pxe.manifest import Artifact, Chunk

# Three keep a server with two cores busy while one of them hashes.
WORKERS = 3
# A server that says nothing for this long is asked anew (seconds).
SILENCE = 10.0
# Without one byte for this long, the fetch fails (seconds).
PATIENCE = 600.0
# Between two attempts to reach a server that went away (seconds).
PAUSE = 1.0
# A chunk that was wrong this often is wrong on the server.
DAMAGED_MAX = 3
# Small enough for the cache, large enough to let the other workers run.
_STEP = 256 << 10
# what tmpfs keeps or leaves out
_PAGE = 4096
_ZEROS = bytes(_PAGE)

Server = tuple[str, int]


@dataclass
class Progress:
    """How far a fetch is. Counted in bytes; shared between the workers.

    ``breaks`` counts the breaks, not the attempts to get over one;
    ``resumed_at`` has, for each, the bytes done from which it goes on.
    """

    total: int
    done: int = 0
    received: int = 0
    breaks: int = 0
    resumed_at: list[int] = field(default_factory=list)
    trouble: str = ""
    last_byte: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arrived(self, count: int) -> None:
        """Count bytes that came in."""
        with self.lock:
            self.done += count
            self.received += count
            self.last_byte = time.monotonic()
            self.trouble = ""

    def skipped(self, count: int) -> None:
        """Count bytes that need not come in."""
        with self.lock:
            self.done += count

    def dropped(self, count: int) -> None:
        """Take bytes back that turned out to be wrong."""
        with self.lock:
            self.done -= count

    def broke(self, why: str) -> None:
        """Note that a connection broke, or could not be made again."""
        with self.lock:
            if not self.trouble:
                self.breaks += 1
                self.resumed_at.append(self.done)
            self.trouble = why

    def silence(self) -> float:
        """Return the seconds since the last byte."""
        return time.monotonic() - self.last_byte


class _PermanentError(SysPxeError):
    """An answer that asking again will not change."""


def fetch(
    server: Server,
    artifact: Artifact,
    target: FileIO,
    progress: Progress,
    tick: Callable[[], None],
) -> None:
    """Fill ``target``, a file of artifact.size zeros, with the chunks.

    ``tick`` is called about five times a second in the calling thread. Raises
    VerificationError when a chunk is wrong again and again, SysPxeError when
    the server refuses it or stays silent too long.
    """
    work: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
    verified: list[Chunk] = []
    for chunk in artifact.chunks:
        # a chunk of zeros is there already: the file was made of them
        there = chunk.sha256 == _zero_digest(chunk.size)
        (verified.append if there else work.put)(chunk)
    progress.skipped(sum(chunk.size for chunk in verified))
    failures: list[SysPxeError] = []
    stop = threading.Event()
    workers = [
        threading.Thread(
            target=_work,
            args=(server, work, target, progress, verified, failures, stop),
            daemon=True,
        )
        for _ in range(min(WORKERS, work.qsize()))
    ]
    progress.last_byte = time.monotonic()
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            workers[0].join(0.2)
            tick()
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    if failures:
        first = failures[0]
        raise type(first)(f"{artifact.name}: {first.message}", first.hint)
    if len(verified) != len(artifact.digests):
        raise SysPxeError(
            f"{artifact.name}: {len(verified)} of {len(artifact.digests)} "
            "chunks came, and the fetch ended without a reason"
        )


@functools.cache
def _zero_digest(size: int) -> str:
    """Return the digest of a chunk of zeros."""
    return hashlib.sha256(bytes(size)).hexdigest()


def _work(
    server: Server,
    work: "queue.SimpleQueue[Chunk]",
    target: FileIO,
    progress: Progress,
    verified: list[Chunk],
    failures: list[SysPxeError],
    stop: threading.Event,
) -> None:
    connection = http.client.HTTPConnection(*server, timeout=SILENCE)
    buffer = memoryview(bytearray(_STEP))

    def keep(at: int, part: memoryview, again: bool) -> None:
        if again:
            # zeros too: the place was written to before
            _write(target, at, part)
        else:
            write_sparse(target, at, part)

    while not stop.is_set():
        try:
            chunk = work.get_nowait()
        except queue.Empty:
            break
        try:
            if _fetch_chunk(connection, chunk, buffer, keep, progress, stop):
                verified.append(chunk)
        except SysPxeError as error:
            failures.append(error)
            stop.set()
    connection.close()


def write_sparse(target: FileIO, at: int, part: memoryview) -> None:
    """Write a part to ``at``, but leave its pages of zeros holes.

    Raises SysPxeError where nothing can be written.
    """
    data = part.tobytes()
    if _ZEROS not in data:
        _write(target, at, part)
        return

    def empty_at(first: int) -> bool:
        return _ZEROS.startswith(data[first : first + _PAGE])

    for empty, run in groupby(range(0, len(data), _PAGE), empty_at):
        if not empty:
            first, *more = run
            last = more[-1] if more else first
            _write(target, at + first, part[first : last + _PAGE])


def _write(target: FileIO, at: int, part: memoryview) -> None:
    try:
        while part:
            count = os.pwrite(target.fileno(), part, at)
            at, part = at + count, part[count:]
    except OSError as error:
        # no break of the connection, which is an OSError as well
        raise SysPxeError(
            f"cannot write the byte {at}: {error.strerror}",
            "raise ram.dom0 in the client's profile",
        ) from None


def _fetch_chunk(
    connection: http.client.HTTPConnection,
    chunk: Chunk,
    buffer: memoryview,
    keep: Callable[[int, memoryview, bool], None],
    progress: Progress,
    stop: threading.Event,
) -> bool:
    """Return whether the chunk is there; False when all is to stop."""
    damaged = 0
    have = 0
    digest = hashlib.sha256()
    while not stop.is_set():
        broke = ""
        try:
            for part in _receive(connection, chunk, buffer, have):
                digest.update(part)
                keep(chunk.offset + have, part, damaged > 0)
                have += len(part)
                progress.arrived(len(part))
                if stop.is_set():
                    return False
        except (OSError, http.client.HTTPException) as error:
            broke = _reason(error)
        if broke:
            connection.close()
            progress.broke(broke)
            if progress.silence() > PATIENCE:
                raise _silent(connection, progress)
            stop.wait(PAUSE)
            continue
        if digest.hexdigest() == chunk.sha256:
            return True
        damaged += 1
        progress.dropped(have)
        if damaged >= DAMAGED_MAX:
            raise VerificationError(
                f"chunk {chunk.sha256[:12]} (bytes {chunk.offset} to "
                f"{chunk.offset + chunk.size}) was wrong {damaged} times",
                "the store of the sys-pxe qube is damaged or was changed: "
                "run 'sys-pxe release push' again",
            )
        have, digest = 0, hashlib.sha256()
    return False


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _silent(
    connection: http.client.HTTPConnection, progress: Progress
) -> SysPxeError:
    return SysPxeError(
        f"the server {connection.host} sent nothing for "
        f"{progress.silence():.0f} s ({progress.trouble})",
        "check that the sys-pxe qube runs and that the cable is plugged in",
    )


def _receive(
    connection: http.client.HTTPConnection,
    chunk: Chunk,
    buffer: memoryview,
    have: int,
) -> Iterator[memoryview]:
    """Yield what comes after the first ``have`` bytes of the chunk."""
    span = {"Range": f"bytes={have}-"} if have else {}
    connection.request("GET", f"/chunks/{chunk.sha256}", headers=span)
    answer = connection.getresponse()
    if answer.status != (206 if have else 200):
        answer.read(_STEP)
        why = (
            f"the server answers {answer.status} for chunk {chunk.sha256[:12]}"
        )
        if answer.status in (404, 403, 410):
            raise _PermanentError(
                why,
                "the release is not whole on the server: run "
                "'sys-pxe release push' again",
            )
        raise http.client.HTTPException(why)
    if answer.length != chunk.size - have:
        # a proxy's error page, or a truncated file: never longer than its place
        connection.close()
        raise _wrong_size(chunk, have, answer.length)
    while have < chunk.size:
        # of the chunk's size at most, whatever the server sends
        count = answer.readinto(buffer[: chunk.size - have])
        if count == 0:
            raise http.client.IncompleteRead(b"", chunk.size - have)
        yield buffer[:count]
        have += count


def _wrong_size(chunk: Chunk, have: int, size: int | None) -> SysPxeError:
    return VerificationError(
        f"chunk {chunk.sha256[:12]} has {size} bytes on the server from byte "
        f"{have} on (expected {chunk.size - have})",
        "the store of the sys-pxe qube is damaged: run "
        "'sys-pxe release push' again",
    )


def get_small(server: Server, path: str, limit: int) -> bytes:
    """Return a small document, at most ``limit`` bytes (SysPxeError)."""
    connection = http.client.HTTPConnection(*server, timeout=SILENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read(limit + 1)
    except (OSError, http.client.HTTPException) as error:
        raise SysPxeError(
            f"http://{server[0]}{path}: {_reason(error)}",
            "check that the sys-pxe qube runs",
        ) from None
    finally:
        connection.close()
    if answer.status != 200:
        raise _PermanentError(
            f"http://{server[0]}{path}: the server answers {answer.status}",
            "push the site and the release, then restart this PC",
        )
    if len(content) > limit:
        raise VerificationError(
            f"http://{server[0]}{path}: more than {limit} bytes"
        )
    # read() with a limit says nothing of a body that ends too early
    if answer.length:
        raise SysPxeError(
            f"http://{server[0]}{path}: cut off after {len(content)} bytes",
            "check the cable and the sys-pxe qube, then restart this PC",
        )
    return content
