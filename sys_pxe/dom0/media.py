"""The boot stick: one image that BIOS and UEFI start from a USB stick or CD.

An ISO 9660 file system with GRUB for BIOS, which starts Xen by Multiboot2, and
behind it a partition with a FAT file system for UEFI, which holds a unified
image. Both have the same kernel, initramfs and options. The initramfs carries
the digests of Xen and kernel in place of a release's name, so that the stick
starts every release with that Xen and kernel (``trust.check_stick``).

The parts come from a release in dom0, which is compared with its manifest
first. xorriso, mtools and GRUB's own files do the rest: a PC's boot code is
nothing to write anew.
"""

import hashlib
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from sys_pxe import files, plan, run
from sys_pxe.dom0 import artifacts, bootfiles, securekeys, unified
from sys_pxe.dom0.progress import MIB, Reporter
from sys_pxe.errors import SysPxeError
from sys_pxe.manifest import BOOT_ROLES, Manifest, Role
from sys_pxe.plan import Settings
from sys_pxe.trust import StickIdentity

GRUB = Path("/usr/lib/grub/i386-pc")
# Debian's name and Fedora's
MKIMAGE = ("grub-mkimage", "grub2-mkimage")
# what the firmware of a PC starts from a medium, UEFI specification 3.5.1.1
UEFI_PATH = "EFI/BOOT/BOOTX64.EFI"
_MODULES = (
    *("biosdisk", "iso9660", "part_msdos", "normal", "multiboot2"),
    *("echo", "sleep", "reboot"),
)
LABEL = "SYS-PXE"
# room for the tables of the FAT file system, in bytes
_FAT_ROOM = 2 << 20
_TIMEOUT = 300
_TOOLS = (
    "install the packages xorriso, mtools, grub2-tools and grub2-pc-modules "
    "(Debian: xorriso, mtools, grub-common and grub-pc-bin)"
)


@dataclass(frozen=True)
class Order:
    """What a stick is made of; ``folder`` holds the release's artifacts."""

    release: Manifest
    folder: Path
    settings: Settings
    server: IPv4Address

    @property
    def stick_settings(self) -> Settings:
        """The profile's settings, with the server among the options.

        A loader from the network would say it; a stick has none.
        """
        word = f"syspxe.server=http://{self.server}"
        options = (*self.settings.kernel_options, word)
        return replace(self.settings, kernel_options=options)


@dataclass(frozen=True)
class Made:
    """What came out: bytes, SHA-256, and whether UEFI starts it, signed."""

    size: int
    sha256: str
    uefi: bool
    signed: bool


def build(
    order: Order,
    target: Path,
    work: Path,
    keys: securekeys.Keys | None,
    reporter: Reporter,
) -> Made:
    """Write the image of a stick to ``target``; ``work`` is an empty folder.

    Raises SysPxeError where a program is missing or fails, InvalidInput for
    artifacts that are not what the manifest says.
    """
    mkimage = check_tools()
    if order.release.images:
        unified.check_tools(keys)
    reporter.step(f"1/4 parts of release {order.release.release}")
    tree = files.make_folder(work / "tree")
    _copy_parts(order, tree)
    image = None
    if order.release.images:
        reporter.step("2/4 image for UEFI")
        image = _unified(order, tree, work, keys)
    else:
        reporter.step("2/4 no image for UEFI: the release has none")
    reporter.step("3/4 GRUB for BIOS")
    _grub(order, tree, mkimage)
    reporter.step("4/4 file systems")
    made = work / "stick.img"
    run.run(
        arguments(order, tree, image and _fat(order, image, work), made),
        timeout=_TIMEOUT,
        env=_reproducible(order),
        hint=_TOOLS,
    )
    files.copy(made, target)
    size = made.stat().st_size
    reporter.step(f"    {size / MIB:.1f} MiB")
    with open(made, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    uefi = image is not None
    return Made(size, digest, uefi, uefi and keys is not None)


def check_tools() -> str:
    """Return GRUB's image maker; SysPxeError when something is missing."""
    run.run(["xorriso", "-version"], hint=_TOOLS)
    run.run(["mformat", "--version"], hint=_TOOLS)
    if not (GRUB / "boot_hybrid.img").is_file():
        raise SysPxeError(f"{GRUB} does not hold GRUB for BIOS", _TOOLS)
    for name in MKIMAGE:
        try:
            run.run([name, "--version"])
        except SysPxeError:
            continue
        return name
    raise SysPxeError(f"none of {', '.join(MKIMAGE)} is installed", _TOOLS)


def grub_cfg(order: Order) -> bytes:
    """Return GRUB's script: start Xen, or say what a person can do.

    An option in a site holds no character that has a meaning in it.
    """
    settings = order.stick_settings
    xen = " ".join(settings.all_xen_options)
    kernel = " ".join(settings.all_kernel_options)
    loads = (
        f"multiboot2 /boot/xen {xen}",
        f"module2 /boot/kernel {kernel}",
        "module2 /boot/initramfs",
    )
    lines = [
        "echo 'sys-pxe: loading Xen, the kernel and the initramfs from the "
        "stick'",
        # GRUB goes on after a command that fails
        *(f"if {load}; then" for load in loads),
        "echo 'sys-pxe: starting Xen'",
        "boot",
        *("fi" for _ in loads),
        "echo 'sys-pxe: this boot stick could not be read, or is not whole.'",
        "echo 'Next: write it anew on the server PC; this PC restarts in 60 "
        "seconds.'",
        "sleep 60",
        "reboot",
    ]
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def arguments(
    order: Order, tree: Path, fat: Path | None, target: Path
) -> list[str]:
    """Return the call of xorriso: for BIOS and UEFI, as a CD and as a stick.

    ``fat`` is the file system for UEFI. The layout is grub-mkrescue's: xorriso
    writes a partition table and GRUB's boot code before the ISO 9660.
    """
    argv = [
        *("xorriso", "-as", "mkisofs", "-quiet", "-o", str(target)),
        *("-V", LABEL, "-R", "-b", "boot/grub/eltorito.img"),
        *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"),
        "--grub2-boot-info",
        *("--grub2-mbr", str(GRUB / "boot_hybrid.img")),
        *("-partition_offset", "16"),
        *("--set_all_file_dates", f"={order.release.created}"),
    ]
    if fat is not None:
        argv += [
            *("-append_partition", "2", "0xef", str(fat)),
            *("-eltorito-alt-boot", "-e"),
            *("--interval:appended_partition_2:all::", "-no-emul-boot"),
        ]
    return [*argv, str(tree)]


def _copy_parts(order: Order, tree: Path) -> None:
    boot = files.make_folder(tree / "boot")
    xen, kernel, initramfs = (order.release.find(role) for role in BOOT_ROLES)
    for one in (xen, kernel):
        files.copy(artifacts.checked(order.folder, one), boot / one.name)
    bootfiles.add_identity(
        artifacts.checked(order.folder, initramfs),
        boot / initramfs.name,
        StickIdentity(xen.sha256, kernel.sha256),
    )


def _unified(
    order: Order, tree: Path, work: Path, keys: securekeys.Keys | None
) -> Path:
    """Return the EFI file: the release's Xen, with the stick's parts."""
    source = order.release.of_image(order.release.images[0])
    xen = work / "bare.efi"
    unified.take_apart(artifacts.checked(order.folder, source), xen, work)
    parts = unified.Parts(
        xen, tree / "boot" / Role.KERNEL, tree / "boot" / Role.INITRAMFS
    )
    made = work / "plain.efi"
    unified.build(parts, plan.xen_cfg(order.stick_settings), made, work)
    if keys is None:
        return made
    signed = work / "signed.efi"
    securekeys.sign_image(made, signed, keys)
    return signed


def _fat(order: Order, image: Path, work: Path) -> Path:
    target = work / "uefi.img"
    kib = (image.stat().st_size + _FAT_ROOM) // 1024
    env = _reproducible(order)
    for argv in (
        ["mformat", "-C", "-i", str(target), "-T", str(2 * kib), "-h", "2",
         "-s", "32", "-N", order.release.find(Role.KERNEL).sha256[:8], "::"],
        ["mmd", "-i", str(target), "::/EFI", "::/EFI/BOOT"],
        ["mcopy", "-i", str(target), str(image), f"::/{UEFI_PATH}"],
    ):  # fmt: skip
        run.run(argv, timeout=_TIMEOUT, env=env, hint=_TOOLS)
    return target


def _grub(order: Order, tree: Path, mkimage: str) -> None:
    folder = files.make_folder(tree / "boot/grub")
    files.write(folder / "grub.cfg", grub_cfg(order))
    # without a device in the prefix GRUB stays on the one that it came from: a
    # search could find another disk that has the same label
    run.run(
        [mkimage, "-O", "i386-pc-eltorito", "-d", str(GRUB),
         "-p", "/boot/grub", "-o", str(folder / "eltorito.img"), *_MODULES],
        timeout=_TIMEOUT,
        hint=_TOOLS,
    )  # fmt: skip


def _reproducible(order: Order) -> dict[str, str]:
    """Return the environment in which the tools write the release's time."""
    return {"SOURCE_DATE_EPOCH": str(order.release.created)}
