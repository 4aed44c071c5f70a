"""The PC's RAM from SMBIOS: summed where all is told, else unknown."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe.client import smbios

ARRAY, FLASH = 0x1000, 0x1001
END = bytes([127, 4, 0, 0]) + b"\0\0"


def structure(kind: int, handle: int, body: bytes, text: bytes = b"") -> bytes:
    head = struct.pack("<BBH", kind, 4 + len(body), handle)
    return head + body + (text + b"\0\0" if text else b"\0\0")


def array(handle: int = ARRAY, use: int = 3) -> bytes:
    return structure(16, handle, bytes([3, use, 3]) + b"\0" * 8)


def device(size: int, owner: int = ARRAY, extended: int | None = None) -> bytes:
    body = struct.pack("<HHHHH", owner, 0xFFFE, 64, 64, size)
    if extended is not None:
        body += b"\0" * 14 + struct.pack("<I", extended)
    return structure(17, 0x1100, body, b"DIMM 0\0Maker")


BIOS = structure(0, 0, b"\1\2\0\0", b"Vendor\0" + b"1.0")


@pytest.mark.parametrize(
    ("tables", "mib"),
    [
        ([device(8192), device(8192)], 16384),
        ([device(8192), device(0)], 8192),
        ([device(0x7FFF, extended=65536)], 65536),
        ([device(0x8000 | 2048)], 2),
        ([device(0xFFFF)], None),
        ([device(8192), device(0xFFFF)], None),
        ([device(0)], None),
        ([], None),
        ([device(16, FLASH), device(4096)], 4096),
        ([device(4096, 0x2000)], None),
        ([END, device(4096)], None),
    ],
)
def test_the_devices_of_the_system_memory_are_summed(
    tables: list[bytes], mib: int | None
) -> None:
    flash = array(FLASH, use=5)
    table = b"".join([BIOS, array(), flash, *tables, END])
    assert smbios.parse(table) == mib


def test_a_device_may_stand_before_its_array() -> None:
    assert smbios.parse(device(4096) + array() + END) == 4096


def test_more_ram_than_there_can_be_is_unknown() -> None:
    much = device(0x7FFF, extended=0x7FFFFFFF)
    assert smbios.parse(array() + much + END) is None


@given(st.binary(max_size=400))
def test_any_table_ends(untrusted: bytes) -> None:
    found = smbios.parse(untrusted)
    assert found is None or 0 < found <= 1 << 30


@given(st.data())
def test_a_damaged_table_is_never_more_than_a_wrong_number(
    data: st.DataObject,
) -> None:
    table = bytearray(BIOS + array() + device(8192) + device(8192) + END)
    at = data.draw(st.integers(0, len(table) - 1))
    table[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(table)))
    found = smbios.parse(bytes(table[:cut]))
    assert found is None or 0 < found <= 1 << 30


def test_the_table_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "DMI"
    assert smbios.pc_mib(path) is None
    path.write_bytes(array() + device(2048) + END)
    assert smbios.pc_mib(path) == 2048
    path.write_bytes(b"\0" * (2 << 20))
    assert smbios.pc_mib(path) is None
