"""What the benches compress: files of this machine, the same ones each time."""

import os
from collections.abc import Iterator
from pathlib import Path


def some_files(top: Path, limit: int) -> Iterator[Path]:
    """Yield files below a folder, in order, up to ``limit`` bytes."""
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_symlink() or not path.is_file():
                continue
            limit -= path.stat().st_size
            if limit < 0:
                return
            yield path
