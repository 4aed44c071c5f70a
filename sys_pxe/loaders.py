"""Which build of iPXE a PC's firmware is given. Pure.

There are two for each firmware: one that uses the firmware's own driver of the
network card, and one that brings drivers. Each starts on hardware where the
other hangs, so both are served and the site chooses.
"""

from dataclasses import dataclass

from sys_pxe import names
from sys_pxe.errors import InvalidInput
from sys_pxe.fields import Table

# The site's word -> file name on the LAN; the first is the default.
BIOS = {"undionly": "undionly.kpxe", "ipxe": "ipxe.pxe"}
UEFI = {"snponly": "snponly.efi", "ipxe": "ipxe.efi"}
FILES = (*BIOS.values(), *UEFI.values())
# Where distributions have them: Debian's folder, Fedora's; and under which
# names. Fedora has no ipxe.pxe.
FOLDERS = ("usr/lib/ipxe", "usr/share/ipxe")
SPELLINGS = {
    "undionly.kpxe": ("undionly.kpxe",),
    "ipxe.pxe": ("ipxe.pxe",),
    "snponly.efi": ("snponly.efi", "ipxe-snponly-x86_64.efi"),
    "ipxe.efi": ("ipxe.efi", "ipxe-x86_64.efi"),
}


@dataclass(frozen=True)
class Loaders:
    """The site's words for the two firmwares; None: not said here."""

    bios: str | None = None
    uefi: str | None = None

    def over(self, below: "Loaders") -> "Loaders":
        """Return this choice, and what lies below where it says nothing."""
        return Loaders(self.bios or below.bios, self.uefi or below.uefi)


UNSAID = Loaders()
DEFAULT = Loaders(next(iter(BIOS)), next(iter(UEFI)))


def parse(table: Table) -> Loaders:
    """Return the choice in a table ``loader`` of the site."""
    found = Loaders(_word(table, "bios", BIOS), _word(table, "uefi", UEFI))
    table.done()
    return found


def _word(table: Table, key: str, known: dict[str, str]) -> str | None:
    if not table.has(key):
        return None
    untrusted = table.text(key)
    if untrusted not in known:
        raise InvalidInput(
            f"{table.where(key)}: {names.printable(untrusted, 60)!r} is not a "
            "loader",
            f"one of: {', '.join(known)}",
        )
    return untrusted
