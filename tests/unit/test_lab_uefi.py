"""OVMF's file of variables, with keys in it."""

import struct
from pathlib import Path
from uuid import UUID

import pytest

from sys_pxe import files
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import uefi
from sys_pxe.lab.uefi import Variable

STORE = bytes.fromhex("782cf3aa7b949a43a1802e144ec37792")
VENDOR = UUID("11223344-5566-7788-99aa-bbccddeeff00")


def flash(size: int = 4096) -> bytes:
    head = bytes(48) + struct.pack("<H", 72) + bytes(22)
    store = STORE + struct.pack("<IBB6x", size - 72, 0x5A, 0xFE)
    return (head + store).ljust(size, b"\xff")


def test_variables_follow_one_another_on_a_multiple_of_four() -> None:
    one = Variable("ab", VENDOR, 3, b"x")
    first = uefi.with_variables(flash(), (one,), 0)
    assert first[:100] == flash()[:100]
    assert first[100:104].hex() == "aa553f00"
    assert first[144:160] == VENDOR.bytes_le
    assert first[160:167] == b"a\0b\0\0\0x"
    assert len(first) == 4096 and set(first[167:]) == {0xFF}
    again = uefi.with_variables(first, (one,), 0)
    assert again[168:228] == first[100:160]
    assert uefi.with_variables(flash(), (one, one), 0) == again


def test_what_is_no_such_file_or_too_small_is_refused() -> None:
    one = Variable("PK", VENDOR, 0x27, bytes(5000))
    with pytest.raises(SysPxeError, match="do not fit"):
        uefi.with_variables(flash(), (one,), 0)
    with pytest.raises(SysPxeError, match="no file of OVMF"):
        uefi.with_variables(bytes(4096), (), 0)


def test_secure_boot_is_on_where_there_are_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(tmp_path / "empty", flash())
    for name in ("CODE", "SECURE_CODE", "EMPTY_VARIABLES"):
        files.write(tmp_path / name, flash())
        monkeypatch.setattr(uefi, name, tmp_path / name)
    keys = {"PK": b"p", "KEK": b"k", "db": b"d"}
    made = uefi.secure(tmp_path / "vars", keys, 0)
    assert any(str(tmp_path / "SECURE_CODE") in word for word in made)
    content = (tmp_path / "vars").read_bytes()
    for name in (*keys, "SecureBootEnable", "CustomMode"):
        assert f"{name}\0".encode("utf-16-le") in content
    made = uefi.plain(tmp_path / "vars")
    assert "secure=on" not in " ".join(made)
    assert (tmp_path / "vars").read_bytes() == flash()


def test_missing_firmware_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uefi, "CODE", tmp_path / "nothing")
    with pytest.raises(SysPxeError, match="is not there") as caught:
        uefi.plain(tmp_path / "vars")
    assert "ovmf" in caught.value.hint
