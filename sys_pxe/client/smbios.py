"""How much RAM the PC has, by its SMBIOS tables (DMTF DSP0134).

dom0's kernel sees only what Xen gives it; the firmware's tables tell of the
whole PC: what is plugged in, also what firmware and graphics keep of it.
"""

from collections.abc import Iterator
from pathlib import Path

from sys_pxe import files, names
from sys_pxe.errors import SysPxeError

TABLE = Path("/sys/firmware/dmi/tables/DMI")
_TABLE_MAX = 1 << 20
# types of structures, and the use of an array: 7.17, 7.18, 7.45
_ARRAY, _DEVICE, _END = 16, 17, 127
_SYSTEM_MEMORY = 3
_UNKNOWN, _EXTENDED = 0xFFFF, 0x7FFF


def _structures(untrusted: bytes) -> Iterator[bytes]:
    """Yield the formatted part of each structure (6.1.2), while all is well."""
    at = 0
    while at + 4 <= len(untrusted):
        length = untrusted[at + 1]
        end = untrusted.find(b"\0\0", at + length)
        if length < 4 or end < 0:
            return
        yield untrusted[at : at + length]
        if untrusted[at] == _END:
            return
        at = end + 2


def _word(part: bytes, at: int, size: int = 2) -> int:
    """Return a number of a structure; 0 where an older one has none."""
    return int.from_bytes(part[at : at + size], "little")


def _device_mib(part: bytes) -> int | None:
    """Return the size of a memory device, 0 for an empty slot (7.18)."""
    size = _word(part, 0x0C)
    if size == _UNKNOWN:
        return None
    if size == _EXTENDED:
        return _word(part, 0x1C, 4) & 0x7FFFFFFF
    if size & 0x8000:
        return (size & 0x7FFF) // 1024
    return size


def parse(untrusted: bytes) -> int | None:
    """Return the RAM in MiB, or None if the tables do not tell all of it."""
    arrays: set[int] = set()
    sizes: list[int | None] = []
    parts = list(_structures(untrusted))
    for part in parts:
        if part[0] == _ARRAY and part[5:6] == bytes([_SYSTEM_MEMORY]):
            arrays.add(_word(part, 2))
    for part in parts:
        if part[0] == _DEVICE and _word(part, 4) in arrays:
            sizes.append(_device_mib(part))
    known = [size for size in sizes if size is not None]
    total = sum(known)
    if len(known) < len(sizes) or not 0 < total <= names.REPORTED_RAM_MAX_MIB:
        return None
    return total


def pc_mib(table: Path = TABLE) -> int | None:
    """Return the PC's RAM in MiB, or None where the firmware does not say."""
    try:
        return parse(files.read_capped(table, _TABLE_MAX))
    except (OSError, SysPxeError):
        return None
