"""How full the RAM of a client is: levels, texts, when to look, whom to pause.

Two places take what is written after boot: the VM pool and dom0's overlay.
Sizes are bytes, times seconds, rates bytes a second. What people and programs
read of it, usage.json, is written and parsed here too. Pure.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from sys_pxe import names
from sys_pxe.errors import InvalidInput
from sys_pxe.fields import Table

POOL, OVERLAY = "VM pool", "overlay"
MIB = 1 << 20
# what a fallen use has to fall further, in points, before it warns again
BACK = 5
# seconds between two looks: at most this patient, at least this calm
LOOK_MAX, LOOK_MIN, LOOK_IDLE = 5.0, 0.05, 0.25
# a look comes before this share of what is free can be gone
_AHEAD = 4
# what a qube that begins to write now may reach
_BURST = 256 * MIB
# a qube that writes less than this is not what fills the pool
CLEAR_RATE = 1 * MIB
# nobody is paused while what is free lasts this long
ENOUGH = 20.0
_RESERVE_MIN, _RESERVE_SHARE = 8 * MIB, 32
_SHOWN = 3
_NAME_MAX = 100
_COUNT_MAX = 1 << 40
# as long as the reader takes it
STATE_MAX = 64 << 10


class Level(IntEnum):
    """How bad it is; the higher, the worse."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    FULL = 3


# percent from which on a level holds
FROM = {Level.OK: 0, Level.WARNING: 75, Level.CRITICAL: 90, Level.FULL: 97}


@dataclass(frozen=True)
class Usage:
    """How much of a place is taken."""

    name: str
    used_bytes: int
    limit_bytes: int

    @property
    def free_bytes(self) -> int:
        """What can still be written."""
        return max(self.limit_bytes - self.used_bytes, 0)

    @property
    def percent(self) -> int:
        """The whole percent that are taken; a place of no size is full."""
        if self.limit_bytes <= 0:
            return 100
        return 100 * self.used_bytes // self.limit_bytes


@dataclass(frozen=True)
class Taker:
    """A qube, or a folder of dom0, and what it takes."""

    name: str
    used_bytes: int


@dataclass(frozen=True)
class Writer:
    """A qube that writes to the pool, by its domain's number."""

    name: str
    domid: int
    rate: float


@dataclass(frozen=True)
class Notice:
    """What a person is told: one line, then what to know and to do."""

    level: Level
    title: str
    text: str

    @property
    def line(self) -> str:
        """All of it in one line."""
        return f"{self.title}. {self.text}".replace("\n", " ")


def level(found: Usage) -> Level:
    """Return the level of a use, whatever was before."""
    return max(at for at, low in FROM.items() if found.percent >= low)


def settle(before: Level, found: Usage) -> Level:
    """Return the level after ``before``.

    It rises at once, and falls only when the use is BACK points below the
    level's own, so that a use around a border warns once.
    """
    held = max(
        at for at, low in FROM.items() if found.percent >= low - BACK * bool(at)
    )
    return max(level(found), min(before, held))


def next_look(free: float, rate: float) -> float:
    """Return the seconds until the next look, LOOK_MIN to LOOK_MAX.

    ``rate`` is what fills the place now. A place that nobody writes to is not
    looked at more often than every LOOK_IDLE, however full it is.
    """
    least = LOOK_MIN if rate > 0 else LOOK_IDLE
    wanted = max(free, 0) / (_AHEAD * max(rate, _BURST))
    return min(max(wanted, least), LOOK_MAX)


def reserve_size(limit: int) -> int:
    """Return the size of the reserve in a pool of ``limit`` bytes."""
    return max(_RESERVE_MIN, limit // _RESERVE_SHARE)


def to_pause(writers: Sequence[Writer], free: int) -> Writer | None:
    """Return the qube to pause in a full pool, or None.

    It is the one that writes most, if it writes fast enough to be the cause
    and what is free would not last. dom0 is never paused.
    """
    qubes = [w for w in writers if w.domid != 0]
    if not qubes:
        return None
    most = max(qubes, key=lambda w: (w.rate, -w.domid))
    lasts = free >= most.rate * ENOUGH
    return None if most.rate < CLEAR_RATE or lasts else most


def largest(takers: Sequence[Taker], count: int = _SHOWN) -> tuple[Taker, ...]:
    """Return those that take most, without those that take nothing."""
    ordered = sorted(takers, key=lambda t: (-t.used_bytes, t.name))
    return tuple(t for t in ordered[:count] if t.used_bytes > 0)


_HINTS = {
    POOL: "shut a qube down, or delete files in it; what a qube frees is "
    "given back",
    OVERLAY: "delete files in dom0 there; a larger ram.overlay in the "
    "client's profile makes more room",
}


def _title(found: Usage) -> str:
    return (
        f"The {found.name} is {found.percent} % full "
        f"({found.used_bytes // MIB} of {found.limit_bytes // MIB} MiB)"
    )


def warning(found: Usage, at: Level, takers: Sequence[Taker]) -> Notice:
    """Return what to say when a place has reached a level."""
    parts = []
    if most := largest(takers):
        listed = ", ".join(f"{t.name} {t.used_bytes // MIB} MiB" for t in most)
        parts.append(f"Largest: {listed}.")
    if at is Level.FULL:
        parts.append("Programs get write errors when nothing is left.")
    said = " ".join(parts)
    hint = f"hint: {_HINTS[found.name]}."
    return Notice(at, _title(found), f"{said}\n{hint}" if said else hint)


def relief(found: Usage) -> Notice:
    """Return what to say when a place has room again."""
    return Notice(Level.OK, _title(found), "There is room again.")


def paused(who: Writer, found: Usage, go_on: str) -> Notice:
    """Return what to say when a qube was paused; ``go_on`` is a command."""
    return Notice(
        Level.FULL,
        f"The qube {who.name} was paused",
        f"It wrote {who.rate / MIB:.0f} MiB/s and the {found.name} is "
        f"{found.percent} % full; the other qubes go on.\n"
        "hint: make room (shut another qube down, or delete files in one), "
        f"then call '{go_on}' in dom0.",
    )


def not_paused(who: Writer, found: Usage, why: str) -> Notice:
    """Return what to say when a qube should have been paused."""
    return Notice(
        Level.FULL,
        f"The qube {who.name} fills the {found.name} and was not paused",
        f"{why}.\nhint: shut it down; every qube gets write errors when "
        "nothing is left.",
    )


@dataclass(frozen=True)
class Place:
    """One place as it was seen last."""

    usage: Usage
    level: Level
    largest: tuple[Taker, ...] = ()


@dataclass(frozen=True)
class State:
    """The content of usage.json.

    ``uptime`` are the seconds since power-on when it was seen, ``ram_bytes``
    what the pool really takes (compressed), ``paused`` the qubes that were
    paused and still are, ``reserve`` whether the pool's reserve is there.
    """

    uptime: int
    places: tuple[Place, ...]
    ram_bytes: int | None = None
    paused: tuple[str, ...] = ()
    reserve: bool = False


def data(state: State) -> dict[str, object]:
    """Return a state as what JSON can hold."""
    return {
        "uptime": state.uptime,
        "places": [
            {
                "name": place.usage.name,
                "used_bytes": place.usage.used_bytes,
                "limit_bytes": place.usage.limit_bytes,
                "level": place.level.name.lower(),
                "largest": [
                    {"name": t.name, "used_bytes": t.used_bytes}
                    for t in place.largest
                ],
            }
            for place in state.places
        ],
        "ram_bytes": state.ram_bytes,
        "paused": list(state.paused),
        "reserve": state.reserve,
    }


def write(state: State) -> bytes:
    """Return the bytes of usage.json."""
    return json.dumps(data(state)).encode("ascii") + b"\n"


def parse(untrusted: bytes) -> State:
    """Return the state in a usage.json, or raise InvalidInput."""
    top = _table(untrusted, "usage.json")
    ram = None
    if not top.null("ram_bytes"):
        ram = top.number("ram_bytes", 0, names.SIZE_MAX)
    found = State(
        top.number("uptime", 0, _COUNT_MAX),
        tuple(_place(row) for row in top.rows("places")),
        ram,
        tuple(names.printable(n, _NAME_MAX) for n in top.texts("paused")),
        top.flag("reserve"),
    )
    top.done()
    return found


def _place(row: Table) -> Place:
    untrusted_level = row.text("level")
    levels = {at.name.lower(): at for at in Level}
    if untrusted_level not in levels:
        raise InvalidInput(
            f"{row.where('level')}: {untrusted_level[:20]!a} is not a level "
            f"(expected one of {', '.join(levels)})"
        )
    found = Place(
        Usage(
            names.printable(row.text("name"), _NAME_MAX),
            row.number("used_bytes", 0, names.SIZE_MAX),
            row.number("limit_bytes", 0, names.SIZE_MAX),
        ),
        levels[untrusted_level],
        tuple(_taker(taker) for taker in row.rows("largest")),
    )
    row.done()
    return found


def _taker(row: Table) -> Taker:
    found = Taker(
        names.printable(row.text("name"), _NAME_MAX),
        row.number("used_bytes", 0, names.SIZE_MAX),
    )
    row.done()
    return found


@dataclass(frozen=True)
class Booted:
    """What boot.json says of this boot, as far as it matters later.

    ``boundary`` is the address in the pool from which on all is the sprout's;
    None where the release has no qubes, and so no pool.
    """

    client: str
    release: str
    serial: int
    boundary: int | None = None


def parse_boot(untrusted: bytes) -> Booted:
    """Return what a boot.json says, or raise InvalidInput."""
    top = _table(untrusted, "boot.json")
    boundary = None
    if not top.null("pool"):
        pool = top.table("pool")
        boundary = pool.number("boundary", 0, (1 << 64) - 1)
    return Booted(
        names.parse_name(top.text("client"), top.where("client")),
        names.parse_name(top.text("release"), top.where("release")),
        top.number("serial", 1, names.SERIAL_MAX),
        boundary,
    )


def _table(untrusted: bytes, source: str) -> Table:
    try:
        content = json.loads(untrusted)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{source}: not JSON") from None
    return Table(content, source)
