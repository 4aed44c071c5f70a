"""Receiving a release: manifest first, then the chunks that are missing.

What is stored at any instant is verified, so a push that is cut, killed or
runs out of disk goes on where it was. A release is complete when it lies in
``releases``; from then on it never changes.
"""

import errno
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from sys_pxe import files, frames, manifest, trust
from sys_pxe.agent.store import SIGNED_MAX, Store
from sys_pxe.errors import InvalidInput, SysPxeError, VerificationError
from sys_pxe.manifest import CHUNK_MAX, Artifact, Manifest

# What the rest of the qube needs to go on: logs, state, leases.
RESERVE = 64 << 20
_BUFFER = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Received:
    """How a push ended: what is still missing, how many chunks it brought."""

    release: str
    missing: tuple[str, ...]
    stored: int

    @property
    def complete(self) -> bool:
        """Whether the release may be activated."""
        return not self.missing


def receive(
    store: Store,
    release: str,
    untrusted_stream: IO[bytes],
    now: int,
    reserve: int = RESERVE,
) -> Received:
    """Take a release from a stream of frames.

    ``now`` is in seconds since 1970, ``reserve`` in bytes. Raises
    VerificationError (signature, digest, dates, another release of this name
    or serial), InvalidInput (frames), Busy, SysPxeError (disk full).
    """
    with store.locked():
        untrusted = frames.read_small(untrusted_stream, "manifest", SIGNED_MAX)
        wanted = manifest.parse(store.opened(untrusted, f"release {release}"))
        if wanted.release != release:
            raise VerificationError(
                f"this is the manifest of release {wanted.release}, it was "
                f"pushed as {release}",
                "push it under its own name",
            )
        trust.check_dates(wanted, now, trust.QUBE_CLOCK)
        try:
            return _receive(store, wanted, untrusted, untrusted_stream, reserve)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            needed = sum(store.missing(wanted).values())
            raise disk_full(release, needed, reserve, store.free()) from None


def disk_full(
    release: str, needed: int, reserve: int, free: int
) -> SysPxeError:
    """Return the error that says how much room (bytes) a push lacks."""
    return SysPxeError(
        f"the disk is full: release {release} still needs {needed} bytes and "
        f"{reserve} are kept in reserve, {free} are free",
        "run 'sys-pxe release prune', or make the qube's private volume larger "
        "(in dom0: qvm-volume resize sys-pxe:private SIZE), then push again; "
        "what was received is kept",
    )


def _receive(
    store: Store,
    wanted: Manifest,
    signed: bytes,
    untrusted_stream: IO[bytes],
    reserve: int,
) -> Received:
    complete = _is_complete(store, wanted, signed)
    missing = store.missing(wanted)
    needed = sum(missing.values())
    if missing and needed + reserve > store.free():
        raise disk_full(wanted.release, needed, reserve, store.free())
    if not complete:
        pending = store.pending / wanted.release
        if not pending.is_file() or pending.read_bytes() != signed:
            files.write(pending, signed)
    stored = _take_chunks(store, wanted, untrusted_stream)
    left = store.missing(wanted)
    if not left and complete:
        # it is pushed again as something seems to be wrong with it
        _drop_damaged(store, wanted)
        left = store.missing(wanted)
    elif not left:
        for artifact in wanted.artifacts:
            check_artifact(store, artifact)
        files.rename(
            store.pending / wanted.release, store.releases / wanted.release
        )
    return Received(wanted.release, tuple(left), stored)


def _drop_damaged(store: Store, wanted: Manifest) -> None:
    """Remove what is not what was signed: the next call brings it."""
    for name in wanted.chunks():
        _is_good(store, name)


def _is_good(store: Store, name: str) -> bool:
    """Return whether a chunk is what its name says; remove it if not."""
    path = store.chunks / name
    with suppress(FileNotFoundError), open(path, "rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != name:
            files.remove(path)
            return False
    return True


def _is_complete(store: Store, wanted: Manifest, signed: bytes) -> bool:
    for name in store.release_names():
        try:
            other = store.release(name)
        except (VerificationError, InvalidInput):
            continue  # damaged on the disk: as if it were not there
        if other is None:
            continue
        if name == wanted.release:
            if other != wanted:
                raise VerificationError(
                    f"release {name} is complete with serial {other.serial} "
                    "and other content; a release never changes",
                    "give the new release another name",
                )
            return True
        if other.serial == wanted.serial:
            raise VerificationError(
                f"release {name} has serial {other.serial} already, "
                f"{wanted.release} cannot have it too",
                "build the release again, so that it gets a new serial",
            )
    return False


def _take_chunks(
    store: Store, wanted: Manifest, untrusted_stream: IO[bytes]
) -> int:
    sizes = wanted.chunks()
    stored = 0
    while head := frames.read_header(untrusted_stream, CHUNK_MAX):
        if head.name not in sizes:
            raise InvalidInput(
                f"frame {head.name[:12]}: not a chunk of {wanted.release}"
            )
        if head.size != sizes[head.name]:
            raise InvalidInput(
                f"frame {head.name[:12]}: {head.size} bytes (expected "
                f"{sizes[head.name]})"
            )
        body = frames.read_body(untrusted_stream, head)
        path = store.chunks / head.name
        if path.is_file() and path.stat().st_size == head.size:
            for _ in body:
                pass
            continue
        digest = hashlib.sha256()
        with files.replacing(path) as stream:
            for part in body:
                digest.update(part)
                stream.write(part)
            if digest.hexdigest() != head.name:
                raise VerificationError(
                    f"chunk {head.name[:12]} arrived with other content",
                    "push again; if it happens again, check the golden image",
                )
        stored += 1
    return stored


def check_artifact(store: Store, artifact: Artifact) -> None:
    """Check an artifact's whole digest over its chunks, as they lie on disk.

    A chunk that does not hold is removed, so that the next push brings it.
    Raises VerificationError.
    """
    whole = hashlib.sha256()
    for name in artifact.digests:
        with open(store.chunks / name, "rb") as stream:
            while part := stream.read(_BUFFER):
                whole.update(part)
    if whole.hexdigest() == artifact.sha256:
        return
    names = set(artifact.digests)
    damaged = sum(not _is_good(store, name) for name in names)
    raise VerificationError(
        f"artifact {artifact.name} does not have the digest that its "
        f"manifest gives it ({damaged} of its chunks were damaged on the disk)",
        "push the release again" if damaged else "build the release again",
    )
