"""Builds the seed: a btrfs image with the volumes that clients run from.

It is signed, compressed, read-only; a client adds RAM to it (a sprout) and
mounts the whole read-write. Volumes go from their sources into the image
with no copy in between.
"""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sys_pxe import files
from sys_pxe.dom0 import seed_fill, seed_image
from sys_pxe.dom0.progress import MIB, Reporter
from sys_pxe.dom0.seed_fill import Filler, Plan
from sys_pxe.dom0.volumes import Item
from sys_pxe.errors import InvalidInput, SysPxeError

# as Qubes has them: /var/lib/qubes and all below is root:qubes
FOLDER_MODE = 0o2770
# data of a volume per byte of the seed; template roots have 2.5 to 3
_RATIO = 2


def build(
    target: Path,
    items: Sequence[Item],
    folders: Sequence[str],
    work: Path,
    level: int,
    reporter: Reporter,
    gid: int = 0,
) -> None:
    """Write the seed ``target``; it must not exist. Needs root.

    ``work`` is a folder to mount in, ``level`` zstd's, ``gid`` the group of
    all files and folders. If anything is raised, ``target`` does not exist
    and nothing is mounted. Raises InvalidInput for targets that are wrong or
    there twice and for sources that are too short, SysPxeError for a full
    disk, a source that cannot be read, and tools that fail.
    """
    folders = check_names([item.target for item in items], folders)
    if os.path.lexists(target):
        raise SysPxeError(
            f"{target} is there already", "remove it, then build again"
        )
    plans = [seed_fill.planned(item) for item in items]
    _check_space(target, plans)
    try:
        with seed_image.mounted(target, work, level) as image:
            for folder in folders:
                files.make_folder(image.mount / folder)
            # from the innermost out: the root itself is the last
            for folder in [*reversed(folders), "."]:
                seed_fill.give(image.mount / folder, FOLDER_MODE, gid)
            filler = Filler(image.mount, gid, image.make_room, _threads())
            total = sum(plan.nbytes for plan in plans)
            filler.fill(plans, reporter.bar(target.name, total))
            image.finish()
        seed_image.seal(target)
    except BaseException:
        files.remove(target)
        raise
    found = target.stat()
    reporter.step(
        f"    {target.name}: {found.st_blocks * 512 / MIB:.1f} MiB of data, "
        f"{found.st_size / MIB:.1f} MiB with its holes"
    )


def check_names(targets: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Return all folders that a seed needs, outer ones first.

    Raises InvalidInput for a path that leaves the seed, is there twice, or
    is both a file and a folder.
    """
    needed: set[str] = set()
    for name in (*targets, *folders):
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise InvalidInput(
                f"{name!a} is no path in a seed (expected names with / between)"
            )
    for name in targets:
        needed.update(str(p) for p in PurePosixPath(name).parents)
    for name in folders:
        needed.update((name, *(str(p) for p in PurePosixPath(name).parents)))
    needed.discard(".")
    seen = set()
    for name in targets:
        if name in seen or name in needed:
            raise InvalidInput(
                f"{name!a} is in the seed twice",
                "two volumes of qubes.xml claim it; give one another path",
            )
        seen.add(name)
    return sorted(needed)


def _threads() -> int:
    return min(os.cpu_count() or 1, seed_fill.THREADS_MAX)


def _check_space(target: Path, plans: Sequence[Plan]) -> None:
    # a device that is no thin volume does not say how much of it is data
    data = sum(plan.nbytes for plan in plans if plan.known)
    wanted, free = data // _RATIO, seed_image.free_bytes(target.parent)
    if wanted > free:
        raise SysPxeError(
            f"not enough space in {target.parent}: the seed needs about "
            f"{wanted // MIB} MiB, {free // MIB} MiB are free",
            "free some space there (remove old releases, for example), or put "
            "fewer qubes into the release, then build again",
        )
