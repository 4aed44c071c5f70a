"""The client's side of the fetch bench: ADDRESS MANIFEST TARGET."""

import sys
from pathlib import Path

from sys_pxe import manifest
from sys_pxe.client import fetch, memory


def main(address: str, description: Path, target: Path) -> None:
    artifact = manifest.parse(description.read_bytes()).artifacts[0]
    progress = fetch.Progress(artifact.size)
    with memory.new_image(target, artifact.size) as place:
        fetch.fetch((address, 80), artifact, place, progress, lambda: None)
    if (progress.done, progress.breaks) != (artifact.size, 0):
        sys.exit(f"not a clean fetch: {progress}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
