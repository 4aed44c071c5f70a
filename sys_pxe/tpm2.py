"""What a TPM 2.0 is told and answers, and what a quote proves. Pure.

Source: TCG "TPM 2.0 Library", Part 2 (structures), Part 3 (commands); all
numbers are big-endian. Only the SHA-256 bank of PCRs is used.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from sys_pxe.errors import InvalidInput, SysPxeError, VerificationError

DIGEST_SIZE = 32
NONCE_MAX = 32
POINT_SIZE = 64
SIGNATURE_SIZE = 64
ANSWER_MAX = 4096

# Part 2: TPM_ALG_ID, TPM_ECC_CURVE, TPM_CC, TPM_ST, TPM_RH
_SHA256, _NULL, _ECDSA, _ECC, _P256 = 0x000B, 0x0010, 0x0018, 0x0023, 0x0003
_EXTEND, _CREATE_PRIMARY, _QUOTE = 0x182, 0x131, 0x158
_FLUSH, _PCR_READ = 0x165, 0x17E
_PLAIN, _SESSIONS = 0x8001, 0x8002
_ENDORSEMENT, _PASSWORD = 0x4000000B, 0x40000009
_GENERATED, _ATTEST_QUOTE = 0xFF544347, 0x8018
# Part 2, TPMA_OBJECT: fixedTPM, fixedParent, sensitiveDataOrigin,
# userWithAuth, noDA, restricted (it signs only what the TPM made), sign
_ATTRIBUTES = sum(1 << bit for bit in (1, 4, 5, 6, 10, 16, 18))
_SELECT_SIZE = 3
_PCRS = 8 * _SELECT_SIZE
_HEADER = struct.Struct(">HII")
# RFC 5480: id-ecPublicKey, prime256v1, an uncompressed point
_KEY_INFO = bytes.fromhex(
    "3059301306072a8648ce3d020106082a8648ce3d03010703420004"
)


@dataclass(frozen=True)
class Key:
    """A loaded key: its handle, and its public point (x and y, 64 bytes)."""

    handle: int
    point: bytes


@dataclass(frozen=True)
class Quote:
    """A signed statement of a TPM on its PCRs.

    ``public_key`` is x and y, ``signature`` r and s (64 bytes each, ECDSA on
    P-256 with SHA-256 over ``attest``); ``pcrs`` are the values it is about.
    """

    public_key: bytes
    attest: bytes
    signature: bytes
    pcrs: dict[int, bytes]


@dataclass(frozen=True)
class Attest:
    """What a quote says (Part 2, TPMS_ATTEST): ``nonce`` as it was asked with,
    ``selection`` the PCRs in their order, ``digest`` SHA-256 over their
    values, ``resets`` how often the TPM was reset (each power-on is one)."""

    nonce: bytes
    resets: int
    selection: tuple[int, ...]
    digest: bytes


def _sized(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def _command(code: int, handles: bytes, parameters: bytes) -> bytes:
    size = _HEADER.size + len(handles) + len(parameters)
    return _HEADER.pack(_PLAIN, size, code) + handles + parameters


def _authorised(code: int, handle: int, parameters: bytes) -> bytes:
    """Return a command with an empty password."""
    session = struct.pack(">IHBH", _PASSWORD, 0, 0, 0)
    body = struct.pack(">II", handle, len(session)) + session + parameters
    return _HEADER.pack(_SESSIONS, _HEADER.size + len(body), code) + body


def _selection(pcrs: Iterable[int]) -> bytes:
    bits = 0
    for pcr in pcrs:
        if not 0 <= pcr < _PCRS:
            raise InvalidInput(f"there is no PCR {pcr} (expected 0 to 23)")
        bits |= 1 << pcr
    head = struct.pack(">IHB", 1, _SHA256, _SELECT_SIZE)
    return head + bits.to_bytes(_SELECT_SIZE, "little")


def pcr_extend(pcr: int, digest: bytes) -> bytes:
    """Return TPM2_PCR_Extend of the SHA-256 bank (Part 3, 22.2)."""
    if not 0 <= pcr < _PCRS or len(digest) != DIGEST_SIZE:
        raise InvalidInput(
            f"PCR {pcr} cannot be extended with {len(digest)} bytes "
            f"(expected PCR 0 to 23, {DIGEST_SIZE} bytes)"
        )
    return _authorised(_EXTEND, pcr, struct.pack(">IH", 1, _SHA256) + digest)


def create_attestation_key() -> bytes:
    """Return TPM2_CreatePrimary of the key that signs quotes (Part 3, 24.1).

    It lies under the endorsement hierarchy: the same TPM always makes the same
    key of this template (TPM2_Clear does not change it), and a quote tells the
    count of resets as it is.
    """
    public = struct.pack(
        ">HHIHHHHHHHH",
        *(_ECC, _SHA256, _ATTRIBUTES, 0),
        *(_NULL, _ECDSA, _SHA256, _P256, _NULL),
        *(0, 0),
    )
    no_secret = _sized(struct.pack(">HH", 0, 0))
    no_outside, no_pcrs = _sized(b""), struct.pack(">I", 0)
    return _authorised(
        _CREATE_PRIMARY,
        _ENDORSEMENT,
        no_secret + _sized(public) + no_outside + no_pcrs,
    )


def quote(handle: int, nonce: bytes, pcrs: Iterable[int]) -> bytes:
    """Return TPM2_Quote by the key's own scheme (Part 3, 18.4)."""
    if not 0 < len(nonce) <= NONCE_MAX:
        raise InvalidInput(
            f"a nonce of {len(nonce)} bytes (expected 1 to {NONCE_MAX})"
        )
    scheme = struct.pack(">H", _NULL)
    return _authorised(
        _QUOTE, handle, _sized(nonce) + scheme + _selection(pcrs)
    )


def flush_context(handle: int) -> bytes:
    """Return TPM2_FlushContext, which frees a handle (Part 3, 28.4)."""
    return _command(_FLUSH, b"", struct.pack(">I", handle))


def pcr_read(pcrs: Iterable[int]) -> bytes:
    """Return TPM2_PCR_Read of at most eight PCRs (Part 3, 22.4)."""
    return _command(_PCR_READ, b"", _selection(pcrs))


class _Reader:
    """Takes fields off untrusted bytes; raises InvalidInput at their end."""

    def __init__(self, untrusted: bytes, what: str) -> None:
        self._rest = untrusted
        self.what = what

    def fault(self, text: str) -> InvalidInput:
        return InvalidInput(f"{self.what}: {text}")

    def take(self, size: int) -> bytes:
        if len(self._rest) < size:
            raise self.fault("cut off")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        return self.take(self.number(2))

    def expect(self, size: int, value: int, name: str) -> None:
        found = self.number(size)
        if found != value:
            raise self.fault(f"{name} is {found:#x} (expected {value:#x})")

    def half(self) -> bytes:
        """Take a number of P-256; some TPMs leave out zeros at its start."""
        found = self.sized()
        if not 0 < len(found) <= 32:
            raise self.fault(f"a number of {len(found)} bytes (expected 32)")
        return found.rjust(32, b"\0")

    def selection(self) -> tuple[int, ...]:
        self.expect(4, 1, "its count of PCR banks")
        self.expect(2, _SHA256, "its PCR bank")
        self.expect(1, _SELECT_SIZE, "the size of its PCR selection")
        bits = int.from_bytes(self.take(_SELECT_SIZE), "little")
        return tuple(pcr for pcr in range(_PCRS) if bits >> pcr & 1)

    def digest(self) -> bytes:
        found = self.sized()
        if len(found) != DIGEST_SIZE:
            raise self.fault(f"a digest of {len(found)} bytes (expected 32)")
        return found

    def end(self) -> None:
        if self._rest:
            raise self.fault(f"{len(self._rest)} bytes too many")


def _answer(untrusted: bytes, tag: int, what: str) -> _Reader:
    """Return what comes after an answer's header."""
    reader = _Reader(untrusted, f"the TPM's answer to {what}")
    found, size, code = _HEADER.unpack(reader.take(_HEADER.size))
    if size != len(untrusted):
        raise reader.fault(f"{len(untrusted)} bytes (it says {size})")
    if code:
        raise SysPxeError(
            f"the TPM refused {what} with code {code:#x}",
            "look the code up in TCG's TPM 2.0 Library, Part 2, TPM_RC; a TPM "
            "that was cleared in the firmware's setup often helps",
        )
    if found != tag:
        raise reader.fault(f"its tag is {found:#x} (expected {tag:#x})")
    return reader


def _parameters(reader: _Reader) -> _Reader:
    """Return the parameters of an answer with a password's empty session."""
    inner = _Reader(reader.take(reader.number(4)), reader.what)
    reader.expect(2, 0, "its session's nonce")
    reader.take(1)
    reader.expect(2, 0, "its session's password")
    reader.end()
    return inner


def parse_extended(untrusted: bytes) -> None:
    """Check the answer to :func:`pcr_extend`.

    This and the other parsers of answers raise InvalidInput for a wrong form,
    and SysPxeError when the TPM refused the command.
    """
    _parameters(_answer(untrusted, _SESSIONS, "TPM2_PCR_Extend")).end()


def parse_flushed(untrusted: bytes) -> None:
    """Check the answer to :func:`flush_context`."""
    _answer(untrusted, _PLAIN, "TPM2_FlushContext").end()


def parse_key(untrusted: bytes) -> Key:
    """Return the key of the answer to :func:`create_attestation_key`."""
    reader = _answer(untrusted, _SESSIONS, "TPM2_CreatePrimary")
    handle = reader.number(4)
    inner = _parameters(reader)
    public = _Reader(inner.sized(), reader.what)
    for size, value, name in (
        *((2, _ECC, "its type"), (2, _SHA256, "its hash")),
        *((4, _ATTRIBUTES, "its attributes"), (2, 0, "its policy")),
        *((2, _NULL, "its cipher"), (2, _ECDSA, "its scheme")),
        *((2, _SHA256, "its scheme's hash"), (2, _P256, "its curve")),
        (2, _NULL, "its derivation"),
    ):
        public.expect(size, value, name)
    point = public.half() + public.half()
    public.end()
    # creation data, creation hash, ticket (tag, hierarchy, digest), name
    inner.sized()
    inner.sized()
    inner.take(6)
    inner.sized()
    inner.sized()
    inner.end()
    return Key(handle, point)


def parse_quoted(untrusted: bytes) -> tuple[bytes, bytes]:
    """Return attest and signature (r and s, 64 bytes) of a quote's answer."""
    inner = _parameters(_answer(untrusted, _SESSIONS, "TPM2_Quote"))
    attest = inner.sized()
    inner.expect(2, _ECDSA, "its signature's scheme")
    inner.expect(2, _SHA256, "its signature's hash")
    signature = inner.half() + inner.half()
    inner.end()
    return attest, signature


def parse_pcrs(untrusted: bytes) -> dict[int, bytes]:
    """Return PCR -> value (32 bytes) of the answer to :func:`pcr_read`.

    A PCR that the TPM does not have in its SHA-256 bank is not in it.
    """
    reader = _answer(untrusted, _PLAIN, "TPM2_PCR_Read")
    reader.take(4)
    selection = reader.selection()
    reader.expect(4, len(selection), "its count of values")
    pcrs = {pcr: reader.digest() for pcr in selection}
    reader.end()
    return pcrs


def parse_attest(untrusted: bytes) -> Attest:
    """Return what a TPM signed in a quote (Part 2, TPMS_ATTEST).

    Raises InvalidInput for anything else than a quote made by a TPM.
    """
    reader = _Reader(untrusted, "the TPM's quote")
    reader.expect(4, _GENERATED, "its magic")
    reader.expect(2, _ATTEST_QUOTE, "its type")
    reader.sized()
    nonce = reader.sized()
    # clock (8), resets (4), restarts (4), safe (1), firmware's version (8)
    reader.take(8)
    resets = reader.number(4)
    reader.take(13)
    selection = reader.selection()
    digest = reader.digest()
    reader.end()
    return Attest(nonce, resets, selection, digest)


def check_pcrs(attest: Attest, pcrs: dict[int, bytes]) -> None:
    """Return if the quote is about exactly these values.

    Raises VerificationError otherwise.
    """
    if attest.selection != tuple(sorted(pcrs)):
        raise VerificationError(
            f"the TPM's quote is about the PCRs {_names(attest.selection)} "
            f"(expected {_names(sorted(pcrs))})"
        )
    values = b"".join(pcrs[pcr] for pcr in attest.selection)
    if hashlib.sha256(values).digest() != attest.digest:
        raise VerificationError(
            "the PCR values are not those that the TPM signed"
        )


def _names(pcrs: Iterable[int]) -> str:
    return ", ".join(map(str, pcrs)) or "none"


def subject_public_key_info(point: bytes) -> bytes:
    """Return the DER form of a public key (x and y, 64 bytes), RFC 5480."""
    if len(point) != POINT_SIZE:
        raise InvalidInput(
            f"a public key of {len(point)} bytes (expected {POINT_SIZE})"
        )
    return _KEY_INFO + point


def ecdsa_der(signature: bytes) -> bytes:
    """Return the DER form of a signature (r and s, 64 bytes), RFC 3279."""
    if len(signature) != SIGNATURE_SIZE:
        raise InvalidInput(
            f"a signature of {len(signature)} bytes (expected {SIGNATURE_SIZE})"
        )
    body = b""
    for half in (signature[:32], signature[32:]):
        number = int.from_bytes(half, "big")
        # one more bit, as DER's numbers have a sign
        content = number.to_bytes(number.bit_length() // 8 + 1, "big")
        body += bytes([2, len(content)]) + content
    return bytes([0x30, len(body)]) + body
