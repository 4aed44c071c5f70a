"""Opens the golden image, so that it stays as it is while a release is built.

It may be the system that is running: a snapshot is read where LVM, btrfs or
XFS give one. What is opened how is decided by :func:`decide`, from facts alone.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sys_pxe import names, run
from sys_pxe.dom0 import btrfs, lvm, mountinfo, reflink
from sys_pxe.dom0.lvm import Lv
from sys_pxe.dom0.mountinfo import Mount
from sys_pxe.dom0.mounts import bound, mounted
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.stopping import stoppable
from sys_pxe.errors import UsageError

VIEW = "golden"
# the boot files; nothing of the running system is written there
_BOOT = ("boot", "boot/efi")
# no part of an installed system: what is mounted there is left out
_ELSEWHERE = ("dev", "media", "mnt", "proc", "run", "sys", "tmp", "var/tmp")
# what a file system needs, besides "ro", to be mounted from a snapshot
_OPTIONS = {
    # LVM has frozen it: all is written, yet XFS leaves its log marked as in
    # use (xfs_fs_freeze), and it is there twice
    "xfs": ",nouuid,norecovery",
}


class Kind(Enum):
    """How something is opened."""

    FOLDER = "a folder, read as it is"
    LIVE = "read while the system writes to it"
    THIN = "a snapshot of a thin volume"
    SUBVOLUME = "a snapshot of a btrfs subvolume"
    REFLINK = "a copy that shares the data of an XFS"
    IMAGE = "an image of a file system, mounted"


@dataclass(frozen=True)
class Facts:
    """What is known of a path. ``mount`` is the one that it lies in.

    ``mode`` is its st_mode, ``subvolume`` whether it is the root of one on
    btrfs, ``lv`` the volume that its mount is on, ``reflink`` whether that
    mount is an XFS whose files can be cloned.
    """

    path: Path
    mode: int
    mount: Mount
    subvolume: bool = False
    lv: Lv | None = None
    reflink: bool = False

    @property
    def is_mount(self) -> bool:
        """Whether a file system begins here."""
        return self.mount.target == self.path

    @property
    def inside(self) -> str:
        """The path of this within its file system."""
        rest = self.path.relative_to(self.mount.target)
        return str(Path(self.mount.root) / rest)


def decide(facts: Facts) -> Kind:
    """Return how a path is opened; UsageError for what cannot be."""
    if stat.S_ISREG(facts.mode):
        return Kind.IMAGE
    if not stat.S_ISDIR(facts.mode):
        raise UsageError(
            f"{_shown(facts.path)} is neither a folder nor an image file",
            "mount a disk read-only and name the folder; of a block device "
            "its file system may be in use elsewhere",
        )
    running = facts.path == Path("/")
    if facts.mount.read_only and not running:
        return Kind.FOLDER
    if facts.subvolume:
        return Kind.SUBVOLUME
    # a btrfs must not be there twice; of a bind mount, too much would show
    if facts.is_mount and facts.mount.root == "/":
        if facts.mount.fstype != "btrfs" and facts.lv and facts.lv.is_thin:
            return Kind.THIN
        if facts.reflink:
            return Kind.REFLINK
    return Kind.LIVE if running else Kind.FOLDER


@contextmanager
def opened(spec: str, work: Path, reporter: Reporter) -> Iterator[Path]:
    """Yield the root of the golden image as it is now; do not write to it.

    ``spec`` is ``/``, a folder or an image file; ``work`` a folder for mounts,
    which are gone with the block, as are snapshots, also after Ctrl-C, SIGTERM
    or SIGHUP. Call ``mounts.private`` before. Raises UsageError for what
    cannot be opened, SysPxeError when a program fails.
    """
    path = _existing(spec)
    table = mountinfo.table()
    facts = gather(path, table)
    kind = decide(facts)
    if kind is Kind.FOLDER:
        yield path
        return
    view = work / VIEW
    with stoppable(), ExitStack() as stack:
        if kind is Kind.IMAGE:
            yield stack.enter_context(_image(path, view))
            return
        inner_parts = parts(table, path)
        places = frozenset(mount.target for mount in inner_parts)
        opening = _Opening(path, places, stack, work, reporter)
        opening.add(facts, kind, view)
        for mount in inner_parts:
            place = view / mount.target.relative_to(path)
            inner = gather(mount.target, table)
            if place.is_dir() and not place.is_symlink():
                opening.add(inner, _part_kind(inner), place)
        yield view


def parts(table: list[Mount], path: Path) -> list[Mount]:
    """Return the mounts below a root that are parts of its system."""
    left_out = [path / name for name in _ELSEWHERE]
    return [
        mount
        for mount in mountinfo.below(table, path)
        if (mount.source.startswith("/dev/") or mount.fstype == "zfs")
        and not any(mount.target.is_relative_to(p) for p in left_out)
    ]


def gather(path: Path, table: list[Mount]) -> Facts:
    """Return the facts about a path, which must exist."""
    found = path.stat()
    mount = mountinfo.holding(table, path)
    return Facts(
        path=path,
        mode=found.st_mode,
        mount=mount,
        subvolume=mount.fstype == "btrfs"
        and found.st_ino == btrfs.SUBVOLUME_INODE,
        lv=_logical_volume(mount.number),
        reflink=mount.fstype == "xfs" and reflink.possible(mount.target),
    )


def _logical_volume(number: str) -> Lv | None:
    # lvs is not asked, nor needed, where there is no volume of LVM
    uuid = Path("/sys/dev/block", number, "dm/uuid")
    if not uuid.exists() or not uuid.read_text("ascii").startswith("LVM-"):
        return None
    return lvm.by_number(lvm.volumes(), number)


def _part_kind(facts: Facts) -> Kind:
    kind = decide(facts)
    return Kind.LIVE if kind is Kind.FOLDER else kind


@dataclass(frozen=True)
class _Opening:
    """Opens the parts of a golden image, one after the other."""

    root: Path
    parts: frozenset[Path]
    stack: ExitStack
    work: Path
    reporter: Reporter

    def add(self, facts: Facts, kind: Kind, place: Path) -> None:
        if kind is Kind.THIN and facts.lv:
            self._thin(facts, facts.lv, place)
        elif kind is Kind.SUBVOLUME:
            self._subvolume(facts, place)
        elif kind is Kind.REFLINK:
            self._reflink(facts, place)
        else:
            self._live(facts, place)

    def _thin(self, facts: Facts, lv: Lv, place: Path) -> None:
        fstype = facts.mount.fstype
        lvm.sweep(lvm.volumes(), self.reporter)
        self._say(facts, f"read from a snapshot of {lv.vid}")
        device = self.stack.enter_context(lvm.snapshot(lv))
        words = ("-t", fstype, "-o", "ro" + _OPTIONS.get(fstype, ""))
        self.stack.enter_context(mounted(device, place, *words))

    def _subvolume(self, facts: Facts, place: Path) -> None:
        device = facts.mount.source
        self._say(
            facts, f"read from a snapshot of the subvolume {facts.inside}"
        )
        left_out = {self.root / name for name in _ELSEWHERE}
        for name in btrfs.inner(facts.path, facts.inside):
            inner = facts.path / name
            if inner in self.parts or left_out & {inner, *inner.parents}:
                continue
            text = "left out, a subvolume of its own that is not mounted"
            self.reporter.step(f"    {_shown(inner)}: {text}")
        made = btrfs.snapshot(device, facts.inside, self.work, self.reporter)
        name = self.stack.enter_context(made)
        words = ("-t", "btrfs", "-o", f"ro,subvol=/{name}")
        self.stack.enter_context(mounted(device, place, *words))

    def _reflink(self, facts: Facts, place: Path) -> None:
        self._say(
            facts,
            "read from a copy that shares its data (XFS reflinks); its files "
            "are taken one after the other, each whole as of its moment",
        )
        made = reflink.snapshot(facts.path, self.work, self.reporter)
        tree = self.stack.enter_context(made)
        self.stack.enter_context(bound(tree, place))

    def _live(self, facts: Facts, place: Path) -> None:
        boot = [self.root / name for name in _BOOT]
        if not facts.mount.read_only and facts.path not in boot:
            self._say(
                facts,
                f"warning: read as it is, for this {facts.mount.fstype} gives "
                "no snapshot: change nothing there until the build has ended",
            )
        self.stack.enter_context(bound(facts.path, place))

    def _say(self, facts: Facts, text: str) -> None:
        self.reporter.step(f"    {_shown(facts.path)}: {text}")


@contextmanager
def _image(path: Path, view: Path) -> Iterator[Path]:
    probe = ["blkid", "--probe", "--output", "export", "--", str(path)]
    said = run.run(probe, check=False).stdout.decode("utf-8", "replace")
    facts = dict(
        line.split("=", 1) for line in said.splitlines() if "=" in line
    )
    if facts.get("USAGE") != "filesystem":
        has = facts.get("PTTYPE") or facts.get("TYPE") or "nothing known"
        raise UsageError(
            f"{_shown(path)} is no image of a file system (it holds: "
            f"{names.printable(has, 40)})",
            "of a disk with partitions, 'losetup --find --show --partscan "
            "--read-only FILE' gives the partitions; mount the root's "
            "read-only and name that folder",
        )
    # nouuid: it may be a copy of the system that is running
    options = "ro,loop" + (",nouuid" if facts.get("TYPE") == "xfs" else "")
    with mounted(
        path,
        view,
        *("-o", options),
        hint="an image that was not unmounted cannot be read as it is; mount "
        "it once, or run fsck on it",
    ) as root:
        yield root


def _existing(spec: str) -> Path:
    try:
        return Path(os.path.realpath(spec, strict=True))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{_shown(spec)}: {why}",
            "--from wants / for the system that is running, or the folder "
            "where the golden image is mounted, or an image file",
        ) from None


def _shown(path: Path | str) -> str:
    return names.printable(str(path), 200)
