"""Are the files that loaders fetch whole where they are served from?

A chunk's name is its digest, so a file is right or it is damaged. One that has
not changed since it was read is not read again.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from sys_pxe.agent import signed
from sys_pxe.agent.store import Store
from sys_pxe.manifest import WHOLE_ROLES, Manifest

GOOD, MISSING, DAMAGED, STALE = "good", "missing", "damaged", "stale"


class BootFiles:
    """What was found out about files; ``rows`` is as the status says it."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def rows(
        self, store: Store, served: Mapping[str, Manifest]
    ) -> list[dict[str, str]]:
        """Return release, file and state of each boot file that is served."""
        releases = {m.release: m for m in served.values()}
        found = [
            {
                "release": name,
                "file": artifact.name,
                "state": self._chunk(store.chunks / artifact.digests[0]),
            }
            for name, release in sorted(releases.items())
            for artifact in release.artifacts
            if artifact.role in WHOLE_ROLES and artifact.digests
        ]
        found += [
            {
                "release": release.release,
                "file": artifact.name,
                "state": STALE,
            }
            for release, artifact in signed.served(releases.values())
            if self._digest(store.tftp / artifact.name) != artifact.sha256
        ]
        return found

    def _chunk(self, path: Path) -> str:
        digest = self._digest(path)
        if digest is None:
            return MISSING
        return GOOD if digest == path.name else DAMAGED

    def _digest(self, path: Path) -> str | None:
        """Return a file's SHA-256, or None when there is none to read."""
        try:
            with path.open("rb") as content:
                found = os.fstat(content.fileno())
                mark = (found.st_ino, found.st_size, found.st_mtime_ns)
                known = self._known.get(path)
                if known is not None and known[0] == mark:
                    return known[1]
                digest = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError:
            return None
        self._known[path] = (mark, digest)
        return digest
