"""What a client's TPM says of its boot, beside what its release should give.

It informs and gates nothing. PCR 13 is the client program's own measurement.
PCR 4 is the firmware's: TCG's "PC Client Platform Firmware Profile", 3.3.4.5,
has it extended by the words of the boot attempt, a separator, and the
Authenticode digest of each EFI file that is started. The other PCRs belong to
the PC's model and settings; a release cannot say what they should be.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from sys_pxe import manifest, measured, plan, tpm2
from sys_pxe.dom0 import artifacts, pe, quote
from sys_pxe.dom0.state import State
from sys_pxe.errors import SysPxeError
from sys_pxe.manifest import Artifact, Manifest, Role
from sys_pxe.plan import Settings
from sys_pxe.tpm2 import Quote

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
    each boot of a PC. ``release`` is about PCR 13, ``boot_files`` about PCR 4,
    which ``started`` names: the files that give its value.
    """

    fault: str | None
    key: str
    release: Match = Match.UNKNOWN
    boot_files: Match = Match.UNKNOWN
    started: tuple[str, ...] = ()


def judge(
    text: str, release: str | None, settings: Settings, state: State
) -> Verdict:
    """Return what a quote (``measured.encode``) is worth.

    ``release`` is the one that the client says it booted, ``settings`` those
    of its profile. Raises InvalidInput for a text that is no quote.
    """
    found = measured.decode(text, "quote")
    info = tpm2.subject_public_key_info(found.public_key)
    key = hashlib.sha256(info).hexdigest()
    try:
        document = state.manifest_text(release or "none")
        quote.verify(found, measured.nonce(document))
    except SysPxeError as error:
        return Verdict(error.message, key)
    wanted = measured.value(measured.events(document, settings.profile))
    ours = found.pcrs[measured.PCR] == wanted
    known = _chains(manifest.parse(document), settings, state)
    started = known.get(found.pcrs[measured.LOADER_PCR])
    return Verdict(
        None,
        key,
        Match.EQUAL if ours else Match.DIFFERENT,
        _boot_files(found, known),
        started or (),
    )


def _boot_files(found: Quote, known: dict[bytes, tuple[str, ...]]) -> Match:
    if not known:
        return Match.UNKNOWN
    same = found.pcrs[measured.LOADER_PCR] in known
    return Match.EQUAL if same else Match.DIFFERENT


def _chains(
    release: Manifest, settings: Settings, state: State
) -> dict[bytes, tuple[str, ...]]:
    """Return value of PCR 4 -> the files that UEFI starts one after the other.

    Empty where they are not known: without a loader in the release it is the
    sys-pxe qube's own.
    """
    image = plan.unified(settings, release)
    loaders = [a for a in release.artifacts if a.role is Role.LOADER]
    if image is None or not loaders:
        return {}

    def digest(one: Artifact) -> bytes:
        path = artifacts.checked(state.release_folder(release.release), one)
        return pe.authenticode(path.read_bytes(), str(path))

    last = digest(image)
    found: dict[bytes, tuple[str, ...]] = {}
    for first in loaders:
        begun = [_CALLING, _SEPARATOR, digest(first)]
        for loads in _LOADS:
            found[measured.value(begun + [last] * loads)] = (
                first.name,
                image.name,
            )
    return found
