"""The qubes of a client: started, used and stopped through its console.

The work is done by lab-guest, a program of the golden image, in the client's
dom0; what it prints is taken as untrusted, as all that comes from a machine.
"""

import json
import re
import shlex
import time
from dataclasses import dataclass

from sys_pxe.errors import SysPxeError
from sys_pxe.lab.machine import Machine
from sys_pxe.lab.qubes import QUBES

MIB = 1 << 20
START_SECONDS = 700.0
STOP_SECONDS = 500.0
RUN_SECONDS = 450.0
# what a tour writes, and the least that must come back of it
WRITTEN_MIB, RETURNED_MIB = 32, 28
# the most that the private volumes of all qubes keep, journals included
LEFT_MIB = 4
WRITTEN = "/written"
SEEDS = "/run/sys-pxe/images/volumes-*"
_SETTLE_SECONDS = 60.0
_SHOWN = 200


@dataclass(frozen=True)
class Answer:
    """How a line ended in a guest, and all that it printed."""

    status: int
    output: str


@dataclass(frozen=True)
class Used:
    """What the pool takes, in bytes.

    ``zram_held`` is the RAM that the zram takes for what was written, with
    what its allocator holds idle; the others are the file system's.
    """

    zram_held: int
    pool_used: int
    pool_free: int


def parse(untrusted: str) -> dict[str, object]:
    """Return the JSON object in the last line of what lab-guest printed.

    Raises SysPxeError for anything else.
    """
    lines = untrusted.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SysPxeError(f"lab-guest said {untrusted[-_SHOWN:]!r}")
    return found


def number(found: dict[str, object], name: str) -> int:
    """Return a field that has to be a whole number of 0 or more."""
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SysPxeError(f"lab-guest said {name}: {str(value)[:_SHOWN]!r}")
    return value


def text(found: dict[str, object], name: str) -> str:
    """Return a field that has to be a text."""
    value = found.get(name)
    if not isinstance(value, str):
        raise SysPxeError(f"lab-guest said {name}: {str(value)[:_SHOWN]!r}")
    return value


class Guests:
    """The qubes of a machine that was logged in to."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def start(self, name: str) -> dict[str, object]:
        """Start a qube and wait until it answers; return lab-guest's record.

        ``seconds`` has how long each step took, ``taken`` the bytes of the
        pool that its volumes took before it ran. SysPxeError if it fails.
        """
        return self._call(START_SECONDS, "start", name)

    def stop(self, name: str, kill: bool = False) -> None:
        """Shut a qube down, or with ``kill`` end it, as qubesd does."""
        self._call(STOP_SECONDS, "stop", name, *(["--kill"] if kill else []))

    def run(self, name: str, line: str) -> Answer:
        """Run a line in a qube's shell; a status other than 0 is no error."""
        found = self._call(RUN_SECONDS, "run", name, line)
        return Answer(number(found, "status"), text(found, "output"))

    def check(self, name: str, line: str) -> str:
        """Run a line that has to succeed; return what it printed."""
        answer = self.run(name, line)
        if answer.status != 0:
            raise SysPxeError(
                f"{name}: {line!r} ended with status {answer.status}, it said "
                f"{answer.output[-_SHOWN:]!r}"
            )
        return answer.output

    def state(self, name: str) -> str:
        """Return ``running``, ``paused`` or ``off``."""
        return text(self._call(RUN_SECONDS, "state", name), "state")

    def used(self) -> Used:
        """Return what the pool takes now, after a sync."""
        found = self._call(RUN_SECONDS, "used")
        return Used(
            number(found, "zram_held"),
            number(found, "pool_used"),
            number(found, "pool_free"),
        )

    def settled(self, most: int) -> Used:
        """Wait a while until the zram takes ``most`` bytes of RAM or fewer.

        Returns what it is at last: discards are done after the write itself.
        """
        until = time.monotonic() + _SETTLE_SECONDS
        while True:
            found = self.used()
            if found.zram_held <= most or time.monotonic() > until:
                return found
            time.sleep(2)

    def seed_digest(self) -> str:
        """Return the SHA-256 of the seed in the client's RAM, in hex."""
        said = self._machine.command(
            f"openssl dgst -sha256 -r {SEEDS}", RUN_SECONDS
        )
        match = re.match(r"([0-9a-f]{64}) ", said)
        if match is None:
            raise SysPxeError(f"openssl said {said[:_SHOWN]!r}")
        return match[1]

    def _call(self, timeout: float, *words: str) -> dict[str, object]:
        line = shlex.join(["lab-guest", *words])
        return parse(self._machine.command(line, timeout))


def write(guests: Guests, name: str, mib: int = WRITTEN_MIB) -> int:
    """Write random bytes in a qube; return the MiB of RAM that they took."""
    before = guests.used().zram_held
    guests.check(
        name, f"dd if=/dev/urandom of={WRITTEN} bs=1M count={mib} && sync"
    )
    return (guests.used().zram_held - before) // MIB


def discard(guests: Guests, name: str, mib: int = RETURNED_MIB) -> int:
    """Remove what :func:`write` wrote; return the MiB that came back."""
    before = guests.used().zram_held
    guests.check(name, f"rm {WRITTEN} && sync && fstrim / && sync")
    after = guests.settled(before - mib * MIB).zram_held
    return (before - after) // MIB


def tour(machine: Machine) -> dict[str, object]:
    """Start all qubes, use them, write and discard, stop them.

    Returns ``rows``, one for each qube (``name``; ``ran``, what it printed;
    ``seconds`` of its start; ``taken_mib`` of the pool by its start; whether
    it ``saw`` what another wrote), and of the whole ``wrote_mib``,
    ``ram_returned_mib``, ``ram_left_mib`` after the last has stopped, and
    ``seed_unchanged``.
    """
    guests = Guests(machine)
    seed = guests.seed_digest()
    empty = guests.used()
    rows: list[dict[str, object]] = []
    for qube in QUBES:
        begun = guests.start(qube.name)
        rows.append({
            "name": qube.name,
            "seconds": begun.get("seconds"),
            "taken_mib": number(begun, "taken") / MIB,
            "ran": guests.check(
                qube.name, "echo $(hostname) of $(cat /etc/template)"
            ).strip(),
        })  # fmt: skip
    writer = QUBES[0].name
    wrote = write(guests, writer)
    for row in rows:
        seen = guests.run(str(row["name"]), f"test -e {WRITTEN}")
        row["saw"] = seen.status == 0
    returned = discard(guests, writer)
    for qube in QUBES:
        guests.stop(qube.name)
    most = empty.zram_held + LEFT_MIB * MIB
    left = guests.settled(most).zram_held - empty.zram_held
    return {
        "rows": rows,
        "wrote_mib": wrote,
        "ram_returned_mib": returned,
        "ram_left_mib": left / MIB,
        "seed_unchanged": guests.seed_digest() == seed,
    }
