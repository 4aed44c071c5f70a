"""Logical volumes of LVM: what there is, and snapshots of thin ones.

The names are LVM's own, lvm(8): letters, digits and ``+_.-``, no dash first.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import names, run
from sys_pxe.dom0 import marks
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.stopping import stoppable, undisturbed
from sys_pxe.errors import InvalidInput, SysPxeError

_NAME = r"[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]{0,126}"
_COLUMNS = (
    "vg_name,lv_name,lv_size,lv_attr,pool_lv,lv_kernel_major,lv_kernel_minor,"
    "data_percent"
)
_PERCENT = re.compile(r"(100|[0-9]{1,2})\.([0-9]{2})")
_HINT = "install the package lvm2"
_NO_ROOM = (
    "is there room in the thin pool and its metadata? 'lvs -a' shows it; "
    "'lvextend --poolmetadatasize' gives more"
)


@dataclass(frozen=True)
class Lv:
    """A logical volume. ``size`` is in bytes, ``number`` major:minor.

    ``attr`` are the letters of lvs(8): type first, "o" in sixth place when it
    is open. ``pool`` is the thin pool that it lies in, or empty. ``mapped`` are
    the bytes of a thin volume that are not holes, to 0.01 % of its size; None
    when it is not active, for only the kernel knows.
    """

    vg: str
    name: str
    size: int
    attr: str
    pool: str
    number: str
    mapped: int | None = None

    @property
    def vid(self) -> str:
        """The volume's name as Qubes writes it, VG/LV."""
        return f"{self.vg}/{self.name}"

    @property
    def is_thin(self) -> bool:
        """Whether it lies in a thin pool, so that a snapshot is free."""
        return self.pool != "" and self.attr[:1] == "V"

    @property
    def is_open(self) -> bool:
        """Whether something has its device open."""
        return self.attr[5:6] == "o"


def parse_vid(untrusted_vid: str, where: str) -> str:
    """Return ``VG/LV``; InvalidInput for anything else."""
    shown = names.printable(untrusted_vid, 80)
    if (
        len(untrusted_vid) > 255
        or not re.fullmatch(f"{_NAME}/{_NAME}", untrusted_vid)
        or {".", ".."} & set(untrusted_vid.split("/"))
    ):
        raise InvalidInput(
            f"{where}: {shown!r} is not the name of a logical volume "
            "(expected VG/LV)"
        )
    return untrusted_vid


def volumes() -> list[Lv]:
    """Return all logical volumes. SysPxeError when lvs is missing or fails."""
    said = run.run(
        [
            *("lvs", "--reportformat", "json", "--units", "b", "--nosuffix"),
            *("--options", _COLUMNS),
        ],
        hint=_HINT,
    )
    return parse(said.stdout)


def parse(said: bytes) -> list[Lv]:
    """Return the volumes of the JSON of lvs; InvalidInput for other text."""
    try:
        rows = [
            {key: str(row[key]) for key in _COLUMNS.split(",")}
            for part in json.loads(said)["report"]
            for row in part["lv"]
        ]
        return [
            Lv(
                vg=row["vg_name"],
                name=row["lv_name"],
                size=int(row["lv_size"]),
                attr=row["lv_attr"],
                pool=row["pool_lv"],
                number=f"{row['lv_kernel_major']}:{row['lv_kernel_minor']}",
                mapped=_mapped(int(row["lv_size"]), row["data_percent"]),
            )
            for row in rows
        ]
    except (ValueError, KeyError, TypeError):
        shown = names.printable(said[:80].decode("ascii", "replace"), 80)
        raise InvalidInput(
            f"lvs wrote {shown!r} in place of its JSON"
        ) from None


def _mapped(size: int, untrusted_percent: str) -> int | None:
    """Return the share of a size; None for what is no "12.34", as "" is."""
    found = _PERCENT.fullmatch(untrusted_percent)
    if not found:
        return None
    return min(size * int(found[1] + found[2]) // 10_000, size)


def find(found: Sequence[Lv], vid: str) -> Lv | None:
    """Return the volume ``VG/LV``, or None."""
    return next((lv for lv in found if lv.vid == vid), None)


def by_number(found: Sequence[Lv], number: str) -> Lv | None:
    """Return the volume whose device is major:minor, or None."""
    return next((lv for lv in found if lv.number == number), None)


@contextmanager
def snapshot(lv: Lv) -> Iterator[Path]:
    """Yield the device of a read-only snapshot of a thin volume.

    LVM freezes a file system that is mounted from it for that moment. The
    snapshot is gone when the block ends, also by Ctrl-C, SIGTERM or SIGHUP.
    Raises SysPxeError with LVM's words.
    """
    name = marks.new_lv()
    with stoppable():
        try:
            with undisturbed():
                _create(lv, name)
            yield Path("/dev", lv.vg, name)
        finally:
            with undisturbed():
                # by what is there: also after an lvcreate that failed half way
                if find(volumes(), f"{lv.vg}/{name}"):
                    remove(lv.vg, name)


def _create(lv: Lv, name: str) -> None:
    run.run(
        [
            # no --type: LVM 2.03.16 refuses it here, and takes thin for thin
            *("lvcreate", "--quiet", "--snapshot", "--name", name),
            *("--setactivationskip", "n", "--permission", "r"),
            *("--activate", "y", lv.vid),
        ],
        hint=_NO_ROOM,
    )
    # where lvm.conf keeps volumes from being activated by themselves
    run.run(["lvchange", "-ay", "-K", f"{lv.vg}/{name}"])


def remove(vg: str, name: str) -> None:
    """Remove a snapshot; SysPxeError when something still reads it."""
    run.run(
        ["lvremove", "--quiet", "--force", f"{vg}/{name}"],
        hint="the next build removes it, once nothing reads it",
    )


def sweep(found: Sequence[Lv], reporter: Reporter) -> None:
    """Remove the snapshots that killed builds left; tell what stays."""
    for lv in found:
        if not marks.is_left(lv.name):
            continue
        reporter.step(f"    removing {lv.vid}, left by a build that was killed")
        try:
            with undisturbed():
                remove(lv.vg, lv.name)
        except SysPxeError as error:
            reporter.step(f"    warning: {error.explain()}")
