"""Disks that a diskless machine must leave alone: decoys and their digests."""

import hashlib
import struct
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.errors import InvalidInput

MIB = 1 << 20
DISK_MIB = 64
GROUP_MIB = 24
_TABLE_MIB = 1
_PARTITION_MIN = 8
_SECTORS = MIB // 512
_LINUX, _SWAP = 0x83, 0x82
# "see the sector numbers instead"
_NO_CHS = b"\xfe\xff\xff"
_MARK = b"a decoy of the sys-pxe lab: nothing may change it\n"


def partition_table(data: int, swap: int) -> bytes:
    """Return a master boot record: a Linux and a swap partition, in MiB.

    UEFI specification 2.10, section 5.2.1: four entries of 16 bytes at 446,
    of which boot flag, first CHS, type, last CHS, first sector, sectors; then
    the signature 55 AA.
    """
    first = _TABLE_MIB
    entries = b""
    for kind, size in ((_LINUX, data), (_SWAP, swap)):
        entries += struct.pack(
            "<B3sB3sII", 0, _NO_CHS, kind, _NO_CHS,
            first * _SECTORS, size * _SECTORS,
        )  # fmt: skip
        first += size
    return entries.rjust(446 + 32, b"\0").ljust(510, b"\0") + b"\x55\xaa"


def decoy_disk(path: Path, size: int = DISK_MIB) -> Path:
    """Make a raw image of ``size`` MiB that a careless system would use.

    It has an ext4 file system with a file in it, and a swap partition with a
    signature, which systemd takes when it sees it. No loop device is needed.
    """
    data = size // 2 - _TABLE_MIB
    swap = size - size // 2
    if data < _PARTITION_MIN:
        raise InvalidInput(f"a decoy disk of {size} MiB (expected 20 or more)")
    with files.scratch("sys-pxe-decoy-") as folder:
        content = files.make_folder(folder / "content")
        files.write(content / "README", _MARK)
        ext4 = _empty(folder / "ext4", data)
        run.run(["mkfs.ext4", "-q", "-d", str(content), str(ext4)])
        swapped = _empty(folder / "swap", swap)
        run.run(["mkswap", "--label", "decoy", str(swapped)])
        table = partition_table(data, swap).ljust(_TABLE_MIB * MIB, b"\0")
        with files.replacing(path) as image:
            for part in (table, ext4.read_bytes(), swapped.read_bytes()):
                image.write(part)
    return path


def volume_group(path: Path, name: str, size: int = GROUP_MIB) -> Path:
    """Make a raw image of ``size`` MiB that is a volume group of LVM.

    LVM wants a block device, so a loop device is taken for a moment: needs
    root. No other device of this machine is looked at.
    """
    files.remove(path)
    _empty(path, size)
    found = run.run(["losetup", "--find", "--show", str(path)])
    device = found.stdout.decode().strip()
    try:
        with files.scratch("sys-pxe-lvm-") as folder:
            # lvm.conf(5): the system directory, with its lock and its files
            env = {"LVM_SYSTEM_DIR": str(folder)}
            for argv in (["pvcreate", "-y"], ["vgcreate", name]):
                run.run([*argv, "--devices", device, device], env=env)
    finally:
        run.run(["losetup", "--detach", device])
    return path


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex, to see whether it was changed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _empty(path: Path, size: int) -> Path:
    """Make an empty file of ``size`` MiB."""
    run.run(["truncate", "-s", f"{size}M", str(path)])
    return path
