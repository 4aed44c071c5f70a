"""The agent's folder: where things lie, and how they are read.

Reading takes no lock: each file is replaced as a whole. A document is only
ever read through the key, so a damaged file is an error and not a release.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sys_pxe import files, manifest, names, pointer, signature, site
from sys_pxe.document import DOCUMENT_MAX
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Manifest
from sys_pxe.pointer import Pointer
from sys_pxe.site import SignedSite

SIGNED_MAX = DOCUMENT_MAX + 1024
FOLDERS = ("channels", "releases", "pending", "chunks", "generated", "tftp")


class Store:
    """The folder of one agent. All paths are below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.key = self.root / "key.pem"
        self.site_file = self.root / "site"
        self.channels = self.root / "channels"
        self.releases = self.root / "releases"
        self.pending = self.root / "pending"
        self.chunks = self.root / "chunks"
        self.generated = self.root / "generated"
        self.current = self.root / "current"
        self.tftp = self.root / "tftp"
        self.run = self.root / "run"
        self.database = self.root / "state.sqlite"
        self.server_file = self.root / "server"

    def prepare(self) -> None:
        """Make the folders that are missing."""
        for name in FOLDERS:
            files.make_folder(self.root / name)
        files.make_folder(self.run, 0o700)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one that changes the store; Busy when somebody else is.

        Also clears away what a killed call has left behind.
        """
        self.prepare()
        with files.locked(self.root / "lock", "the store"):
            for folder in (self.chunks, self.pending, self.channels, self.root):
                for left in folder.glob(files.TEMPORARY_PREFIX + "*"):
                    files.remove(left)
            yield

    def opened(self, untrusted: bytes, what: str) -> bytes:
        """Return a signed document's text; VerificationError if it is not."""
        if not self.key.is_file():
            raise SysPxeError(
                f"{self.key} is missing",
                "run 'sys-pxe key show' in dom0 and put the public key there",
            )
        return signature.opened(untrusted, self.key, what)

    def _read(self, path: Path, what: str) -> bytes | None:
        try:
            untrusted = files.read_capped(path, SIGNED_MAX)
        except FileNotFoundError:
            return None
        return self.opened(untrusted, what)

    def site(self) -> SignedSite | None:
        """Return the site, or None as long as none was sent."""
        text = self._read(self.site_file, "the stored site")
        return None if text is None else site.decode(text)

    def pointer(self, channel: str) -> Pointer | None:
        """Return a channel's pointer, or None."""
        what = f"the stored pointer of channel {channel}"
        text = self._read(self.channels / channel, what)
        return None if text is None else pointer.parse(text)

    def pointers(self, but: str = "") -> dict[str, Pointer]:
        """Return channel -> pointer of all channels that have one.

        The channel ``but`` is left out.
        """
        channels = [name for name in _names(self.channels) if name != but]
        found = {name: self.pointer(name) for name in channels}
        return {name: p for name, p in found.items() if p is not None}

    def release(self, name: str) -> Manifest | None:
        """Return the manifest of a complete release, or None."""
        text = self._read(self.releases / name, f"the stored release {name}")
        return None if text is None else manifest.parse(text)

    def pending_release(self, name: str) -> Manifest | None:
        """Return the manifest of a release that is being pushed, or None."""
        text = self._read(self.pending / name, f"the stored release {name}")
        return None if text is None else manifest.parse(text)

    def release_names(self) -> list[str]:
        """Return the names of the complete releases, in order."""
        return _names(self.releases)

    def pending_names(self) -> list[str]:
        """Return the names of the releases that are not complete, in order."""
        return _names(self.pending)

    def missing(self, wanted: Manifest) -> dict[str, int]:
        """Return digest -> size of a release's chunks that are not here."""
        return {
            digest: size
            for digest, size in wanted.chunks().items()
            if _size(self.chunks / digest) != size
        }

    def free(self) -> int:
        """Return how many bytes the file system has left for us."""
        room = os.statvfs(self.root)
        return room.f_bavail * room.f_frsize

    def chunk_sizes(self) -> dict[str, int]:
        """Return digest -> size of every chunk in the store."""
        found = {}
        for entry in os.scandir(self.chunks) if self.chunks.is_dir() else ():
            if len(entry.name) == 64:
                found[entry.name] = entry.stat().st_size
        return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    found = []
    for name in sorted(os.listdir(folder)):
        try:
            found.append(names.parse_name(name, "store"))
        except InvalidInput:
            continue
    return found
