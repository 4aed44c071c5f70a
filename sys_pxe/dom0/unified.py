"""The unified image: Xen, its options, kernel and initramfs in one EFI file.

xen.efi finds its configuration, the kernel and the initramfs in sections of its
own file (docs/misc/efi.pandoc of Xen, "Unified Xen kernel image"), so one
signature covers all that runs before the client program. The sections are added
by objcopy of binutils, above the last one of xen.efi.

Qubes' own uki-generate is not used: it gives nothing that objcopy with explicit
addresses lacks, is not on other systems, and would be a second way to test.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files, manifest, names, plan, run
from sys_pxe.dom0 import bootfiles, pe, securekeys
from sys_pxe.dom0.progress import MIB, Reporter
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Image, Role
from sys_pxe.site import Site

# firmware checks the whole file before it starts: 0.1 s and more for each MB
SIZE_MAX = 100 * 1000 * 1000
PAGE = 4096
# where xen.efi looks for its configuration, the kernel, the initramfs
SECTIONS = (".config", ".kernel", ".ramdisk")
_TIMEOUT = 120
_NAME_MAX = names.NAME_MAX - len(f"{Role.UNIFIED}-")
# where packages put xen.efi: Debian's, Qubes' on the EFI partition, Xen's own
PLACES = (
    *("boot", "boot/efi/EFI/qubes", "usr/lib/efi", "usr/lib64/efi"),
    *("usr/lib/xen/boot", "boot/efi/EFI/fedora"),
)
_HINT = "install the package binutils"


@dataclass(frozen=True)
class Wanted:
    """An image that is to be built: its name and its configuration."""

    name: str
    configuration: bytes

    @property
    def image(self) -> Image:
        """The image's line of the manifest."""
        digest = hashlib.sha256(self.configuration).hexdigest()
        return Image(self.name, digest)


@dataclass(frozen=True)
class Parts:
    """The files that every image of a release is made of."""

    xen: Path
    kernel: Path
    initramfs: Path


def wanted(site: Site) -> tuple[Wanted, ...]:
    """Return the images that the profiles in use need, in the order of names.

    Profiles with the same options share one, which has the name of the first.
    Raises InvalidInput for a name that is too long for an image's, or for more
    than a manifest may hold.
    """
    found: dict[bytes, Wanted] = {}
    for name in site.used_profiles:
        configuration = plan.xen_cfg(plan.settings(site, name))
        if configuration in found:
            continue
        if len(name) > _NAME_MAX:
            raise InvalidInput(
                f"site.yaml: profiles.{name}: the name of a profile in use has "
                f"at most {_NAME_MAX} characters",
                "its image for UEFI has the profile's name",
            )
        found[configuration] = Wanted(name, configuration)
    if len(found) > manifest.IMAGES_MAX:
        raise InvalidInput(
            f"site.yaml: {len(found)} different choices of ram.dom0 and "
            f"options in profiles (expected at most {manifest.IMAGES_MAX})",
            "each makes an image for UEFI of its own: let profiles share them",
        )
    return tuple(found.values())


def find_xen(tree: Path) -> Path | None:
    """Return the newest xen-VERSION.efi of a tree, or None."""
    found = [
        path
        for place in PLACES
        for path in (tree / place).glob("xen-*.efi")
        if path.is_file() and not path.is_symlink()
    ]
    if not found:
        return None
    return max(found, key=lambda path: bootfiles.version_key(path.name))


def check_tools(keys: securekeys.Keys | None) -> None:
    """Raise SysPxeError unless the programs are there that are needed."""
    run.run(["objcopy", "--version"], hint=_HINT)
    if keys is not None:
        securekeys.check_tools()


def build_all(
    images: Iterable[Wanted],
    parts: Parts,
    folder: Path,
    work: Path,
    keys: securekeys.Keys | None,
    reporter: Reporter,
) -> tuple[Image, ...]:
    """Build the images into ``folder``, signed where there are keys.

    Raises SysPxeError where a program fails, InvalidInput for a xen.efi that
    is none and for an image that is too large.
    """
    made = []
    for one in images:
        target = folder / one.image.artifact
        if keys is None:
            build(parts, one.configuration, target, work)
        else:
            plain = work / "unsigned.efi"
            build(parts, one.configuration, plain, work)
            securekeys.sign_image(plain, target, keys)
        _check_size(target, parts)
        signed = "not signed" if keys is None else "signed for Secure Boot"
        size = target.stat().st_size / MIB
        reporter.step(f"    {target.name}: {size:.1f} MiB, {signed}")
        made.append(one.image)
    return tuple(made)


def build(
    parts: Parts, configuration: bytes, target: Path, work: Path
) -> pe.Image:
    """Write one image, not signed, and return what its headers say."""
    config = work / "xen.cfg"
    files.write(config, configuration)
    xen = work / "xen.efi"
    # debug sections are ten times the size of Xen, and nobody loads them
    argv = ["objcopy", "--remove-section=.debug_*", str(parts.xen), str(xen)]
    read(parts.xen)
    run.run(argv, timeout=_TIMEOUT, hint=_HINT)
    before = read(xen)
    sources = (config, parts.kernel, parts.initramfs)
    contents = dict(zip(SECTIONS, sources, strict=True))
    if there := [name for name in contents if before.find(name)]:
        raise InvalidInput(
            f"{parts.xen} has a section {there[0]} already",
            "the golden image must have xen.efi as its package gives it",
        )
    argv = ["objcopy"]
    places = {}
    address = _aligned(before.end)
    for name, path in contents.items():
        places[name] = address
        argv += [f"--add-section={name}={path}"]
        argv += [f"--change-section-vma={name}={before.base + address:#x}"]
        address = _aligned(address + path.stat().st_size)
    run.run([*argv, str(xen), str(target)], timeout=_TIMEOUT, hint=_HINT)
    made = read(target)
    for name, path in contents.items():
        _check_section(target, made, name, places[name], path)
    if made.image_size < made.end or made.base != before.base:
        raise _wrong(target, "its headers do not cover its sections")
    return made


def take_apart(image: Path, target: Path, work: Path) -> None:
    """Write the xen.efi that an image was made of: no signature, no parts.

    Raises SysPxeError where a program fails, InvalidInput for no EFI file.
    """
    whole = work / "unsigned.efi"
    files.copy(image, whole)
    if read(whole).certificates:
        securekeys.remove_signature(whole)
    argv = ["objcopy", *(f"--remove-section={name}" for name in SECTIONS)]
    run.run([*argv, str(whole), str(target)], timeout=_TIMEOUT, hint=_HINT)


def read(path: Path) -> pe.Image:
    """Return what the headers of an EFI file say, or raise InvalidInput."""
    with open(path, "rb") as stream:
        head = stream.read(pe.HEAD)
    return pe.parse(head, path.stat().st_size, str(path))


def _aligned(address: int) -> int:
    return -(-address // PAGE) * PAGE


def _check_section(
    target: Path, made: pe.Image, name: str, address: int, source: Path
) -> None:
    """Check that objcopy put a file where it was told to, whole."""
    found = made.find(name)
    size = source.stat().st_size
    if found is None or (found.address, found.size) != (address, size):
        raise _wrong(target, f"section {name} is not where it should be")
    with open(target, "rb") as stream, open(source, "rb") as other:
        stream.seek(found.raw_offset)
        if found.raw_size < size or stream.read(size) != other.read():
            raise _wrong(target, f"section {name} is not what {source} holds")


def _wrong(target: Path, why: str) -> SysPxeError:
    return SysPxeError(
        f"objcopy made a wrong {target.name}: {why}",
        "this version of binutils writes EFI files differently; report it "
        "with what 'objcopy --version' says",
    )


def _check_size(target: Path, parts: Parts) -> None:
    size = target.stat().st_size
    if size <= SIZE_MAX:
        return
    large = sorted(
        (path.stat().st_size, what)
        for path, what in (
            (parts.kernel, "kernel"),
            (parts.initramfs, "initramfs"),
        )
    )
    said = ", ".join(f"{what} {n // 1000_000} MB" for n, what in large[::-1])
    raise SysPxeError(
        f"{target.name} has {size // 1000_000} MB (expected at most "
        f"{SIZE_MAX // 1000_000} MB): {said}",
        "firmware refuses large images or takes minutes to check them; see "
        "what is large with 'lsinitrd' on the netboot initramfs",
    )
