"""The section table of an EFI file, and what is none."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sys_pxe.dom0 import pe
from sys_pxe.errors import InvalidInput
from tests.efi_files import efi_file

BASE = 0xFFFF82D040000000
FILE = efi_file({".text": b"x" * 5000, ".data": b"y"}, BASE, 1 << 21)
OPTIONAL = 88


def parse(content: bytes) -> pe.Image:
    return pe.parse(content, len(content), "xen.efi")


def test_sections_have_their_place_in_memory_and_in_the_file() -> None:
    found = parse(FILE)
    assert (found.base, found.alignment) == (BASE, 1 << 21)
    assert (found.certificates, found.image_size) == (0, 4 * 4096)
    assert found.sections == (
        pe.Section(".text", 4096, 5000, 1024, 5120),
        pe.Section(".data", 12288, 1, 9216, 512),
    )
    assert found.end == 12289
    assert found.find(".data") == found.sections[1]
    assert found.find(".config") is None


def changed(form: str, at: int, *values: object) -> bytes:
    content = bytearray(FILE)
    struct.pack_into(form, content, at, *values)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut off"),
        (FILE[:100], "cut off"),
        (b"ZM" + FILE[2:], "no MZ"),
        (changed("<I", 60, 1 << 31), "cut off"),
        (changed("<H", 68, 0x14C), "not an EFI file for x86-64"),
        (changed("<H", OPTIONAL, 0x10B), "not an EFI application"),
        (changed("<H", OPTIONAL + 68, 3), "not an EFI application"),
        (changed("<H", 84, 100), "not an EFI application"),
        (changed("<I", OPTIONAL + 32, 3000), "3000 is not an alignment"),
        (changed("<I", OPTIONAL + 108, 4), "directory of certificates"),
        (changed("<II", OPTIONAL + 144, 9000, 9000), "of certificates"),
        (changed("<H", 70, 0), "0 sections"),
        (changed("<H", 70, 97), "97 sections"),
        (changed("<I", OPTIONAL + 240 + 16, 1 << 30), "beyond the end"),
        (FILE[:2000], "beyond the end"),
    ],
)
def test_what_is_no_efi_file_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse(content)


@settings(deadline=None)
@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_no_other_error(at: int, other: int) -> None:
    content = bytearray(FILE)
    content[at] ^= other
    try:
        parse(bytes(content))
    except InvalidInput:
        return
