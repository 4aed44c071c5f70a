"""The section table of a PE32+ file (an EFI application). Pure.

Layout: Microsoft's "PE Format", COFF header, optional header, section table.
Strict: what is not exactly an x86-64 EFI application is InvalidInput.
"""

import hashlib
import struct
from dataclasses import dataclass

from sys_pxe.errors import InvalidInput

# the headers of a file lie in its first bytes
HEAD = 64 << 10
SECTIONS_MAX = 96
_DOS = struct.Struct("<2s58xI")
_COFF = struct.Struct("<4sHHIIIHH")
_SECTION = struct.Struct("<8sIIIIIIHHI")
_X86_64, _PE32_PLUS, _EFI_APPLICATION = 0x8664, 0x20B, 10
# within the optional header: ImageBase, SectionAlignment, SizeOfImage,
# CheckSum, Subsystem, NumberOfRvaAndSizes, and the directory of certificates
_BASE, _ALIGNMENT, _IMAGE_SIZE, _SUBSYSTEM, _DIRECTORIES = 24, 32, 56, 68, 108
_CHECKSUM = 64
_CERTIFICATES = 112 + 4 * 8


@dataclass(frozen=True)
class Section:
    """A section: its place in memory (from the image's base) and in the file,
    in bytes; ``raw_size`` may be larger than ``size`` by padding."""

    name: str
    address: int
    size: int
    raw_offset: int
    raw_size: int


@dataclass(frozen=True)
class Image:
    """What a PE file says of itself. ``certificates`` is their size, in bytes:
    0 for a file without a signature."""

    base: int
    alignment: int
    image_size: int
    certificates: int
    sections: tuple[Section, ...]

    @property
    def end(self) -> int:
        """Where the last section ends in memory, from the base."""
        return max(s.address + s.size for s in self.sections)

    def find(self, name: str) -> Section | None:
        """Return the section of a name, or None."""
        return next((s for s in self.sections if s.name == name), None)


def parse(head: bytes, size: int, what: str) -> Image:
    """Return what the first bytes of a file of ``size`` bytes say.

    Raises InvalidInput; ``what`` names the file in it.
    """
    try:
        return _parse(head[:HEAD], size, what)
    except struct.error:
        raise InvalidInput(f"{what}: its PE headers are cut off") from None


def _parse(head: bytes, size: int, what: str) -> Image:
    magic, start = _DOS.unpack_from(head)
    if magic != b"MZ":
        raise InvalidInput(f"{what}: not an EFI file (no MZ at its start)")
    mark, machine, count, _, _, _, optional, _ = _COFF.unpack_from(head, start)
    if (mark, machine) != (b"PE\0\0", _X86_64):
        raise InvalidInput(f"{what}: not an EFI file for x86-64")
    at = start + _COFF.size
    (kind,) = struct.unpack_from("<H", head, at)
    (subsystem,) = struct.unpack_from("<H", head, at + _SUBSYSTEM)
    (directories,) = struct.unpack_from("<I", head, at + _DIRECTORIES)
    if (kind, subsystem) != (_PE32_PLUS, _EFI_APPLICATION) or optional < 152:
        raise InvalidInput(f"{what}: not an EFI application (PE32+)")
    (base,) = struct.unpack_from("<Q", head, at + _BASE)
    (alignment,) = struct.unpack_from("<I", head, at + _ALIGNMENT)
    (image_size,) = struct.unpack_from("<I", head, at + _IMAGE_SIZE)
    place, signed = struct.unpack_from("<II", head, at + _CERTIFICATES)
    if alignment == 0 or alignment & (alignment - 1):
        raise InvalidInput(f"{what}: {alignment} is not an alignment")
    if directories < 5 or (signed and place + signed > size):
        raise InvalidInput(f"{what}: its directory of certificates is wrong")
    if not 1 <= count <= SECTIONS_MAX:
        raise InvalidInput(
            f"{what}: {count} sections (expected 1 to {SECTIONS_MAX})"
        )
    table = at + optional
    found = tuple(
        _section(head, table + i * _SECTION.size, size, what)
        for i in range(count)
    )
    return Image(base, alignment, image_size, signed, found)


def authenticode(content: bytes, what: str) -> bytes:
    """Return the SHA-256 (32 bytes) by which firmware knows an EFI file.

    Microsoft's "Authenticode PE": all but the checksum, the place of the
    certificates and these themselves, so it is the same signed or not, up to
    zeros that a signature puts before itself. Raises InvalidInput.
    """
    parse(content, len(content), what)
    (start,) = struct.unpack_from("<I", content, 60)
    at = start + _COFF.size
    place, size = struct.unpack_from("<II", content, at + _CERTIFICATES)
    end = place if size else len(content)
    found = hashlib.sha256(content[: at + _CHECKSUM])
    found.update(content[at + _CHECKSUM + 4 : at + _CERTIFICATES])
    found.update(content[at + _CERTIFICATES + 8 : end])
    return found.digest()


def _section(head: bytes, at: int, file_size: int, what: str) -> Section:
    name, size, address, raw_size, raw_offset, *_ = _SECTION.unpack_from(
        head, at
    )
    text = name.rstrip(b"\0").decode("ascii", "replace")
    if raw_size and raw_offset + raw_size > file_size:
        raise InvalidInput(
            f"{what}: section {text[:8]!a} lies beyond the end of the file"
        )
    return Section(text, address, size, raw_offset, raw_size)
