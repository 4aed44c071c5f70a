"""Qubes' own store in the pool: qubes.xml, its folders, what starts at boot.

The ``qubes`` artifact is JSON, verified by its digest: the text of qubes.xml,
and the names of the qubes that start with the system.
"""

from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files, names, site
from sys_pxe.document import DOCUMENT_MAX
from sys_pxe.fields import Table

_UNIT = "/usr/lib/systemd/system/qubes-vm@.service"
_WANTS = "etc/systemd/system/multi-user.target.wants"


@dataclass(frozen=True)
class Store:
    """What the artifact holds."""

    xml: str
    autostart: tuple[str, ...]


def parse(untrusted: bytes) -> Store:
    """Return the store that these bytes are, or raise InvalidInput."""
    top = Table(site.load_json(untrusted, "qubes"), "qubes")
    where = top.where("autostart")
    found = Store(
        top.text("qubes.xml"),
        tuple(names.parse_qube(q, where) for q in top.texts("autostart")),
    )
    top.done()
    return found


def read(path: Path) -> Store:
    """Return the store in an artifact's file."""
    return parse(files.read_capped(path, DOCUMENT_MAX))


def write(found: Store, pool: Path, root: Path, upper: Path) -> None:
    """Write qubes.xml into the pool, the links of units into the overlay.

    ``root`` is dom0's root, read only: its folders of /var/lib/qubes, which
    the pool is mounted over, are made in the pool where they are missing.
    """
    gid = files.group_number(root / "etc/group", "qubes")
    below = root / "var/lib/qubes"
    for folder in sorted(below.iterdir()) if below.is_dir() else []:
        if folder.is_dir() and not folder.is_symlink():
            made = files.make_folder(pool / folder.name)
            files.set_owner(made, folder.stat().st_uid, folder.stat().st_gid)
            files.set_mode(made, folder.stat().st_mode & 0o7777)
    # qubesd replaces it by renaming, so it lies in the pool itself
    files.write(pool / "qubes.xml", found.xml.encode("utf-8"), 0o660)
    files.set_owner(pool / "qubes.xml", 0, gid)
    wants = files.make_folder(upper / _WANTS)
    for name in found.autostart:
        files.link_to(wants / f"qubes-vm@{name}.service", _UNIT)
