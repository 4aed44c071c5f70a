"""Small EFI files for tests: real headers, a few bytes of content."""

import struct
from pathlib import Path

from sys_pxe import run


def efi_file(
    sections: dict[str, bytes],
    base: int = 0x140000000,
    alignment: int = 4096,
) -> bytes:
    """Return an x86-64 EFI application with these sections, page by page."""
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<I", optional, 16, 4096)
    struct.pack_into("<Q", optional, 24, base)
    struct.pack_into("<II", optional, 32, alignment, 512)
    pages = sum(-(-len(body) // 4096) for body in sections.values())
    struct.pack_into("<II", optional, 56, (1 + pages) * 4096, 1024)
    struct.pack_into("<H", optional, 68, 10)
    struct.pack_into("<I", optional, 108, 16)
    head = bytearray(1024)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 60, 64)
    coff = (b"PE\0\0", 0x8664, len(sections), 0, 0, 0, len(optional), 0x22)
    struct.pack_into("<4sHHIIIHH", head, 64, *coff)
    head[88 : 88 + len(optional)] = optional
    body = bytearray()
    for number, (name, content) in enumerate(sections.items()):
        raw = -(-len(content) // 512) * 512
        place = 4096 * (1 + len(body) // 4096)
        struct.pack_into(
            *("<8sIIIIIIHHI", head, 88 + len(optional) + number * 40),
            *(name.encode(), len(content), place, raw, 1024 + len(body)),
            *(0, 0, 0, 0, 0x60000020),
        )
        body += content.ljust(-(-len(content) // 4096) * 4096, b"\0")
    return bytes(head + body)


def linked_efi(target: Path) -> Path:
    """Make a small EFI file that binutils linked as Xen's own build does."""
    source = b".globl start\n.text\nstart: ret\n.data\n.quad start, 7\n"
    code = target.with_suffix(".o")
    run.run(["as", "-o", str(code), "-"], stdin=source)
    run.run(
        ["ld", "-mi386pep", "--subsystem=10", "--entry=start",
         "--image-base=0xffff82d040000000", "--section-alignment=0x200000",
         "-o", str(target), str(code)]
    )  # fmt: skip
    return target
