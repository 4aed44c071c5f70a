"""A build's way to the golden image, as a process that can be ended.

``view SPEC WORK`` writes to what it has opened and says what it saw, as JSON;
``hold`` says "ready" and waits; ``fail`` raises; ``busy`` keeps a file open for
too long; ``overlay`` writes to a tree.
"""

import json
import sys
import time
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

from sys_pxe.dom0 import mounts, source
from sys_pxe.dom0.progress import Reporter
from sys_pxe.errors import SysPxeError


def text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def refused(path: Path) -> bool:
    try:
        path.write_text("x")
    except OSError:
        return True
    return False


def view(spec: Path, work: Path, said: StringIO) -> dict[str, object]:
    with source.opened(str(spec), work, Reporter(said)) as tree:
        if spec.is_dir() and (spec / "before").exists():
            (spec / "before").write_text("second")
            (spec / "after").write_text("second")
        return {
            "tree": str(tree),
            "before": text(tree / "before"),
            "after": text(tree / "after"),
            "inner": text(tree / "inner/file"),
            "refused": refused(tree / "new"),
            "empty": not list((tree / "proc").glob("*")),
        }


def main(action: str, spec: Path, work: Path) -> dict[str, object]:
    mounts.private()
    said = StringIO()
    found: dict[str, object] = {}
    try:
        if action == "view":
            found = view(spec, work, said)
        elif action == "busy":
            with (
                ExitStack() as outer,
                source.opened(str(spec), work, Reporter(said)) as tree,
            ):
                stream = outer.enter_context(open(tree / "before"))
            found = {"view": (work / source.VIEW / "before").exists()}
            assert stream.closed
        elif action == "overlay":
            with mounts.overlaid(spec, work, "made") as tree:
                (tree / "before").write_text("changed")
                found = {
                    "before": text(tree / "before"),
                    "mode": tree.stat().st_mode & 0o7777,
                }
        else:
            with source.opened(str(spec), work, Reporter(said)):
                if action == "fail":
                    raise OSError("broken")
                print("ready", flush=True)
                time.sleep(600)
    except (SysPxeError, OSError) as error:
        found = {"error": getattr(error, "message", str(error))}
        found["hint"] = getattr(error, "hint", "")
    left = [
        line
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if f" {work}" in line
    ]
    return {**found, "said": said.getvalue(), "left": left}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
