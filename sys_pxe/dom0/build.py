"""Builds a release from a golden image: artifacts, manifest, signature.

All is made in a folder beside the releases, which gets its name at the very
end; a build that breaks leaves nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files, manifest, names, signature
from sys_pxe.dom0 import (
    artifacts,
    bootfiles,
    clientroot,
    firststage,
    initramfs,
    seal,
    securekeys,
    sets,
    source,
    squash,
    unified,
)
from sys_pxe.dom0.progress import MIB, Reporter
from sys_pxe.dom0.sets import Wanted
from sys_pxe.dom0.state import BUILDING_PREFIX, MANIFEST, State
from sys_pxe.errors import UsageError
from sys_pxe.manifest import Image, Manifest, QubeSet
from sys_pxe.trust import Identity

DEFAULT_GOLDEN = "/"
DEFAULT_VALID_DAYS = 90
VALID_DAYS = range(1, 3651)
DAY = 86_400


@dataclass(frozen=True)
class Order:
    """What is to be built. ``level`` is zstd's, ``created`` in seconds.

    ``golden`` is what ``source.opened`` takes: a folder or an image file.
    """

    release: str
    golden: str
    created: int
    valid_days: int = DEFAULT_VALID_DAYS
    level: int = squash.DEFAULT_LEVEL
    wanted: tuple[Wanted, ...] = ()
    images: tuple[unified.Wanted, ...] = ()


@dataclass(frozen=True)
class _Boot:
    """What was made for UEFI: unified images, and loaders with a signature."""

    images: tuple[Image, ...] = ()
    loaders: tuple[str, ...] = ()


def _no_images(xen_efi: Path | None) -> str:
    if xen_efi is None:
        return (
            "no image for UEFI: the golden image has no xen-VERSION.efi in "
            + ", ".join(f"/{place}" for place in unified.PLACES[:2])
        )
    return (
        "no image for UEFI: it holds the options of a profile, and there is "
        "no site with a client yet"
    )


@dataclass(frozen=True)
class _Build:
    """One build that is under way: where things lie, and its serial."""

    state: State
    order: Order
    folder: Path
    work: Path
    serial: int
    reporter: Reporter

    def boot(self, tree: Path) -> "_Boot":
        """Make the boot files from the golden tree."""
        found = bootfiles.find(tree)
        xen_efi = unified.find_xen(tree)
        keys = securekeys.present(self.state)
        if xen_efi is not None and self.order.images:
            unified.check_tools(keys)
        self.reporter.step(f"2/6 boot files: {found.xen.name}, {found.version}")
        bootfiles.unpack_xen(found.xen, self.folder / "xen")
        files.copy(found.kernel, self.folder / "kernel")
        self.reporter.step("3/6 netboot initramfs (dracut, takes a minute)")
        plain = initramfs.build(
            tree,
            found.version,
            self.state.public_key,
            initramfs.dracut_module(),
            self.work,
        )
        target = self.folder / "initramfs"
        pinned = Identity(self.order.release, self.serial)
        bootfiles.add_identity(plain, target, pinned)
        self.reporter.step(f"    {target.stat().st_size / MIB:.1f} MiB")
        if xen_efi is None or not self.order.images:
            self.reporter.step(f"    note: {_no_images(xen_efi)}")
            return _Boot()
        parts = unified.Parts(xen_efi, found.kernel, target)
        images = unified.build_all(
            self.order.images,
            parts,
            self.folder,
            self.work,
            keys,
            self.reporter,
        )
        if keys is None:
            return _Boot(images)
        sources = firststage.find((tree, Path("/")))
        signed = firststage.build_all(sources, self.folder, keys, self.reporter)
        return _Boot(images, signed)

    def root(self, tree: Path) -> None:
        """Make the sealed root from the golden tree."""
        level = self.order.level
        self.reporter.step(f"4/6 dom0 root (sealed; squashfs, zstd {level})")
        with seal.sealed(tree, files.make_folder(self.work / "seal")) as root:
            clientroot.install(root)
            seal.check(root)
            for notice in seal.notices(root):
                self.reporter.step(f"    note: {notice}")
            squash.build(
                root, self.folder / "dom0-root", self.work, level, self.reporter
            )

    def qubes(self, tree: Path) -> tuple[QubeSet, ...]:
        """Make the sets of qubes."""
        wanted = self.order.wanted
        self.reporter.step(
            "5/6 volumes of the qubes"
            if wanted
            else "5/6 no qubes: no profile in use names any"
        )
        job = sets.Job(tree, self.folder, self.work, self.order.level)
        return tuple(sets.build_all(wanted, job, self.reporter))

    def sign(self, boot: "_Boot", made_sets: tuple[QubeSet, ...]) -> Manifest:
        """Write the signed manifest of what lies in the folder."""
        self.reporter.step("6/6 digests, manifest, signature")
        order = self.order
        found = artifacts.of_release(
            self.folder, made_sets, self.reporter, boot.images, boot.loaders
        )
        made = Manifest(
            release=order.release,
            serial=self.serial,
            created=order.created,
            expires=order.created + order.valid_days * DAY,
            artifacts=tuple(found),
            sets=made_sets,
            images=boot.images,
        )
        document = manifest.write(made)
        manifest.parse(document)
        signed = signature.signed(document, self.state.private_key)
        files.write(self.folder / MANIFEST, signed)
        return made


def build(state: State, order: Order, reporter: Reporter) -> Manifest:
    """Build, sign and keep a release; return its manifest.

    Needs root. Raises SysPxeError (also for an image that holds a secret),
    InvalidInput for qubes that the image cannot give, UsageError for a name
    that exists, Busy while another build runs.
    """
    check_root()
    check_order(state, order)
    # what would be missed at the end is missed before the work begins
    for needed in (state.private_key, state.public_key):
        needed.stat()
    initramfs.dracut_module()
    with _workshop(state, order.release) as folder:
        work = files.make_folder(folder / "work", 0o700)
        reporter.step(f"1/6 golden image: {order.golden}")
        with source.opened(order.golden, work, reporter) as tree:
            check_tree(tree, order.golden)
            serial = state.take_serial("release")
            one = _Build(state, order, folder, work, serial, reporter)
            boot = one.boot(tree)
            one.root(tree)
            made_sets = one.qubes(tree)
        made = one.sign(boot, made_sets)
        files.remove(work)
        files.rename(folder, state.release_folder(order.release))
    return made


def check_root() -> None:
    """Raise UsageError unless root calls."""
    if os.geteuid() != 0:
        raise UsageError(
            "building needs root: it mounts and reads every file of the tree",
            "call it with sudo",
        )


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


def check_tree(tree: Path, golden: str) -> None:
    """Check that a tree is the root of a system. UsageError."""
    for name in ("boot", "etc", "usr"):
        if not (tree / name).is_dir():
            raise UsageError(
                f"{golden} is not the root of an installed system: "
                f"it has no {name}",
                "--from wants /, a folder where the golden image is mounted, "
                "or a file with its file system",
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
