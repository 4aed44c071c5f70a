"""The identity of an initramfs: a tiny cpio archive at its end.

The kernel takes several archives one after another, compressed or not; an
uncompressed one must begin at a multiple of 4 bytes
(Documentation/driver-api/early-userspace/buffer-format.rst). So the release's
name is known to the initramfs without packing it again. Pure.
"""

from sys_pxe.trust import Pinned, StickIdentity

PLACE = "usr/lib/sys-pxe/identity"
_FOLDER_MODE = 0o040755
_FILE_MODE = 0o100644
_ALIGNMENT = 512
_TRAILER = "TRAILER!!!"


def text(pinned: Pinned) -> bytes:
    """Return what the identity file says."""
    if isinstance(pinned, StickIdentity):
        lines = f"xen {pinned.xen}\nkernel {pinned.kernel}\n"
    else:
        lines = f"release {pinned.release}\nserial {pinned.serial}\n"
    return lines.encode("ascii")


def archive(pinned: Pinned) -> bytes:
    """Return the cpio archive (newc) that holds the identity file."""
    parts = PLACE.split("/")
    entries = [
        _entry(number, "/".join(parts[:number]), _FOLDER_MODE, b"", 2)
        for number in range(1, len(parts))
    ]
    content = text(pinned)
    entries.append(_entry(len(parts), PLACE, _FILE_MODE, content, 1))
    entries.append(_entry(0, _TRAILER, 0, b"", 1))
    return padded(b"".join(entries), _ALIGNMENT)


def appended(size: int, pinned: Pinned) -> bytes:
    """Return what to put behind an initramfs of ``size`` bytes.

    Of two identities the later one counts: the kernel writes it over the first.
    """
    return bytes(-size % 4) + archive(pinned)


def padded(content: bytes, alignment: int) -> bytes:
    """Return the content with zeros up to a multiple of ``alignment``."""
    return content + bytes(-len(content) % alignment)


def _entry(
    inode: int, name: str, mode: int, content: bytes, links: int
) -> bytes:
    """Return one newc entry; owner, times and devices are zero."""
    path = name.encode("ascii") + b"\0"
    numbers = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0)
    fields = "".join(f"{n:08X}" for n in (*numbers, len(path), 0))
    head = b"070701" + fields.encode("ascii") + path
    return padded(head, 4) + padded(content, 4)
