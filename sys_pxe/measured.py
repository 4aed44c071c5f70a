"""What a client measures into its TPM, and the text form of a quote. Pure.

It goes into PCR 13. The UAPI group's "Linux TPM PCR registry" gives 0-7 to the
firmware, 8-9 to GRUB and the kernel, 10 to IMA, 11-13 to systemd-stub (13: its
system extensions), 14 to shim, 15 to the system's identity; 16 and 23 can be
reset by the OS. Xen boots without systemd-stub, so 13 is as it was at power-on,
and nothing but a reset of the PC clears it.
"""

import base64
import hashlib
from collections.abc import Iterable

from sys_pxe import tpm2
from sys_pxe.errors import InvalidInput
from sys_pxe.tpm2 import Quote

PCR = 13
# what the firmware started, in its own words
LOADER_PCR = 4
# firmware, option ROMs, what the firmware started, Secure Boot, and ours
BOOT_PCRS = (0, 2, LOADER_PCR, 7, PCR)
TEXT_MAX = 1024
_VALUES = len(BOOT_PCRS) * tpm2.DIGEST_SIZE
_FIXED = tpm2.POINT_SIZE + tpm2.SIGNATURE_SIZE + _VALUES


def events(manifest_text: bytes, profile: str) -> tuple[bytes, bytes]:
    """Return what is measured of a boot: two SHA-256 digests.

    The first is of the manifest, by its exact bytes, the second of the
    profile's name behind words that no manifest begins with.
    """
    name = profile.encode("ascii")
    return (
        hashlib.sha256(manifest_text).digest(),
        hashlib.sha256(b"sys-pxe profile\0" + name).digest(),
    )


def nonce(manifest_text: bytes) -> bytes:
    """Return what the quote of a boot is asked with (32 bytes).

    Nobody can send the client a fresh one, as it asks and is never asked. So a
    quote belongs to a release, and can be one of an earlier boot of it.
    """
    return hashlib.sha256(b"sys-pxe quote\0" + manifest_text).digest()


def value(found: Iterable[bytes]) -> bytes:
    """Return what a PCR, zero at first, holds after these events.

    TPM 2.0 Library, Part 3, 22.2: new = SHA-256(old, event).
    """
    last = bytes(tpm2.DIGEST_SIZE)
    for event in found:
        last = hashlib.sha256(last + event).digest()
    return last


def encode(quote: Quote) -> str:
    """Return a quote of the boot's PCRs as base64: key, signature, the values
    in the order of BOOT_PCRS, and what the TPM signed."""
    values = b"".join(quote.pcrs[pcr] for pcr in BOOT_PCRS)
    whole = quote.public_key + quote.signature + values + quote.attest
    return base64.b64encode(whole).decode("ascii")


def decode(untrusted: str, where: str) -> Quote:
    """Return the quote that a text is; nothing of it is verified.

    Raises InvalidInput, which names ``where``.
    """
    try:
        if len(untrusted) > TEXT_MAX:
            raise ValueError
        whole = base64.b64decode(untrusted, validate=True)
    except ValueError:
        raise InvalidInput(
            f"{where}: not base64 of at most {TEXT_MAX} characters"
        ) from None
    if len(whole) <= _FIXED:
        raise InvalidInput(
            f"{where}: {len(whole)} bytes are no quote "
            f"(expected more than {_FIXED})"
        )
    key, rest = whole[: tpm2.POINT_SIZE], whole[tpm2.POINT_SIZE :]
    mark, rest = rest[: tpm2.SIGNATURE_SIZE], rest[tpm2.SIGNATURE_SIZE :]
    values = {
        pcr: rest[at : at + tpm2.DIGEST_SIZE]
        for pcr, at in zip(
            BOOT_PCRS, range(0, _VALUES, tpm2.DIGEST_SIZE), strict=True
        )
    }
    return Quote(key, rest[_VALUES:], mark, values)
