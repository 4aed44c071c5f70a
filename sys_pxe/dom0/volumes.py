"""Opens the volumes of qubes for a seed, each as it was last committed.

While a qube runs, Qubes writes to a copy (``-snap``, ``-dirty.img``) and takes
it over when the qube stops: qubes/storage/lvm.py and reflink.py of core-admin.
That copy is never read here.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from stat import S_ISLNK, S_ISREG

from sys_pxe import names, run
from sys_pxe.dom0 import lvm
from sys_pxe.dom0.lvm import Lv
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.stopping import stoppable
from sys_pxe.errors import InvalidInput, SysPxeError

LVM_THIN, REFLINK, FILE = "lvm_thin", "file-reflink", "file"
KERNEL = "linux-kernel"
# where Qubes keeps the folders that are named in a seed, below the tree's root
PLACE = "var/lib/qubes"
FIREWALL = "firewall.xml"
_FIREWALL_MAX = 1 << 20
_KERNEL_FILE = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.+-]{0,99}")
_KERNEL_NEEDS = "vmlinuz"
# seconds between looks at volumes that may be there in a moment
PAUSES = (0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Volume:
    """One volume that has to be in a seed, as qubes.xml describes it.

    ``place`` is VG/LV for lvm_thin, else the path of the committed image, or of
    a kernel's folder (``name`` is "kernel"), below the tree's root. ``size`` is
    in bytes, as qubes.xml says; ``target`` is the path in the seed.
    """

    qube: str
    name: str
    driver: str
    place: str
    size: int
    target: str

    @property
    def shown(self) -> str:
        """The volume as Qubes' tools write it, QUBE:VOLUME."""
        return names.printable(f"{self.qube}:{self.name}", 80)


@dataclass(frozen=True)
class Item:
    """One file of a seed: ``size`` bytes, read from ``source``.

    ``source`` is a file or a block device; None is a file that is all hole.
    ``mapped`` are the bytes of a device that are no holes, where LVM tells.
    """

    target: str
    source: Path | None
    size: int
    mapped: int | None = None


@contextmanager
def opened(
    volumes: Sequence[Volume],
    tree: Path,
    reporter: Reporter,
    folders: Sequence[str] = (),
) -> Iterator[list[Item]]:
    """Yield what a seed of the volumes holds; it stays as it is in the block.

    Firewall rules that lie beside an image come along, and those in the
    ``folders`` of qubes that have none: without them Qubes lets all pass. Thin
    volumes are read from snapshots, which are gone with the block, also after
    Ctrl-C, SIGTERM or SIGHUP. Raises SysPxeError that names a volume which is
    missing, empty, too small, or written to by a qube that runs; InvalidInput
    for a place that no volume can have.
    """
    with stoppable(), ExitStack() as stack:
        job = _Job(tree, stack, reporter, set())
        thin = [v for v in volumes if v.driver == LVM_THIN]
        found = _settled(thin) if thin else []
        lvm.sweep(found, reporter)
        # what is wrong is told before the first snapshot is made
        places = {v.target: thin_volume(v, found) for v in thin}
        items: list[Item] = []
        for volume in volumes:
            if lv := places.get(volume.target):
                items.append(job.thin(volume, lv, found))
            else:
                items += job.files(volume)
        beside = {
            PurePosixPath(volume.target).parent
            for volume in volumes
            if volume.driver != KERNEL
        }
        for folder in sorted(beside.union(map(PurePosixPath, folders))):
            items += job.firewall(folder)
        yield items


def thin_volume(volume: Volume, found: Sequence[Lv]) -> Lv:
    """Return the thin volume with the last commit; SysPxeError if none."""
    vid = lvm.parse_vid(volume.place, volume.shown)
    lv = lvm.find(found, vid)
    if lv is None:
        raise _missing(volume, vid)
    if not lv.is_thin:
        raise SysPxeError(
            f"{volume.shown}: {vid} is not a thin volume of LVM, which is what "
            "its pool needs"
        )
    if _written_in_place(lv, found):
        # a pool with revisions_to_keep=-1 has its qubes write to the volume
        raise SysPxeError(
            f"{volume.shown}: {vid} is in use, and has no copy that is written "
            "to in its place",
            f"shut {volume.qube} down, then build again",
        )
    _check_size(volume, lv.size)
    return lv


def running_copy(vid: str, found: Sequence[Lv]) -> bool:
    """Say whether a qube runs on a copy of the volume."""
    return lvm.find(found, f"{vid}-snap") is not None


def _written_in_place(lv: Lv, found: Sequence[Lv]) -> bool:
    return lv.is_open and not running_copy(lv.vid, found)


def _settled(thin: Sequence[Volume]) -> list[Lv]:
    """Return the volumes of LVM, after a moment if one is busy or missing.

    Something may look into a volume for an instant, or a qube has just been
    stopped: the names of its volumes are exchanged one after the other.
    """
    found = lvm.volumes()
    for pause in PAUSES:
        own = [lvm.find(found, volume.place) for volume in thin]
        if all(lv and not _written_in_place(lv, found) for lv in own):
            break
        time.sleep(pause)
        found = lvm.volumes()
    return found


@dataclass(frozen=True)
class _Job:
    """Opens the volumes of one seed; ``told`` are qubes that were named."""

    tree: Path
    stack: ExitStack
    reporter: Reporter
    told: set[str]

    def thin(self, volume: Volume, lv: Lv, found: Sequence[Lv]) -> Item:
        if running_copy(lv.vid, found):
            self._runs(volume)
        device = self.stack.enter_context(lvm.snapshot(lv))
        mapped = lv.mapped
        if mapped is None:
            # it is not active, but its snapshot is
            made = lvm.find(lvm.volumes(), f"{lv.vg}/{device.name}")
            mapped = made.mapped if made else None
        return Item(volume.target, device, lv.size, mapped)

    def files(self, volume: Volume) -> list[Item]:
        if volume.driver == KERNEL:
            return self._kernel(volume)
        if volume.driver not in (REFLINK, FILE):
            raise SysPxeError(
                f"{volume.shown}: its pool has the driver "
                f"{names.printable(volume.driver, 40)}, which cannot be read",
                "clone the qube into a pool of the driver lvm_thin or "
                "file-reflink",
            )
        path = self._inside(volume.place, volume.shown)
        if volume.driver == FILE:
            _refuse_used(volume, path)
        elif path.with_name(f"{path.stem}-dirty{path.suffix}").exists():
            self._runs(volume)
        return [self._held(volume.target, path, volume)]

    def firewall(self, folder: PurePosixPath) -> list[Item]:
        place = f"{PLACE}/{folder}/{FIREWALL}"
        path = self._inside(place, place)
        if not path.exists():
            return []
        size = path.stat().st_size
        if size > _FIREWALL_MAX:
            raise InvalidInput(
                f"/{place}: {size} bytes (expected at most {_FIREWALL_MAX})"
            )
        return [self._held(str(folder / FIREWALL), path, None)]

    def _kernel(self, volume: Volume) -> list[Item]:
        folder = self._inside(volume.place, volume.shown)
        if not (folder / _KERNEL_NEEDS).is_file():
            raise _missing(volume, f"/{volume.place}/{_KERNEL_NEEDS}")
        items = []
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                continue
            if not _KERNEL_FILE.fullmatch(path.name):
                shown = names.printable(path.name, 100)
                raise InvalidInput(
                    f"/{volume.place}: {shown!r} is not a kernel's file"
                )
            inner = self._inside(f"{volume.place}/{path.name}", volume.shown)
            target = f"{volume.target}/{path.name}"
            items.append(self._held(target, inner, None))
        return items

    def _held(self, target: str, path: Path, volume: Volume | None) -> Item:
        """Return an item whose file stays the same when it is renamed."""
        where = volume.shown if volume else f"/{path.relative_to(self.tree)}"
        try:
            if not S_ISREG(path.stat().st_mode):
                raise SysPxeError(f"{where}: {path} is not a file")
            stream = open(path, "rb")  # noqa: SIM115 (the stack closes it)
            self.stack.enter_context(stream)
        except FileNotFoundError:
            if volume:
                raise _missing(volume, f"/{volume.place}") from None
            raise SysPxeError(f"{where} went away during the build") from None
        size = os.fstat(stream.fileno()).st_size
        if volume:
            _check_size(volume, size)
        # of this process by its id, so that its children can read it too
        held = Path(f"/proc/{os.getpid()}/fd/{stream.fileno()}")
        return Item(target, held, size)

    def _inside(self, untrusted_place: str, where: str) -> Path:
        """Return a path of the tree that no link leads out of."""
        parts = untrusted_place.split("/")
        if {"", ".", ".."} & set(parts) or "\0" in untrusted_place:
            shown = names.printable(untrusted_place, 200)
            raise InvalidInput(
                f"{where}: {shown!r} is not a path below the golden image"
            )
        path = self.tree
        for part in parts:
            path /= part
            if _is_link(path):
                raise SysPxeError(
                    f"{where}: /{path.relative_to(self.tree)} is a symbolic "
                    "link, which may lead out of the golden image",
                    "mount what it points to in its place (a bind mount)",
                )
        return path

    def _runs(self, volume: Volume) -> None:
        if volume.qube in self.told:
            return
        self.told.add(volume.qube)
        self.reporter.step(
            f"    {names.printable(volume.qube, 40)} runs: it is read as it "
            "was at its last shutdown"
        )


def _is_link(path: Path) -> bool:
    try:
        return S_ISLNK(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _check_size(volume: Volume, size: int) -> None:
    # a larger one is taken whole, as Qubes does: a disk's end holds a copy of
    # its partition table, and LVM rounds sizes up to its extents
    if size == 0 or volume.size == 0:
        raise SysPxeError(
            f"{volume.shown} is empty: 0 bytes",
            f"was {volume.qube} ever started? remove it from the profile, or "
            "install it again",
        )
    if size < volume.size:
        raise SysPxeError(
            f"{volume.shown} has {size} bytes, and qubes.xml says "
            f"{volume.size}",
            f"shut {volume.qube} down when it was made larger while it runs; "
            "else the volume is damaged",
        )


def _missing(volume: Volume, what: str) -> SysPxeError:
    return SysPxeError(
        f"{volume.shown}: {names.printable(what, 200)} is missing",
        f"'qvm-volume info {volume.shown}' says where it should be; of a "
        "golden image that is not running, is all of it mounted?",
    )


def _refuse_used(volume: Volume, path: Path) -> None:
    """Refuse an image of the driver ``file`` that a loop device is made of.

    A qube that runs writes into it, and there is no other copy.
    """
    words = "BACK-INO,BACK-MAJ:MIN,BACK-FILE"
    said = run.run(["losetup", "--list", "--json", "--output", words])
    own = path.stat() if path.exists() else None
    for row in loops(said.stdout):
        number, inode, file = row
        same = own is not None and (number, inode) == (
            f"{os.major(own.st_dev)}:{os.minor(own.st_dev)}",
            str(own.st_ino),
        )
        if same or file == f"/{volume.place}":
            raise SysPxeError(
                f"{volume.shown}: its image is in use, and its pool's driver "
                "writes to it in place",
                f"shut {volume.qube} down, and the qubes based on it, then "
                "build again",
            )


def loops(said: bytes) -> list[tuple[str, str, str]]:
    """Return device, inode and path of each loop device's file."""
    if not said.strip():
        return []
    try:
        return [
            (
                str(row["back-maj:min"]).strip(),
                str(row["back-ino"]).strip(),
                str(row["back-file"]),
            )
            for row in json.loads(said)["loopdevices"]
        ]
    except (ValueError, KeyError, TypeError):
        raise InvalidInput("losetup wrote something else than JSON") from None
