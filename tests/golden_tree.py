"""A small golden tree whose dracut is a stand-in that can be run by chroot."""

import gzip
import os
import re
import shutil
from pathlib import Path

from sys_pxe import run

VERSION = "6.12.1"
# stands for dracut: it writes what it was given and what it finds, and leaves
# the folder of what it packs, as --keep asks for
DRACUT = """#!/bin/sh
for last in "$@"; do :; done
{
    echo "arguments $*"
    for path in /usr/lib/sys-pxe/*.pem /usr/lib/sys-pxe/sys_pxe/*.py \\
        /usr/lib/sys-pxe/sys_pxe/client/*.py \\
        /usr/lib/dracut/modules.d/90sys-pxe/* /dev/null /proc/self/status; do
        [ -e "$path" ] && echo "sees $path"
    done
    while read -r line; do echo "$line"; done < /usr/lib/sys-pxe/key.pem
} > "$last"
: > /usr/lib/sys-pxe/complete
packed=/var/tmp/dracut.Ab12Cd/initramfs
mkdir -p $packed/etc/modprobe.d
for path in /etc/modprobe.d/*; do
    [ -e "$path" ] || continue
    while read -r line; do echo "$line"; done < "$path" > "$packed$path"
done
echo changed > /etc/hostname
"""


def make(root: Path) -> Path:
    """Make a tree with a shell, its libraries, and a stand-in for dracut."""
    programs = ("/bin/sh", "/bin/mkdir")
    listed = run.run(["ldd", *programs]).stdout.decode()
    libraries = re.findall(r"(/\S+) \(0x", listed)
    for name in (*programs, *dict.fromkeys(libraries)):
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(name), target)
    for name in ("dev", "proc", "sys", "run", "tmp", "var/tmp", "etc"):
        (root / name).mkdir(parents=True)
    put(root, "etc/hostname", b"golden\n")
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    dracut(root, DRACUT)
    return root


def put(root: Path, name: str, content: bytes) -> None:
    """Write a file of a tree."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def dracut(root: Path, text: str) -> None:
    """Give a tree another stand-in for dracut."""
    path = root / "usr/bin/dracut"
    path.write_text(text)
    path.chmod(0o755)


def bootable(root: Path) -> Path:
    """Add a Xen, a kernel and its modules to a tree."""
    put(root, f"boot/vmlinuz-{VERSION}", b"kernel")
    put(root, "boot/xen-4.19.gz", gzip.compress(b"xen"))
    put(root, f"lib/modules/{VERSION}/modules.dep", b"")
    return root


def versions(root: Path) -> Path:
    """Make a tree with two kernels and two Xens; the higher ones are newer."""
    for version in ("6.12.9", "6.12.10"):
        put(root, f"boot/vmlinuz-{version}", b"kernel " + version.encode())
        put(root, f"lib/modules/{version}/modules.dep", b"x\n")
    for version in ("4.9", "4.19"):
        packed = gzip.compress(b"xen " + version.encode())
        put(root, f"boot/xen-{version}.gz", packed)
    (root / "boot/xen.gz").symlink_to("xen-4.9.gz")
    (root / "boot/vmlinuz-9").symlink_to("vmlinuz-6.12.9")
    put(root, "etc/hostname", b"dom0\n")
    put(root, "usr/bin/true", b"x")
    return root
