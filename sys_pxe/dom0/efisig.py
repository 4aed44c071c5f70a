"""What firmware keeps and takes as Secure Boot keys. Pure.

UEFI specification 2.10: EFI_SIGNATURE_LIST (32.4.1), and the time-based
authenticated change of a variable, EFI_VARIABLE_AUTHENTICATION_2 (8.2.2).
"""

import struct
from datetime import UTC, datetime
from uuid import UUID

from sys_pxe.errors import InvalidInput

X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
PKCS7 = UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
VARIABLES = {"PK": GLOBAL, "KEK": GLOBAL, "db": IMAGE_SECURITY}
# kept, seen at boot and at run time, changed by a signature with a time
ATTRIBUTES = 0x27

# who wrote an entry comes before its data
_OWNER_SIZE = 16
_HEAD = struct.Struct("<16sIII")
_TIME = struct.Struct("<HBBBBBxIhBx")
# WIN_CERTIFICATE_UEFI_GUID: size, revision 2.0, type EFI_GUID, kind
_CERTIFICATE = struct.Struct("<IHH16s")
_REVISION, _TYPE = 0x0200, 0x0EF1
# the object identifier of signedData, RFC 2315 14
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")


def signature_list(certificate: bytes, owner: UUID) -> bytes:
    """Return a list of one X.509 certificate (DER)."""
    size = _OWNER_SIZE + len(certificate)
    head = _HEAD.pack(X509.bytes_le, _HEAD.size + size, 0, size)
    return head + owner.bytes_le + certificate


def certificate_of(esl: bytes) -> tuple[UUID, bytes]:
    """Return owner and certificate (DER) of a list of one. InvalidInput."""
    if len(esl) <= _HEAD.size + _OWNER_SIZE:
        raise InvalidInput("EFI signature list: cut off")
    kind, total, head, size = _HEAD.unpack_from(esl)
    rest = esl[_HEAD.size :]
    if (kind, head) != (X509.bytes_le, 0) or total != len(esl):
        raise InvalidInput("EFI signature list: not one list of certificates")
    if size != len(rest):
        raise InvalidInput("EFI signature list: not one certificate")
    return UUID(bytes_le=rest[:_OWNER_SIZE]), rest[_OWNER_SIZE:]


def efi_time(seconds: int) -> bytes:
    """Return an EFI_TIME (16 bytes) for seconds since 1970."""
    at = datetime.fromtimestamp(seconds, UTC)
    return _TIME.pack(
        *(at.year, at.month, at.day, at.hour, at.minute, at.second),
        *(0, 0, 0),
    )


def to_sign(variable: str, esl: bytes, seconds: int) -> bytes:
    """Return the bytes whose signature lets a variable be set to a list."""
    return (
        variable.encode("utf-16-le")
        + VARIABLES[variable].bytes_le
        + struct.pack("<I", ATTRIBUTES)
        + efi_time(seconds)
        + esl
    )


def signed_update(esl: bytes, seconds: int, pkcs7: bytes) -> bytes:
    """Return the signed change; ``pkcs7`` is the signature in DER.

    Firmware takes the SignedData alone, without the ContentInfo around it.
    """
    data = signed_data(pkcs7)
    head = _CERTIFICATE.pack(
        _CERTIFICATE.size + len(data), _REVISION, _TYPE, PKCS7.bytes_le
    )
    return efi_time(seconds) + head + data + esl


def signed_data(pkcs7: bytes) -> bytes:
    """Return the SignedData in a ContentInfo (RFC 2315 7). InvalidInput."""
    content = _inside(pkcs7, 0x30)
    if not content.startswith(_SIGNED_DATA):
        raise InvalidInput("PKCS #7: not signed data")
    found = _inside(content[len(_SIGNED_DATA) :], 0xA0)
    _inside(found, 0x30)
    return found


def _inside(der: bytes, tag: int) -> bytes:
    """Return the content of the one DER value that these bytes are."""
    if len(der) < 2 or der[0] != tag:
        raise InvalidInput("PKCS #7: not the form that it must have")
    start, size = 2, der[1]
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[2:start], "big")
    if len(der) != start + size:
        raise InvalidInput("PKCS #7: cut off, or more than one value")
    return der[start:]
