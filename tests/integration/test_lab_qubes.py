"""The images of the lab's qubes, made by mke2fs and cpio, read by others."""

from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import disks, qubes


def test_an_image_holds_its_content_and_takes_little_room(
    tmp_path: Path,
) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "owner").write_text("work\n")
    image = tmp_path / "private.img"
    qubes.ext4(image, 256, content, 7)
    read = run.run(["debugfs", "-R", "cat /owner", str(image)])
    assert read.stdout == b"work\n"
    assert image.stat().st_size == 256 << 20
    assert image.stat().st_blocks * 512 < 8 << 20
    # what dom0 must not follow, in the block that ext4 leaves alone
    with image.open("rb") as stream:
        assert stream.read(512) == disks.partition_table(127, 128)
    # nothing is left for a guest's kernel to fill with zeros
    shown = run.run(["dumpe2fs", str(image)]).stdout
    assert b"ITABLE_ZEROED" in shown


def test_an_image_that_is_too_small_for_its_content_is_an_error(
    tmp_path: Path,
) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "big").write_bytes(bytes(range(256)) * (64 << 10))
    with pytest.raises(SysPxeError, match="mke2fs"):
        qubes.ext4(tmp_path / "small.img", 8, content, 7)


def test_the_initramfs_has_init_and_modules_in_order(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    names = ("crc32c_generic", "ext4", "xen-blkfront")
    for name in names:
        (modules / "kernel").mkdir(parents=True, exist_ok=True)
        (modules / f"kernel/{name}.ko").write_bytes(name.encode())
    table = "".join(f"kernel/{name}.ko:\n" for name in names)
    (modules / "modules.dep").write_text(table)
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"\x7fELF")
    archive = qubes.initramfs(busybox, modules)
    listed = run.run(["cpio", "--quiet", "-t"], stdin=archive).stdout.split()
    assert {b"init", b"bin/sh", b"bin/busybox", b"dev"} <= set(listed)
    order = run.run(
        ["cpio", "--quiet", "-i", "--to-stdout", "modules/order"],
        stdin=archive,
    ).stdout.decode()
    assert order.splitlines() == [f"{name}.ko" for name in names]
