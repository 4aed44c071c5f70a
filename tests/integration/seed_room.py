"""Sources of a seed, its build, and what a build must not leave behind."""

import random
from collections.abc import Sequence
from pathlib import Path

from sys_pxe import run
from sys_pxe.dom0 import seed
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.volumes import Item

MIB = 1 << 20
QUIET = Reporter(quiet=True)


def loops() -> list[str]:
    return run.run(["losetup", "--all"]).stdout.decode().splitlines()


def assert_nothing_left(folder: Path) -> None:
    assert [line for line in loops() if str(folder) in line] == []
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert not (folder / "seed").exists()


def noise(path: Path, count: int, number: int = 1) -> Path:
    maker = random.Random(number)
    with path.open("wb") as stream:
        for at in range(0, count, MIB):
            stream.write(maker.randbytes(min(MIB, count - at)))
    return path


def build(
    folder: Path,
    items: Sequence[Item],
    folders: Sequence[str] = (),
    level: int = 3,
    gid: int = 0,
) -> Path:
    target = folder / "seed.img"
    seed.build(target, items, folders, folder, level, QUIET, gid)
    return target


def item(target: str, source: Path) -> Item:
    return Item(target, source, source.stat().st_size)
