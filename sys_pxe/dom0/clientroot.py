"""What the sealed root gets in addition: the watcher of pool and overlay."""

from pathlib import Path

from sys_pxe import files
from sys_pxe.dom0 import initramfs

# beside the code in the source tree and in the package alike
FILES = initramfs.PACKAGE / "client/files"
INSIDE = "usr/lib/sys-pxe"
LAUNCHER = "sys-pxe-watch"
UNIT = "sys-pxe-watch.service"
# not /etc: what an administrator puts there wins, systemd.unit(5)
UNITS = "usr/lib/systemd/system"
WANTS = f"{UNITS}/multi-user.target.wants"
# the parts of the package that run in the client
PARTS = ("", "client")


def install(root: Path) -> None:
    """Put the watcher and its unit into the root of a release.

    ``root`` must not hold links that lead out of it on these paths; it is the
    administrator's own golden image.
    """
    inside = root / INSIDE
    copy_program(inside)
    files.copy(FILES / LAUNCHER, inside / LAUNCHER, 0o755)
    files.make_folder(root / WANTS)
    files.copy(FILES / UNIT, root / UNITS / UNIT)
    files.link_to(root / WANTS / UNIT, f"../{UNIT}")


def copy_program(inside: Path) -> None:
    """Copy the shared modules and the client's into a folder."""
    for part in PARTS:
        folder = files.make_folder(inside / "sys_pxe" / part)
        for path in sorted((initramfs.PACKAGE / part).glob("*.py")):
            files.copy(path, folder / path.name)
