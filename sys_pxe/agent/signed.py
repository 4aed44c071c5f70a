"""Loaders with the owner's signature: from a release into the TFTP folder.

They take the place of the distribution's, which firmware with Secure Boot
refuses; other firmware starts them as well. One serves all clients, so it is
that of the newest release that a channel names.
"""

from collections.abc import Iterable

from sys_pxe import files, loaders
from sys_pxe.agent.store import Store
from sys_pxe.manifest import Artifact, Manifest, Role


def served(
    releases: Iterable[Manifest],
) -> tuple[tuple[Manifest, Artifact], ...]:
    """Return the loaders of the newest release that has some."""
    for release in sorted(releases, key=lambda m: m.serial, reverse=True):
        found = tuple(
            (release, artifact)
            for artifact in release.artifacts
            if artifact.role is Role.LOADER
            and artifact.name in loaders.UEFI.values()
            and len(artifact.digests) == 1
        )
        if found:
            return found
    return ()


def put(store: Store, releases: Iterable[Manifest]) -> None:
    """Put the signed loaders of these releases where firmware asks.

    What is there stays when no release has one. OSError where a chunk is
    missing; the other files of the folder are not touched.
    """
    for _, artifact in served(releases):
        content = (store.chunks / artifact.digests[0]).read_bytes()
        target = store.tftp / artifact.name
        if not target.is_file() or target.read_bytes() != content:
            files.write(target, content)
