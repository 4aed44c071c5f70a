"""Dropping what nothing needs any more.

Kept are: the releases that channels point at; those that are newer than all of
these and have not expired (they wait to be activated); and pushes under way
that have not expired. Chunks go only after the manifests that named them.
"""

from dataclasses import dataclass

from sys_pxe import files
from sys_pxe.agent.store import Store
from sys_pxe.errors import InvalidInput, VerificationError
from sys_pxe.manifest import Manifest


@dataclass(frozen=True)
class Pruned:
    """What went: releases by name, chunks and their bytes by number."""

    releases: tuple[str, ...]
    chunks: int
    bytes: int


def prune(store: Store, now: int) -> Pruned:
    """Drop what nothing needs; ``now`` is in seconds since 1970."""
    with store.locked():
        pointed = {p.release for p in store.pointers().values()}
        complete = {n: store.release(n) for n in store.release_names()}
        newest = max(
            (m.serial for n, m in complete.items() if m and n in pointed),
            default=0,
        )
        keep: list[Manifest] = []
        gone = []
        for name, found in complete.items():
            if found and (name in pointed or _waits(found, newest, now)):
                keep.append(found)
            else:
                gone.append(name)
                files.remove(store.releases / name)
        for name in store.pending_names():
            pending = _pending(store, name)
            if pending and now < pending.expires:
                keep.append(pending)
            else:
                gone.append(name)
                files.remove(store.pending / name)
        needed = {digest for found in keep for digest in found.chunks()}
        dropped = {
            digest: size
            for digest, size in store.chunk_sizes().items()
            if digest not in needed
        }
        if gone:
            files.sync_folder(store.releases)
            files.sync_folder(store.pending)
        for digest in dropped:
            files.remove(store.chunks / digest)
    return Pruned(tuple(sorted(gone)), len(dropped), sum(dropped.values()))


def _waits(found: Manifest, newest: int, now: int) -> bool:
    return found.serial > newest and now < found.expires


def _pending(store: Store, name: str) -> Manifest | None:
    try:
        return store.pending_release(name)
    except (VerificationError, InvalidInput):
        return None
