"""What every command gets: places, transport, and where to print.

Values from outside are shown through ``shown``; a table or JSON is printed to
stdout, progress to stderr.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import names
from sys_pxe.dom0 import sitefile, transports
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.state import State
from sys_pxe.dom0.transport import Transport
from sys_pxe.site import Site

STATE_FOLDER = Path("/var/lib/sys-pxe")
SITE_FILE = Path("/etc/sys-pxe/site.yaml")
_CELL_MAX = 100


@dataclass(frozen=True)
class Context:
    """The global options of one call, and its surroundings."""

    state: State
    site_file: Path
    transport_spec: str | None
    reporter: Reporter
    json: bool = False
    # seconds since 1970
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def now(self) -> int:
        """Return the time in whole seconds since 1970."""
        return int(self.clock())

    def transport(self, *, start: bool = True) -> Transport:
        """Return the transport; UsageError when there is none.

        Without ``start`` a qube that is off stays off: its calls raise
        NotRunning.
        """
        return transports.choose(
            self.transport_spec, self.reporter.step, start=start
        )

    @property
    def has_transport(self) -> bool:
        """Whether one is set, or this is a machine that has one."""
        return bool(self.transport_spec or transports.default())

    def site(self) -> Site:
        """Return the checked site of the site file."""
        return sitefile.load(self.site_file)[1]

    def show(self, text: str) -> None:
        """Print lines for a person."""
        sys.stdout.write(text + "\n")

    def warn(self, text: str) -> None:
        """Say on stderr what a person should look at, also with --quiet."""
        sys.stderr.write(f"sys-pxe: warning: {text}\n")

    def show_json(self, value: object) -> None:
        """Print a value as JSON; control characters come out escaped."""
        sys.stdout.write(json.dumps(value, indent=1) + "\n")

    def show_table(
        self, head: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """Print columns, as wide as their widest cell."""
        cells = [list(head), *([shown(cell) for cell in r] for r in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            padded = zip(row, widths, strict=True)
            self.show("  ".join(c.ljust(w) for c, w in padded).rstrip())


def shown(value: object) -> str:
    """Return one table cell: printable, bounded, ``-`` for nothing."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return shown(", ".join(str(item) for item in value))
    return names.printable(str(value), _CELL_MAX)


def mib(nbytes: int) -> str:
    """Return bytes as MiB with one digit."""
    return f"{nbytes / (1 << 20):.1f} MiB"
