"""What is mounted where, read from /proc/self/mountinfo (proc(5)).

The same facts as findmnt(8) shows, without its ways to write odd names.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Mount:
    """One mount. ``root`` is what of the file system is at ``target``.

    ``number`` is the device as major:minor; ``read_only`` says that the file
    system itself is, so that nobody writes to it through another mount either.
    """

    target: Path
    root: str
    number: str
    fstype: str
    source: str
    read_only: bool


def table() -> list[Mount]:
    """Return all mounts of this process in the order they were made."""
    return parse(_TABLE.read_bytes())


def parse(content: bytes) -> list[Mount]:
    """Return the mounts of a mountinfo file."""
    found = []
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        if not line:
            continue
        own, _, system = line.partition(" - ")
        fields, (fstype, source, options) = own.split(" "), system.split(" ", 2)
        found.append(
            Mount(
                target=Path(_plain(fields[4])),
                root=_plain(fields[3]),
                number=fields[2],
                fstype=fstype,
                source=_plain(source),
                read_only=options.split(",")[0] == "ro",
            )
        )
    return found


def at(mounts: Iterable[Mount], path: Path) -> Mount | None:
    """Return the mount whose root is seen at ``path``: the last one there."""
    return next((m for m in reversed(list(mounts)) if m.target == path), None)


def holding(mounts: Sequence[Mount], path: Path) -> Mount:
    """Return the mount that ``path`` lies in; there is always one for /."""
    for place in (path, *path.parents):
        if found := at(mounts, place):
            return found
    raise LookupError(path)


def below(mounts: Sequence[Mount], path: Path) -> list[Mount]:
    """Return what is mounted below ``path``, one for each place, in order."""
    inner = (m for m in mounts if path in m.target.parents)
    return list({m.target: m for m in inner}.values())


def _plain(text: str) -> str:
    # spaces, tabs, line feeds and backslashes are written as \ooo
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)
