"""From the files of a release to its artifacts: sizes, digests, chunks."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from sys_pxe import manifest, names
from sys_pxe.dom0.progress import MIB, Reporter
from sys_pxe.errors import InvalidInput
from sys_pxe.manifest import Artifact, Image, QubeSet, Role

_BUFFER = 1 << 20


def of_release(
    folder: Path,
    sets: Iterable[QubeSet],
    reporter: Reporter,
    images: Iterable[Image] = (),
    loaders: Iterable[str] = (),
) -> Iterator[Artifact]:
    """Yield the artifacts of a release's folder in the manifest's order."""
    named = [(role, role.value) for role in manifest.BOOT_ROLES]
    named += [(Role.UNIFIED, image.artifact) for image in images]
    named += [(Role.LOADER, name) for name in sorted(loaders)]
    named.append((Role.DOM0_ROOT, Role.DOM0_ROOT.value))
    for role in manifest.SET_ROLES:
        named += [(role, one.artifact(role)) for one in sets]
    for role, name in named:
        # the loader fetches a boot file whole, so it is one chunk
        whole = role in manifest.WHOLE_ROLES
        artifact = describe(folder / name, role, whole)
        yield artifact
        reporter.step(f"    {name}: {artifact.size / MIB:.1f} MiB")


def describe(path: Path, role: Role, whole: bool) -> Artifact:
    """Return the artifact that a file is; it is read once.

    ``whole`` makes it one chunk. Raises InvalidInput for a size that a
    manifest cannot hold.
    """
    size = path.stat().st_size
    limit = manifest.CHUNK_MAX if whole else names.SIZE_MAX
    if not 1 <= size <= limit:
        raise InvalidInput(f"{path}: {size} bytes (expected 1 to {limit})")
    step = size if whole else min(size, manifest.CHUNK_SIZE)
    total = hashlib.sha256()
    digests = []
    with open(path, "rb") as stream:
        for offset in range(0, size, step):
            one = hashlib.sha256()
            left = min(step, size - offset)
            while left and (part := stream.read(min(left, _BUFFER))):
                left -= len(part)
                one.update(part)
                total.update(part)
            if left:
                raise InvalidInput(f"{path} became shorter while it was read")
            digests.append(one.hexdigest())
    return Artifact(
        role, path.name, size, total.hexdigest(), step, tuple(digests)
    )


def checked(folder: Path, wanted: Artifact) -> Path:
    """Return the file of an artifact that is one chunk, as it should be.

    Raises InvalidInput for a file that was damaged since it was built, or lost.
    """
    path = folder / wanted.name
    try:
        found = describe(path, wanted.role, whole=True)
    except FileNotFoundError:
        raise InvalidInput(
            f"{path} is missing", "build a new release"
        ) from None
    if found != wanted:
        raise InvalidInput(
            f"{path} is not what the manifest of its release says",
            "it was damaged on this disk: build a new release",
        )
    return path
