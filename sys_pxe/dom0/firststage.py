"""iPXE as a Secure Boot PC's firmware starts it: signed with the owner's key.

The loader is taken from this PC's own packages, or from the golden image, never
from the sys-pxe qube: what comes from there must not get a signature. It goes
into the release as an artifact, so that it reaches the qube as all else does.
"""

from pathlib import Path

from sys_pxe import loaders
from sys_pxe.dom0 import securekeys, unified
from sys_pxe.dom0.progress import Reporter


def find(roots: tuple[Path, ...]) -> dict[str, Path]:
    """Return artifact -> file of the loaders in the first root that has it."""
    found = {}
    for name in sorted(loaders.UEFI.values()):
        for path in (
            root / folder / spelling
            for root in roots
            for folder in loaders.FOLDERS
            for spelling in loaders.SPELLINGS[name]
        ):
            if path.is_file():
                found[name] = path
                break
    return found


def build_all(
    sources: dict[str, Path],
    folder: Path,
    keys: securekeys.Keys,
    reporter: Reporter,
) -> tuple[str, ...]:
    """Sign the loaders into ``folder`` and return the artifacts' names.

    Raises InvalidInput for a loader that is no EFI file, SysPxeError where
    sbsign fails.
    """
    if "snponly.efi" not in sources:
        reporter.step(
            "    note: no snponly.efi to sign, PCs with Secure Boot cannot "
            "start: install ipxe-bootimgs-x86 (Debian: ipxe)"
        )
    for name, source in sources.items():
        unified.read(source)
        securekeys.sign_image(source, folder / name, keys)
        reporter.step(f"    {name}: signed, from {source}")
    return tuple(sources)
