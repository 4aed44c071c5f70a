"""A golden image with the volumes of qubes as files, opened for a test."""

import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from sys_pxe.dom0 import volumes
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.volumes import Item, Volume

MIB = 1 << 20


def golden(root: Path) -> Path:
    """Make a golden image with file-reflink volumes and a kernel."""
    for name, size in (
        ("vm-templates/debian-13/root.img", 3 * MIB),
        ("vm-templates/debian-13/private.img", 2 * MIB),
        ("appvms/work/private.img", 2 * MIB),
        ("vm-kernels/6.12.1/vmlinuz", 1000),
        ("vm-kernels/6.12.1/initramfs", 2000),
        ("vm-kernels/6.12.1/modules.img", MIB),
    ):
        put(root, name, size)
    return root


def put(root: Path, name: str, size: int, text: str = "committed") -> Path:
    path = root / volumes.PLACE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    os.truncate(path, size)
    return path


def reflink(
    target: str = "appvms/work/private.img",
    size: int = 2 * MIB,
    driver: str = "file-reflink",
    place: str = "",
) -> Volume:
    return Volume(
        qube=target.split("/")[1],
        name=Path(target).stem,
        driver=driver,
        place=place or f"var/lib/qubes/{target}",
        size=size,
        target=target,
    )


def kernel() -> Volume:
    place, target = "var/lib/qubes/vm-kernels/6.12.1", "vm-kernels/6.12.1"
    return Volume("work", "kernel", "linux-kernel", place, 0, target)


def opened(
    wanted: list[Volume],
    tree: Path,
    look: Callable[[list[Item]], None] = lambda _: None,
) -> str:
    """Open volumes, look at the items, return what was reported."""
    stream = StringIO()
    with volumes.opened(wanted, tree, Reporter(stream)) as items:
        look(items)
    return stream.getvalue()
