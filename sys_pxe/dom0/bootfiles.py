"""The boot files of a golden image: Xen, the kernel, the netboot initramfs."""

import gzip
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files
from sys_pxe.dom0 import identity
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.trust import Pinned

XEN_MAX = 64 << 20
_BUFFER = 1 << 20


@dataclass(frozen=True)
class BootSources:
    """The files of a tree that clients boot, and the kernel's version."""

    xen: Path
    kernel: Path
    version: str


def find(tree: Path) -> BootSources:
    """Return the newest Xen and kernel of a tree. Raises SysPxeError."""
    boot = tree / "boot"
    kernels = {
        path.name.removeprefix("vmlinuz-"): path
        for path in boot.glob("vmlinuz-[0-9]*")
        if path.is_file() and not path.is_symlink()
    }
    if not kernels:
        raise SysPxeError(
            f"{boot} holds no vmlinuz-VERSION",
            "install a kernel in the golden image",
        )
    version = max(kernels, key=version_key)
    if not (tree / "lib/modules" / version / "modules.dep").is_file():
        raise SysPxeError(
            f"{tree}/lib/modules has no modules.dep of kernel {version}",
            f"install its modules and call 'depmod {version}' in the golden "
            "image, or remove that kernel from /boot",
        )
    xens = [
        path
        for path in boot.glob("xen*.gz")
        if path.is_file() and not path.is_symlink()
    ]
    if not xens:
        raise SysPxeError(
            f"{boot} holds no xen-VERSION.gz",
            "install Xen in the golden image",
        )
    xen = max(xens, key=lambda path: version_key(path.name))
    return BootSources(xen, kernels[version], version)


def version_key(version: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts 6.12.9 before 6.12.10."""
    return [
        (1, int(part), "") if part.isdecimal() else (0, 0, part)
        for part in re.findall(r"[0-9]+|[^0-9]+", version)
    ]


def unpack_xen(source: Path, target: Path) -> None:
    """Write Xen uncompressed: iPXE's multiboot does not unpack it."""
    try:
        with gzip.open(source, "rb") as stream:
            content = stream.read(XEN_MAX + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SysPxeError(
            f"{source} is not a whole gzip file ({error})",
            "install Xen in the golden image again",
        ) from None
    if len(content) > XEN_MAX:
        raise InvalidInput(f"{source}: more than {XEN_MAX} bytes unpacked")
    files.write(target, content)


def add_identity(source: Path, target: Path, pinned: Pinned) -> None:
    """Write an initramfs with what it belongs to at its end."""
    with open(source, "rb") as stream, files.replacing(target) as new:
        shutil.copyfileobj(stream, new, _BUFFER)
        new.write(identity.appended(new.tell(), pinned))
