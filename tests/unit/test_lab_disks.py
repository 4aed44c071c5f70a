import struct
from pathlib import Path

import pytest

from sys_pxe.errors import InvalidInput
from sys_pxe.lab.disks import MIB, decoy_disk, digest, partition_table


def entry(table: bytes, number: int) -> tuple[int, int, int]:
    start = 446 + 16 * number
    kind, first, count = struct.unpack_from("<4xB3xII", table, start)
    return kind, first, count


def test_the_partition_table_has_a_linux_and_a_swap_partition() -> None:
    table = partition_table(31, 32)
    assert len(table) == 512
    assert table[510:] == b"\x55\xaa"
    assert entry(table, 0) == (0x83, 2048, 31 * 2048)
    assert entry(table, 1) == (0x82, 32 * 2048, 32 * 2048)
    assert entry(table, 2) == (0, 0, 0)


def test_a_decoy_holds_a_file_system_and_a_swap_signature(
    tmp_path: Path,
) -> None:
    disk = decoy_disk(tmp_path / "decoy.img", 24)
    content = disk.read_bytes()
    assert len(content) == 24 * MIB
    # ext4's magic number, 0x38 into the superblock at 1024
    assert content[MIB + 1024 + 0x38 :][:2] == b"\x53\xef"
    # mkswap writes it at the end of the first page
    assert content[12 * MIB + 4096 - 10 :][:10] == b"SWAPSPACE2"
    assert [path.name for path in tmp_path.iterdir()] == ["decoy.img"]


def test_a_decoy_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected 20 or more"):
        decoy_disk(tmp_path / "decoy.img", 8)


def test_one_changed_byte_changes_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(100))
    before = digest(path)
    path.write_bytes(bytes(99) + b"\x01")
    assert digest(path) != before
    assert len(before) == 64
