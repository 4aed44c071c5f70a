"""Builds a release from a golden image: artifacts, manifest, signature.

All is made in a folder beside the releases, which gets its name at the very
end; a build that breaks leaves nothing.
"""

import gzip
import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files, manifest, names, signature
from sys_pxe.dom0 import identity, initramfs, seal, squash
from sys_pxe.dom0.progress import MIB, Reporter
from sys_pxe.dom0.state import BUILDING_PREFIX, MANIFEST, State
from sys_pxe.errors import InvalidInput, SysPxeError, UsageError
from sys_pxe.manifest import Artifact, Manifest, Role

DEFAULT_VALID_DAYS = 90
VALID_DAYS = range(1, 3651)
XEN_MAX = 64 << 20
DAY = 86_400
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Order:
    """What is to be built. ``level`` is zstd's, ``created`` in seconds."""

    release: str
    tree: Path
    created: int
    valid_days: int = DEFAULT_VALID_DAYS
    level: int = squash.DEFAULT_LEVEL


@dataclass(frozen=True)
class BootSources:
    """The files of a tree that clients boot, and the kernel's version."""

    xen: Path
    kernel: Path
    version: str


def build(state: State, order: Order, reporter: Reporter) -> Manifest:
    """Build, sign and keep a release; return its manifest.

    Needs root. Raises SysPxeError (also for an image that is not sealed),
    UsageError for a name that exists, Busy while another build runs.
    """
    if os.geteuid() != 0:
        raise UsageError(
            "building needs root: it mounts and reads every file of the tree",
            "call it with sudo",
        )
    check_order(state, order)
    private, public = state.private_key, state.public_key
    module = initramfs.dracut_module()
    reporter.step(f"1/5 check that {order.tree} holds no secret")
    seal.check(order.tree)
    sources = boot_sources(order.tree)
    with _workshop(state, order.release) as folder:
        work = files.make_folder(folder / "work", 0o700)
        serial = state.take_serial("release")
        reporter.step(f"2/5 boot files: {sources.xen.name}, {sources.version}")
        _unpack_xen(sources.xen, folder / "xen")
        files.copy(sources.kernel, folder / "kernel")
        reporter.step("3/5 netboot initramfs (dracut, takes a minute or two)")
        plain = initramfs.build(
            order.tree, sources.version, public, module, work
        )
        _add_identity(plain, folder / "initramfs", order.release, serial)
        reporter.step(f"4/5 dom0 root (squashfs, zstd level {order.level})")
        squash.build(
            order.tree, folder / "dom0-root", work, order.level, reporter
        )
        reporter.step("5/5 digests, manifest, signature")
        made = Manifest(
            release=order.release,
            serial=serial,
            created=order.created,
            expires=order.created + order.valid_days * DAY,
            artifacts=tuple(_artifacts(folder, reporter)),
        )
        document = manifest.write(made)
        manifest.parse(document)
        files.write(folder / MANIFEST, signature.signed(document, private))
        files.remove(work)
        files.rename(folder, state.release_folder(order.release))
    return made


def check_order(state: State, order: Order) -> None:
    """Check what was asked for before anything is made. UsageError."""
    names.parse_name(order.release, "release")
    if state.release_folder(order.release).exists():
        raise UsageError(
            f"there is a release {order.release} already",
            "a release never changes; choose another name",
        )
    if order.valid_days not in VALID_DAYS:
        raise UsageError(f"--valid-days: {order.valid_days} is not 1 to 3650")
    if order.level not in squash.LEVELS:
        raise UsageError(f"--compression: {order.level} is not 1 to 22")
    for name in ("boot", "etc", "usr"):
        if not (order.tree / name).is_dir():
            raise UsageError(
                f"{order.tree} is not the root of an installed system: "
                f"it has no {name}",
                "--from wants the folder where the golden image is mounted",
            )


@contextmanager
def _workshop(state: State, release: str) -> Iterator[Path]:
    """Yield a new folder; it is gone at the end unless it was renamed."""
    files.make_folder(state.releases_folder)
    with files.locked(state.root / "build.lock", "the builder"):
        folder = state.releases_folder / f"{BUILDING_PREFIX}{release}"
        # a build that was killed may have left some
        for old in state.releases_folder.glob(f"{BUILDING_PREFIX}*"):
            files.remove(old)
        files.make_folder(folder, 0o700)
        try:
            yield folder
        finally:
            files.remove(folder)


def boot_sources(tree: Path) -> BootSources:
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


def _unpack_xen(source: Path, target: Path) -> None:
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


def _add_identity(
    source: Path, target: Path, release: str, serial: int
) -> None:
    with open(source, "rb") as stream, files.replacing(target) as new:
        shutil.copyfileobj(stream, new, _BUFFER)
        new.write(identity.appended(new.tell(), release, serial))


def _artifacts(folder: Path, reporter: Reporter) -> Iterator[Artifact]:
    for role in (*manifest.BOOT_ROLES, Role.DOM0_ROOT):
        # the loader fetches a boot file whole, so it is one chunk
        whole = role in manifest.BOOT_ROLES
        artifact = describe(folder / role.value, role, whole)
        yield artifact
        reporter.step(f"    {role.value}: {artifact.size / MIB:.1f} MiB")


def describe(path: Path, role: Role, whole: bool) -> Artifact:
    """Return the artifact that a file is; it is read once.

    ``whole`` makes it one chunk. Raises InvalidInput for a size that a
    manifest cannot hold.
    """
    size = path.stat().st_size
    limit = manifest.CHUNK_MAX if whole else names.SIZE_MAX
    if not 1 <= size <= limit:
        raise InvalidInput(f"{path}: {size} bytes (expected 1 to {limit})")
    step = size if whole else min(size, manifest.CHUNK_SIZE)
    total = hashlib.sha256()
    digests = []
    with open(path, "rb") as stream:
        for offset in range(0, size, step):
            one = hashlib.sha256()
            left = min(step, size - offset)
            while left and (part := stream.read(min(left, _BUFFER))):
                left -= len(part)
                one.update(part)
                total.update(part)
            if left:
                raise InvalidInput(f"{path} became shorter while it was read")
            digests.append(one.hexdigest())
    return Artifact(
        role, role.value, size, total.hexdigest(), step, tuple(digests)
    )
