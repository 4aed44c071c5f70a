"""File systems on loop devices with a golden image, and builds that read it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.dom0 import marks

REPOSITORY = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).with_name("source_probe.py")
MIB = 1 << 20


@contextmanager
def mounted(what: Path | str, where: Path, *options: str) -> Iterator[Path]:
    files.make_folder(where)
    run.run(["mount", *options, "--", str(what), str(where)])
    try:
        yield where
    finally:
        run.run(["umount", str(where)])


def image(path: Path, mib: int, *maker: str) -> Path:
    files.new_sparse(path, mib * MIB).close()
    run.run([*maker, str(path)])
    return path


def fill(tree: Path) -> None:
    for name in ("proc", "boot", "inner"):
        files.make_folder(tree / name)
    (tree / "before").write_text("first")
    (tree / "inner/file").write_text("inner")


@dataclass(frozen=True)
class Place:
    """A file system: its image, its top, and the golden image on it."""

    image: Path
    top: Path
    golden: Path
    work: Path

    def snapshots(self) -> list[str]:
        return [p.name for p in self.top.glob(f"*{marks.PREFIX}*")]


def argv(action: str, spec: Path, work: Path) -> list[str]:
    return [sys.executable, str(PROBE), action, str(spec), str(work)]


def probe(action: str, spec: Path, work: Path) -> dict[str, object]:
    env = {"PYTHONPATH": str(REPOSITORY)}
    found = json.loads(run.run(argv(action, spec, work), env=env).stdout)
    assert isinstance(found, dict)
    assert found["left"] == []
    return found


@contextmanager
def held(place: Place) -> Iterator["subprocess.Popen[bytes]"]:
    child = run.spawn(
        argv("hold", place.golden, place.work),
        stdout=run.PIPE,
        stderr=run.DEVNULL,
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()
