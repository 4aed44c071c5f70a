"""What dom0 keeps: keys, releases, serials, the pointers that it sent.

::

    key/private.pem             the signing key (0600, in a folder of 0700)
    key/public.pem
    releases/NAME/manifest      signed manifest
    releases/NAME/ARTIFACT      one file per artifact, under its name
    channels/CHANNEL/SERIAL     signed pointers that the store has taken
    serials/KIND                the last serial given out
    site                        the signed site that was pushed last

A serial is given out once, also when what it was for failed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sys_pxe import files, manifest, names, pointer, signature
from sys_pxe.document import DOCUMENT_MAX
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Manifest
from sys_pxe.pointer import Pointer

Kind = Literal["release", "pointer", "site"]
# a signed form is the document and one line of 99 bytes
SIGNED_MAX = DOCUMENT_MAX + 128
MANIFEST = "manifest"
BUILDING_PREFIX = ".building-"


@dataclass(frozen=True)
class State:
    """The folder of dom0's state."""

    root: Path

    @property
    def private_key(self) -> Path:
        """The signing key; UsageError when there is none yet."""
        return self._key("private.pem")

    @property
    def public_key(self) -> Path:
        """The public key; UsageError when there is none yet."""
        return self._key("public.pem")

    @property
    def key_folder(self) -> Path:
        """The folder of the key pair."""
        return self.root / "key"

    def _key(self, name: str) -> Path:
        path = self.key_folder / name
        if path.is_file():
            return path
        if (self.key_folder / "public.pem").is_file():
            raise SysPxeError(
                f"there is no signing key at {path}, only the public one",
                "only dom0 signs: run this command there",
            )
        raise SysPxeError(
            f"there is no key at {path}",
            "in dom0, make one with 'sys-pxe key create', or name the right "
            "folder with --state; a qube that pushes what dom0 has signed "
            "needs dom0's key/public.pem beside releases/",
        )

    @property
    def releases_folder(self) -> Path:
        """The folder that holds one folder per release."""
        return self.root / "releases"

    def release_folder(self, release: str) -> Path:
        """Return the folder of a release, whether it is there or not."""
        return self.releases_folder / names.parse_name(release, "release")

    def releases(self) -> list[Manifest]:
        """Return the manifests of all releases, lowest serial first."""
        folder = self.releases_folder
        if not folder.is_dir():
            return []
        found = [
            self.release(path.name)
            for path in folder.iterdir()
            if not path.name.startswith(".")
        ]
        return sorted(found, key=lambda m: m.serial)

    def signed_manifest(self, release: str) -> bytes:
        """Return the signed manifest of a release that was built here."""
        path = self.release_folder(release) / MANIFEST
        try:
            return files.read_capped(path, SIGNED_MAX)
        except FileNotFoundError:
            raise SysPxeError(
                f"there is no release {release} in {self.releases_folder}",
                "'sys-pxe release list' shows those that there are",
            ) from None

    def manifest_text(self, release: str) -> bytes:
        """Return a release's manifest as signed; its signature is checked."""
        signed = self.signed_manifest(release)
        what = f"the manifest of release {release}"
        return signature.opened(signed, self.public_key, what)

    def release(self, release: str) -> Manifest:
        """Return the manifest of a release; its signature is checked."""
        found = manifest.parse(self.manifest_text(release))
        if found.release != release:
            raise InvalidInput(
                f"{self.release_folder(release)}: holds the manifest of "
                f"release {found.release}",
                "give the folder its name back",
            )
        return found

    def take_serial(self, kind: Kind) -> int:
        """Return the next serial; it is never given out again.

        Raises Busy while another call takes one.
        """
        folder = files.make_folder(self.root / "serials")
        with files.locked(self.root / "lock", f"the state in {self.root}"):
            path = folder / kind
            last = 0
            if path.exists():
                text = files.read_capped(path, 32).decode("ascii", "replace")
                last = names.parse_int(
                    text.removesuffix("\n"), str(path), 1, names.SERIAL_MAX
                )
            serial = last + 1
            files.write(path, f"{serial}\n".encode("ascii"))
        return serial

    def pointers(self, channel: str) -> list[Pointer]:
        """Return the pointers that the store has taken, oldest first."""
        folder = self.root / "channels" / names.parse_name(channel, "channel")
        if not folder.is_dir():
            return []
        found = []
        for path in folder.iterdir():
            if path.name.startswith("."):
                continue
            what = f"the pointer {path}"
            signed = files.read_capped(path, SIGNED_MAX)
            found.append(
                pointer.parse(signature.opened(signed, self.public_key, what))
            )
        return sorted(found, key=lambda p: p.serial)

    def keep_pointer(self, sent: Pointer, signed: bytes) -> None:
        """Remember a pointer that the store has taken."""
        folder = files.make_folder(self.root / "channels" / sent.channel)
        files.write(folder / str(sent.serial), signed)
