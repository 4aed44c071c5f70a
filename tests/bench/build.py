"""How fast a seed is built, and how large: against cp and mksquashfs.

SYS_PXE_BENCH_LEVEL is zstd's level (release default if unset),
SYS_PXE_BENCH_MIB how much of /usr is in the source.
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sys_pxe import files, run
from sys_pxe.dom0 import seed, seed_fill, squash
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.volumes import Item
from tests.bench import rows
from tests.bench.sources import some_files

MIB = 1 << 20
LEVEL = int(os.environ.get("SYS_PXE_BENCH_LEVEL", squash.DEFAULT_LEVEL))
# at level 15 two cores compress some 10 to 20 MiB a second
SOURCE_MIB = int(os.environ.get("SYS_PXE_BENCH_MIB", "300"))
ROUNDS = 3
AIM = 0.95
FROM = tuple(
    Path("/usr") / n for n in ("bin", "sbin", "lib/x86_64-linux-gnu", "share")
)
IMAGE_SIZE = 2 << 30
QUIET = Reporter(quiet=True)


@dataclass(frozen=True)
class Made:
    """What one run made: ``rate`` in MiB of data a second, ``size`` in MiB."""

    rate: float
    size: float


def make_sources(folder: Path) -> list[Path]:
    """Make an ext4 image and a clone of it with some changed files."""
    tree = folder / "tree"
    for top in FROM:
        for path in some_files(top, SOURCE_MIB * MIB // len(FROM)):
            target = tree / path.relative_to("/")
            files.make_folder(target.parent)
            shutil.copyfile(path, target)
    image, clone = folder / "debian.img", folder / "clone.img"
    files.new_sparse(image, IMAGE_SIZE).close()
    run.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(image)])
    run.run(["cp", "--sparse=always", str(image), str(clone)])
    place = files.make_folder(folder / "mount")
    run.run(["mount", "-o", "loop", str(clone), str(place)])
    try:
        maker = random.Random(1)
        found = sorted(p for p in place.rglob("*") if p.is_file())
        for path in maker.sample(found, max(len(found) // 100, 1)):
            path.write_bytes(maker.randbytes(path.stat().st_size))
    finally:
        run.run(["umount", str(place)])
    files.remove(tree)
    return [image, clone]


def data_bytes(sources: Sequence[Path]) -> int:
    """Return what has to be read of the sources."""
    return sum(
        seed_fill.planned(Item(s.name, s, IMAGE_SIZE)).nbytes for s in sources
    )


def measured(
    sources: Sequence[Path], target: Path, make: Callable[[], None]
) -> Made:
    run.run(["sync"])
    begun = time.monotonic()
    make()
    seconds = time.monotonic() - begun
    size = target.stat().st_blocks * 512 / MIB
    files.remove(target)
    return Made(data_bytes(sources) / MIB / seconds, size)


def ours(sources: Sequence[Path], folder: Path) -> Made:
    target = folder / "seed.img"
    items = [
        Item(f"vm-templates/{s.stem}/root.img", s, IMAGE_SIZE) for s in sources
    ]
    return measured(
        sources,
        target,
        lambda: seed.build(target, items, (), folder, LEVEL, QUIET),
    )


def squashed(sources: Sequence[Path], folder: Path) -> Made:
    target = folder / "images.squashfs"
    argv = [
        *("mksquashfs", *map(str, sources), str(target), "-noappend"),
        *("-quiet", "-no-progress", "-comp", "zstd"),
        *("-Xcompression-level", str(LEVEL)),
    ]
    return measured(sources, target, lambda: _ran(argv))


def copied(sources: Sequence[Path], folder: Path) -> Made:
    target = folder / "copied.img"

    def make() -> None:
        files.new_sparse(target, 2 * IMAGE_SIZE).close()
        single = ("-d", "single", "-m", "single")
        run.run(["mkfs.btrfs", "-q", *single, str(target)])
        with _btrfs(target, folder / "mount") as place:
            run.run(["cp", "--sparse=always", *map(str, sources), str(place)])

    return measured(sources, target, make)


def _ran(argv: Sequence[str]) -> None:
    run.run(argv)


@contextmanager
def _btrfs(image: Path, place: Path) -> Iterator[Path]:
    options = f"loop,noatime,compress-force=zstd:{min(LEVEL, 15)}"
    run.run(["mount", "-o", options, str(image), str(place)])
    try:
        yield place
    finally:
        run.run(["umount", str(place)])


def compared(
    label: str, peer: str, mine: Sequence[Made], theirs: Sequence[Made],
    aim: float | None,
) -> Iterator[rows.Row]:  # fmt: skip
    """Yield the rows of rate and size of some runs of two ways."""
    rates = {
        "ours": [m.rate for m in mine],
        "theirs": [m.rate for m in theirs],
    }
    sizes = {
        "ours": [m.size for m in mine],
        "theirs": [m.size for m in theirs],
    }
    yield rows.compared(
        f"seed of {label}", peer, "MiB/s", rates, aim, more_is_better=True
    )
    yield rows.compared(
        f"  its size, {label}", peer, "MiB", sizes, None, more_is_better=False
    )


def bench() -> list[rows.Row]:
    ways = (("seed", ours), ("cp", copied), ("squash", squashed))
    runs: dict[tuple[str, str], list[Made]] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        both = make_sources(folder)
        cases = {"one image": both[:1], "an image and its clone": both}
        for _ in range(ROUNDS):
            for label, sources in cases.items():
                for way, make in ways:
                    made = make(sources, folder)
                    runs.setdefault((label, way), []).append(made)
        found: list[rows.Row] = []
        for label, sources in cases.items():
            mib = data_bytes(sources) // MIB
            what = f"{label} ({mib} MiB of data, zstd {LEVEL})"
            mine = runs[label, "seed"]
            cp, squash_runs = runs[label, "cp"], runs[label, "squash"]
            peer = "cp to btrfs"
            found += compared(what, peer, mine, cp, AIM)
            found += compared(what, "mksquashfs", mine, squash_runs, AIM)
    return found
