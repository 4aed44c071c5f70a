"""The guide's quotes of screens: blocks of the pages, by their kind.

``screen`` blocks hold what sys-pxe says, ``firmware`` blocks what firmware,
iPXE and Xen say. ``...`` stands for what differs from PC to PC.
"""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
# (firmware, path) of the boot matrix -> the page for such PCs
PAGES = {
    ("bios", "pxe"): "guide-bios.md",
    ("uefi", "pxe"): "guide-uefi.md",
    ("uefi", "http"): "guide-http.md",
    ("bios", "ipxe"): "guide-ipxe.md",
    ("uefi", "ipxe"): "guide-ipxe.md",
    ("bios", "stick"): "boot-stick.md",
    ("uefi", "stick"): "boot-stick.md",
}


def quoted(page: str, kind: str) -> list[str]:
    """Return the lines of a page's blocks of a kind, without indentation."""
    text = (DOCS / page).read_text("utf-8")
    blocks = re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)
    lines = (line.strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def pattern(line: str) -> str:
    """Return a regular expression for a quoted line."""
    return ".+".join(re.escape(part) for part in line.split("..."))


def unseen(lines: list[str], shown: str) -> list[str]:
    """Return the quoted lines that are not among those that were shown."""
    return [
        line
        for line in lines
        if not re.search(rf"^\s*{pattern(line)}\s*$", shown, re.M)
    ]
