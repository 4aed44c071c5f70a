"""Boot sticks made by the real xorriso, GRUB, mtools, objcopy and sbsign."""

import hashlib
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sys_pxe import files, manifest, plan, run
from sys_pxe.dom0 import (
    artifacts,
    bootfiles,
    identity,
    media,
    securekeys,
    unified,
)
from sys_pxe.dom0.media import Made, Order
from sys_pxe.dom0.securekeys import Keys
from sys_pxe.dom0.state import State
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Image, Manifest, Role
from sys_pxe.trust import Identity, StickIdentity
from tests.dom0_world import DAY, NOW, QUIET
from tests.efi_files import linked_efi

SETTINGS = plan.Settings(
    *("office", "stable", (), 2048, 256, 1024, (), ()), storage_visible=False
)
SECTOR = 512


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    state = State(tmp_path_factory.mktemp("state"))
    securekeys.create(state, NOW)
    found = securekeys.present(state)
    assert found is not None
    return found


def an_order(
    folder: Path, keys: Keys | None = None, *, uefi: bool = True
) -> Order:
    """Return the order for a small release, as the builder leaves one."""
    files.make_folder(folder)
    xen_efi = linked_efi(folder / "xen.efi")
    files.write(folder / "xen", b"xen" * 9000)
    files.write(folder / "kernel", b"kernel" * 9000)
    # a whole archive, as cpio wants one to begin with
    files.write(folder / "plain", run.run(
        ["cpio", "-o", "--quiet", "-H", "newc"], stdin=b"xen\n",
        cwd=str(folder)).stdout)  # fmt: skip
    target = folder / "initramfs"
    bootfiles.add_identity(folder / "plain", target, Identity("r1", 3))
    images: tuple[Image, ...] = ()
    if uefi:
        wanted = unified.Wanted("office", plan.xen_cfg(SETTINGS))
        images = unified.build_all(
            [wanted], unified.Parts(xen_efi, folder / "kernel", target),
            folder, files.make_folder(folder / "work"), keys, QUIET,
        )  # fmt: skip
    named = [(role, role.value) for role in manifest.BOOT_ROLES]
    named += [(Role.UNIFIED, image.artifact) for image in images]
    made = Manifest("r1", 3, NOW, NOW + DAY, tuple(
        artifacts.describe(folder / name, role, whole=True)
        for role, name in named), images=images)  # fmt: skip
    return Order(made, folder, SETTINGS, IPv4Address("192.0.2.1"))


def build(
    order: Order, target: Path, work: Path, keys: Keys | None = None
) -> Made:
    return media.build(order, target, files.make_folder(work), keys, QUIET)


def partitions(image: Path) -> list[tuple[int, int, int]]:
    """Return type, start and size (bytes) of each partition of the MBR."""
    table = image.read_bytes()[446:510]
    found = []
    for at in range(0, 64, 16):
        one = table[at : at + 16]
        start, size = (
            int.from_bytes(one[i : i + 4], "little") * SECTOR for i in (8, 12)
        )
        if size:
            found.append((one[4], start, size))
    return found


def from_iso(image: Path, path: str, target: Path) -> bytes:
    run.run(
        ["xorriso", "-osirrox", "on", "-indev", str(image),
         "-extract", path, str(target)]
    )  # fmt: skip
    return target.read_bytes()


def from_fat(image: Path, target: Path) -> Path:
    _, start, _ = next(p for p in partitions(image) if p[0] == 0xEF)
    run.run(["mcopy", "-i", f"{image}@@{start}", f"::/{media.UEFI_PATH}",
             str(target)])  # fmt: skip
    return target


def section(path: Path, name: str) -> bytes:
    found = unified.read(path).find(name)
    assert found is not None
    content = path.read_bytes()
    return content[found.raw_offset : found.raw_offset + found.size]


def test_bios_and_uefi_get_the_same_parts_and_both_are_found(
    tmp_path: Path, keys: Keys
) -> None:
    order = an_order(tmp_path / "r1", keys)
    target = tmp_path / "stick.img"
    made = build(order, target, tmp_path / "work", keys)
    content = target.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert made == Made(len(content), digest, uefi=True, signed=True)
    # GRUB's boot code, and a partition that firmware takes for UEFI's
    assert content[510:512] == b"\x55\xaa"
    assert [kind for kind, *_ in partitions(target)] == [0xCD, 0xEF]
    report = run.run(["xorriso", "-indev", str(target), "-report_el_torito",
                      "plain"]).stdout.decode()  # fmt: skip
    assert "BIOS  y" in report and "UEFI  y" in report
    xen = from_iso(target, "/boot/xen", tmp_path / "xen")
    assert xen == (order.folder / "xen").read_bytes()
    script = from_iso(target, "/boot/grub/grub.cfg", tmp_path / "cfg")
    assert script == media.grub_cfg(order)
    run.run(["grub-script-check", str(tmp_path / "cfg")])
    initramfs = from_iso(target, "/boot/initramfs", tmp_path / "initramfs")
    find = order.release.find
    pinned = StickIdentity(find(Role.XEN).sha256, find(Role.KERNEL).sha256)
    # behind the release's own identity, which it replaces
    assert initramfs.startswith((order.folder / "initramfs").read_bytes())
    assert initramfs.endswith(identity.archive(pinned))

    image = from_fat(target, tmp_path / "BOOTX64.EFI")
    securekeys.check_signed(image, keys)
    assert section(image, ".ramdisk") == initramfs
    assert section(image, ".config") == plan.xen_cfg(order.stick_settings)
    assert b"syspxe.server=http://192.0.2.1" in section(image, ".config")
    # what the release's own image is made of is as it was
    before = order.folder / "unified-office"
    securekeys.check_signed(before, keys)
    assert section(image, ".text") == section(before, ".text")


def test_the_same_release_gives_the_same_stick(tmp_path: Path) -> None:
    order = an_order(tmp_path / "r1")
    marks = []
    for name in ("first", "second"):
        target = tmp_path / f"{name}.img"
        made = build(order, target, tmp_path / name)
        assert made.uefi and not made.signed
        marks.append(made.sha256)
        # the files that it is made of are newer the second time
        (order.folder / "xen").touch()
    assert marks[0] == marks[1]


def test_a_release_without_images_makes_a_stick_for_bios(
    tmp_path: Path,
) -> None:
    order = an_order(tmp_path / "r1", uefi=False)
    target = tmp_path / "stick.img"
    assert not build(order, target, tmp_path / "work").uefi
    assert [kind for kind, *_ in partitions(target)] == [0xCD]


@pytest.mark.parametrize(
    "name", ["xen", "kernel", "initramfs", "unified-office"]
)
def test_a_damaged_part_is_named_and_no_stick_is_written(
    tmp_path: Path, name: str
) -> None:
    order = an_order(tmp_path / "r1")
    content = bytearray((order.folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    files.write(order.folder / name, bytes(content))
    target = tmp_path / "stick.img"
    files.write(target, b"the stick of before")
    with pytest.raises(InvalidInput, match=f"{name} is not what the manifest"):
        build(order, target, tmp_path / "work")
    assert target.read_bytes() == b"the stick of before"


def test_an_image_that_is_no_efi_file_is_refused(tmp_path: Path) -> None:
    order = an_order(tmp_path / "r1")
    path = order.folder / "unified-office"
    files.write(path, b"MZ" + bytes(4000))
    changed = artifacts.describe(path, Role.UNIFIED, whole=True)
    rest = [a for a in order.release.artifacts if a.role is not Role.UNIFIED]
    release = replace(order.release, artifacts=(*rest, changed))
    with pytest.raises((InvalidInput, SysPxeError), match="EFI file"):
        build(replace(order, release=release), tmp_path / "x", tmp_path / "w")
