"""Push: the manifest first, then the chunks that the store lacks.

The store says after each call what is still missing, so a push that broke
goes on where it was, and what two releases share is sent once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sys_pxe import frames
from sys_pxe.dom0 import answers
from sys_pxe.dom0.progress import Bar, Reporter
from sys_pxe.dom0.transport import Transport
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Manifest

SERVICE = "syspxe.Push"
# What one call carries, in bytes; a call that breaks loses nothing of it, but
# the store's lock is free between two calls.
BATCH_SIZE = 256 << 20
_BUFFER = 1 << 20
_FRUITLESS_MAX = 3


@dataclass(frozen=True)
class Piece:
    """Where a chunk's bytes lie: file, offset and size in bytes."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True)
class Outcome:
    """What a push did. ``sent_bytes`` counts chunks, in bytes."""

    chunks: int
    present: int
    sent_chunks: int
    sent_bytes: int
    calls: int


def pieces(manifest: Manifest, folder: Path) -> dict[str, Piece]:
    """Return digest -> where its bytes lie in the release's folder."""
    return {
        chunk.sha256: Piece(folder / artifact.name, chunk.offset, chunk.size)
        for artifact in manifest.artifacts
        for chunk in artifact.chunks
    }


def push(
    manifest: Manifest,
    signed_manifest: bytes,
    folder: Path,
    transport: Transport,
    reporter: Reporter,
    *,
    batch_size: int = BATCH_SIZE,
) -> Outcome:
    """Bring a release into the store and return what it took.

    Raises what the store says, or SysPxeError when it takes no chunk in three
    calls in a row.
    """
    known = pieces(manifest, folder)
    head = frames.frame("manifest", signed_manifest)
    sender = _Sender(manifest.release, head, known, transport)
    answer = sender.call({}, None)
    present = len(known) - len(answer.missing)
    total = sum(known[digest].size for digest in answer.missing)
    bar = reporter.bar(f"push {manifest.release}", total)
    fruitless = 0
    while not answer.complete:
        batch = _batch(answer.missing, known, batch_size)
        before = len(answer.missing)
        answer = sender.call(batch, bar)
        fruitless = 0 if len(answer.missing) < before else fruitless + 1
        if fruitless == _FRUITLESS_MAX:
            raise SysPxeError(
                f"{SERVICE}: the store still lacks {before} chunks and took "
                f"none in {fruitless} calls",
                "look at the disk and the journal of the sys-pxe qube",
            )
    bar.end()
    return Outcome(
        len(known), present, sender.chunks, sender.nbytes, sender.calls
    )


def _batch(
    missing: tuple[str, ...], known: dict[str, Piece], limit: int
) -> dict[str, Piece]:
    """Return the first missing chunks, at least one, up to a sum of bytes."""
    batch: dict[str, Piece] = {}
    size = 0
    for digest in missing:
        size += known[digest].size
        if batch and size > limit:
            break
        batch[digest] = known[digest]
    return batch


class _Sender:
    """Makes the calls of one push and counts what they moved."""

    def __init__(
        self,
        release: str,
        head: bytes,
        known: dict[str, Piece],
        transport: Transport,
    ) -> None:
        self._release = release
        self._head = head
        self._known = known
        self._transport = transport
        self.chunks = 0
        self.nbytes = 0
        self.calls = 0

    def call(
        self, batch: dict[str, Piece], bar: Bar | None
    ) -> answers.PushAnswer:
        """Send the manifest and these chunks; return what is missing."""

        def write(stream: IO[bytes]) -> None:
            stream.write(self._head)
            for digest, piece in batch.items():
                stream.write(frames.header(digest, piece.size))
                for part in _read(piece):
                    stream.write(part)
                    self.nbytes += len(part)
                    if bar is not None:
                        bar.add(len(part))
                self.chunks += 1

        self.calls += 1
        untrusted = self._transport.call(SERVICE, self._release, write)
        answer = answers.push(untrusted, self._release)
        strange = set(answer.missing) - self._known.keys()
        if strange or len(set(answer.missing)) != len(answer.missing):
            raise InvalidInput(
                f"{SERVICE}: it asks for chunks that the release does not have",
                "the sys-pxe qube is broken or was taken over",
            )
        if not answer.complete and not answer.missing:
            raise InvalidInput(f"{SERVICE}: not complete, and nothing missing")
        return answer


def _read(piece: Piece) -> Iterator[bytes]:
    left = piece.size
    try:
        with open(piece.path, "rb") as stream:
            stream.seek(piece.offset)
            while left and (part := stream.read(min(left, _BUFFER))):
                left -= len(part)
                yield part
    except OSError as error:
        raise _damaged(piece.path, str(error.strerror)) from None
    if left:
        raise _damaged(piece.path, "it is shorter than its manifest says")


def _damaged(path: Path, why: str) -> SysPxeError:
    return SysPxeError(
        f"{path}: {why}",
        "the release is damaged in dom0; build it again under a new name",
    )
