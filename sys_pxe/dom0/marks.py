"""The names of a build's snapshots: they tell which process made them.

A build that was killed leaves its snapshots; the next one knows them by their
names and by the process being gone, and removes them.
"""

import itertools
import os
import re
from contextlib import suppress
from pathlib import Path

PREFIX = "sys-pxe-build-"
# dom0's udev rules leave logical volumes vm-* alone: their content is a
# qube's, and a copy of the root must not take the place of the root in
# /dev/disk/by-uuid. qubesd takes *-snap for no volume of its own.
_LV_BEFORE, _LV_AFTER = "vm-", "-snap"
# of a folder among people's own: hidden
_HIDDEN = "."
FOLDERS = f"{_HIDDEN}{PREFIX}*"
_MARK = re.compile(
    rf"(?:{_LV_BEFORE}|{re.escape(_HIDDEN)})?{PREFIX}([0-9]{{1,10}})-([0-9]{{1,20}})-[0-9]+"
    rf"(?:{_LV_AFTER})?"
)
_numbers = itertools.count(1)


def new() -> str:
    """Return a name for a snapshot of this process."""
    pid = os.getpid()
    return f"{PREFIX}{pid}-{_started(pid)}-{next(_numbers)}"


def new_lv() -> str:
    """Return a name for a logical volume of this process."""
    return f"{_LV_BEFORE}{new()}{_LV_AFTER}"


def new_folder() -> str:
    """Return a name for a hidden folder of this process."""
    return f"{_HIDDEN}{new()}"


def is_left(name: str) -> bool:
    """Say whether a snapshot has the name of a build that has ended."""
    match = _MARK.fullmatch(name)
    return match is not None and _started(int(match[1])) != int(match[2])


def _started(pid: int) -> int | None:
    """Return when a process began, in ticks since boot; None: it is gone."""
    with suppress(OSError):
        said = Path(f"/proc/{pid}/stat").read_bytes()
        # proc(5): field 22, after the command in parentheses, which is field 2
        fields = said.rpartition(b")")[2].split()
        # a zombie holds nothing any more
        return None if fields[0] in b"ZX" else int(fields[19])
    return None
