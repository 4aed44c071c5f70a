"""What a client's TPM says of its boot, beside what its release should give.

It informs and gates nothing. PCR 13 is the client program's own measurement, so
it is worth something only where PCR 4 says that this program was started. PCR 4
is the firmware's: TCG's "PC Client Platform Firmware Profile", 3.3.4.5, has it
extended by the words of the boot attempt, a separator, and the Authenticode
digest of each EFI application that is loaded; drivers go to PCR 2. The other
PCRs belong to the PC's model and settings: no release says what they should be.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sys_pxe import manifest, measured, tpm2
from sys_pxe.dom0 import artifacts, pe, quote
from sys_pxe.dom0.state import State
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Artifact, Manifest, Role

_CALLING = hashlib.sha256(b"Calling EFI Application from Boot Option").digest()
_SEPARATOR = hashlib.sha256(bytes(4)).digest()
# iPXE lets the firmware load an image once to see whether it may, once to start
# it, and does so again after a failure: seen with 1.0.0, each is measured
_LOADS = range(1, 11)


class Match(StrEnum):
    """Whether a PCR has the value that the release gives."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """``fault`` says why the quote does not hold, None when it does.

    ``key`` is the SHA-256 (hex) of the TPM's key in DER form: the same one at
    each boot of a PC. ``resets`` is how often the TPM was reset, which grows
    with each boot. ``release`` is about PCR 13, ``boot_files`` about PCR 4,
    whose value ``started`` names: the EFI applications that give it.
    ``trouble`` says why dom0 cannot tell what PCR 4 should be.
    """

    fault: str | None
    key: str
    resets: int | None = None
    release: Match = Match.UNKNOWN
    boot_files: Match = Match.UNKNOWN
    started: tuple[str, ...] = ()
    trouble: str = ""


def judge(
    text: str, release: str | None, profile: str, state: State
) -> Verdict:
    """Return what a quote (``measured.encode``) is worth.

    ``release`` is the one that the client says it booted, ``profile`` the one
    that it should have. Raises InvalidInput for a text that is no quote.
    """
    found = measured.decode(text, "quote")
    info = tpm2.subject_public_key_info(found.public_key)
    key = hashlib.sha256(info).hexdigest()
    if release is None:
        return Verdict("the client named no release", key)
    try:
        document = state.manifest_text(release)
        attest = quote.verify(found, measured.nonce(document))
    except SysPxeError as error:
        return Verdict(error.message, key)
    wanted = measured.value(measured.events(document, profile))
    known, trouble = _chains(manifest.parse(document), state)
    started = known.get(found.pcrs[measured.LOADER_PCR])
    boot_files = Match.UNKNOWN
    if known:
        boot_files = Match.EQUAL if started else Match.DIFFERENT
    same = found.pcrs[measured.PCR] == wanted
    return Verdict(
        None,
        key,
        attest.resets,
        Match.EQUAL if same else Match.DIFFERENT,
        boot_files,
        started or (),
        trouble,
    )


def _chains(
    release: Manifest, state: State
) -> tuple[dict[bytes, tuple[str, ...]], str]:
    """Return value of PCR 4 -> the files that UEFI starts one after the other,
    or nothing and why that is so."""
    images = [release.of_image(image) for image in release.images]
    loaders = [a for a in release.artifacts if a.role is Role.LOADER]
    if not images or not loaders:
        return {}, (
            f"release {release.release} has no signed loader and image for UEFI"
        )
    folder = state.release_folder(release.release)
    try:
        digests = {
            one.name: _digest(folder, one) for one in (*images, *loaders)
        }
    except InvalidInput as error:
        return {}, error.message
    found: dict[bytes, tuple[str, ...]] = {}
    for first in loaders:
        begun = [_CALLING, _SEPARATOR, digests[first.name]]
        for image in images:
            for loads in _LOADS:
                events = begun + [digests[image.name]] * loads
                found[measured.value(events)] = (first.name, image.name)
    return found, ""


def _digest(folder: Path, one: Artifact) -> bytes:
    path = artifacts.checked(folder, one)
    return pe.authenticode(path.read_bytes(), str(path))
