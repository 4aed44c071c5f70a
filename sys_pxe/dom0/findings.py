"""What 'sys-pxe doctor' judges by, and what it says. Pure.

Most facts come from the sys-pxe qube and, through it, from the LAN. They were
parsed and are printable; they inform people and decide nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sys_pxe.dom0.answer_status import RemoteAsked, Status
from sys_pxe.dom0.answers import RemoteRelease
from sys_pxe.pointer import Pointer
from sys_pxe.site import Site

PROBLEM, NOTE = "problem", "note"


@dataclass(frozen=True)
class Finding:
    """Something to look at; ``severity`` is PROBLEM or NOTE."""

    what: str
    why: str
    next_step: str
    severity: str = PROBLEM


@dataclass(frozen=True)
class Facts:
    """All that is judged; ``now`` is dom0's clock, in seconds since 1970.

    ``offered`` are the clients that asked and started nothing since.
    ``pointers`` are those that dom0 sent; ``secure_boot`` says whether there
    are keys for it, None where that cannot be seen.
    """

    now: int
    status: Status
    releases: tuple[RemoteRelease, ...] = ()
    offered: tuple[RemoteAsked, ...] = ()
    site: Site | None = None
    pointers: Mapping[str, Pointer] = field(default_factory=dict)
    secure_boot: bool | None = None

    @property
    def agent_now(self) -> int:
        """The qube's clock, which dates what it saw."""
        return self.now if self.status.time is None else self.status.time

    def on_channels(self) -> Iterator[tuple[str, RemoteRelease]]:
        """Yield channel and release, for each that names one."""
        known = {release.release: release for release in self.releases}
        for name, channel in sorted(self.status.channels.items()):
            if channel is not None and channel.release in known:
                yield name, known[channel.release]
