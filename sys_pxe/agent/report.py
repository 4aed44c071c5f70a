"""What clients say about themselves: parsed strictly, kept in bounds.

Reports are unauthenticated hints. They inform people and decide nothing.
"""

import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path

from sys_pxe import files, measured, names
from sys_pxe.errors import InvalidInput
from sys_pxe.fields import Table
from sys_pxe.site import load_json

STAGES = (
    *("network", "manifest", "ram", "fetch", "root", "pool", "handover"),
    "failed",
)
MESSAGE_MAX = 200
SECONDS_MAX = 10_000_000
UNKNOWN_MAX = 256
EVENTS_MAX = 5000
EVENTS_SHOWN = 1000
DOCUMENT_MAX = 4096

_SCHEMA = """
CREATE TABLE IF NOT EXISTS clients (
    mac TEXT PRIMARY KEY, client TEXT NOT NULL, release TEXT NOT NULL,
    stage TEXT NOT NULL, bytes INTEGER NOT NULL, total INTEGER NOT NULL,
    seconds INTEGER NOT NULL, message TEXT NOT NULL, seen INTEGER NOT NULL,
    dom0_mib INTEGER NOT NULL, pc_mib INTEGER NOT NULL,
    mtu INTEGER NOT NULL DEFAULT 0, quote TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, seen INTEGER NOT NULL,
    mac TEXT NOT NULL, client TEXT NOT NULL, release TEXT NOT NULL,
    stage TEXT NOT NULL, seconds INTEGER NOT NULL, message TEXT NOT NULL
);
"""
# columns that the first agents did not have
_ADDED = {
    "mtu": "INTEGER NOT NULL DEFAULT 0",
    "quote": "TEXT NOT NULL DEFAULT ''",
}


@dataclass(frozen=True)
class Report:
    """One report; texts that were not given are empty, numbers 0.

    ``dom0_mib`` is what dom0's kernel has, ``pc_mib`` what is plugged in,
    ``mtu`` that of its card, ``quote`` its TPM's word on what was booted
    (``measured.encode``), which only dom0 can judge.
    """

    mac: str
    client: str
    release: str
    stage: str
    bytes: int
    total: int
    seconds: int
    message: str
    dom0_mib: int
    pc_mib: int
    mtu: int
    quote: str


@dataclass(frozen=True)
class LastState(Report):
    """A client's last report; ``seen`` is in seconds since 1970."""

    seen: int


@dataclass(frozen=True)
class Event:
    """A step that a client took; ``time`` is in seconds since 1970."""

    time: int
    mac: str
    client: str
    release: str
    stage: str
    seconds: int
    message: str


def parse(untrusted: bytes) -> Report:
    """Return the report that these bytes are, or raise InvalidInput."""
    if len(untrusted) > DOCUMENT_MAX:
        raise InvalidInput(f"report: larger than {DOCUMENT_MAX} bytes")
    data = _whole_seconds(load_json(untrusted, "report"))
    table = Table(data, "report")

    def name(key: str) -> str:
        if not table.has(key):
            return ""
        return names.parse_name(table.text(key), table.where(key))

    def number(key: str, high: int) -> int:
        return table.number(key, 0, high) if table.has(key) else 0

    stage = table.text("stage") if table.has("stage") else ""
    if stage not in (*STAGES, ""):
        raise InvalidInput(
            f"{table.where('stage')}: {names.printable(stage, 20)!r} is not "
            f"a stage (expected one of {', '.join(STAGES)})"
        )
    message = table.text("message") if table.has("message") else ""
    quote = table.text("quote") if table.has("quote") else ""
    if quote:
        measured.decode(quote, table.where("quote"))
    found = Report(
        mac=names.parse_mac(table.text("mac"), table.where("mac")),
        client=name("client"),
        release=name("release"),
        stage=stage,
        bytes=number("bytes", names.SIZE_MAX),
        total=number("total", names.SIZE_MAX),
        seconds=number("seconds", SECONDS_MAX),
        message=names.printable(message, MESSAGE_MAX),
        dom0_mib=number("dom0_mib", names.REPORTED_RAM_MAX_MIB),
        pc_mib=number("pc_mib", names.REPORTED_RAM_MAX_MIB),
        mtu=number("mtu", names.MTU_MAX),
        quote=quote,
    )
    table.done()
    return found


def _whole_seconds(untrusted: object) -> object:
    """Round a fraction of seconds, so that what is kept is whole numbers."""
    if not isinstance(untrusted, dict):
        return untrusted
    untrusted_time = untrusted.get("seconds")
    if isinstance(untrusted_time, float) and 0 <= untrusted_time <= SECONDS_MAX:
        return {**untrusted, "seconds": round(untrusted_time)}
    return untrusted


class Reports:
    """The database of last states and events. The daemon alone writes."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            # readers see no database, or one that has its tables
            new = path.with_name(path.name + ".new")
            files.remove(new)
            _made(new).close()
            files.rename(new, path)
        self._db = _made(path)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def add(self, report: Report, client: str | None, now: int) -> None:
        """Keep a report; ``client`` is the site's name for its MAC, or None.

        A step becomes an event only when it is another than the last one.
        """
        known = client or ""
        values = {**asdict(report), "client": known, "seen": now}
        last = self._db.execute(
            "SELECT stage, message, release FROM clients WHERE mac = ?",
            (report.mac,),
        ).fetchone()
        self._db.execute("BEGIN")
        self._db.execute(
            "INSERT OR REPLACE INTO clients (mac, client, release, stage,"
            " bytes, total, seconds, message, dom0_mib, pc_mib, mtu, quote,"
            " seen) VALUES (:mac, :client, :release, :stage, :bytes, :total,"
            " :seconds, :message, :dom0_mib, :pc_mib, :mtu, :quote, :seen)",
            values,
        )
        if last is None or last != (
            report.stage, report.message, report.release
        ):  # fmt: skip
            self._add_event(values)
        if not known:
            self._db.execute(
                "DELETE FROM clients WHERE client = '' AND mac NOT IN (SELECT"
                " mac FROM clients WHERE client = '' ORDER BY seen DESC, mac"
                " LIMIT ?)",
                (UNKNOWN_MAX,),
            )
        self._db.execute("COMMIT")

    def _add_event(self, values: dict[str, object]) -> None:
        done = self._db.execute(
            "INSERT INTO events (seen, mac, client, release, stage, seconds,"
            " message) VALUES (:seen, :mac, :client, :release, :stage,"
            " :seconds, :message)",
            values,
        )
        self._db.execute(
            "DELETE FROM events WHERE id <= ?",
            ((done.lastrowid or 0) - EVENTS_MAX,),
        )

    def keep_known(self, macs: set[str]) -> None:
        """Forget the last states of clients that the site no longer names."""
        rows = self._db.execute("SELECT mac FROM clients WHERE client != ''")
        gone = [(mac,) for (mac,) in rows.fetchall() if mac not in macs]
        self._db.executemany("DELETE FROM clients WHERE mac = ?", gone)


def read_states(path: Path) -> list[LastState]:
    """Return every client's last state, named ones first."""
    with _reader(path) as database:
        rows = database.execute(
            "SELECT mac, client, release, stage, bytes, total, seconds,"
            " message, dom0_mib, pc_mib, mtu, quote, seen FROM clients"
            " ORDER BY client = '', client, mac"
        )
        return [LastState(*row) for row in rows]


def read_events(path: Path, limit: int = EVENTS_SHOWN) -> list[Event]:
    """Return the last events, newest last."""
    with _reader(path) as database:
        rows = database.execute(
            "SELECT seen, mac, client, release, stage, seconds, message"
            " FROM events ORDER BY id DESC LIMIT ?",
            (limit,),
        )
        return [Event(*row) for row in rows][::-1]


def _made(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    # hints: a crash may lose the last ones, never the database
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("PRAGMA journal_size_limit=4194304")
    database.executescript(_SCHEMA)
    columns = database.execute("PRAGMA table_info(clients)").fetchall()
    known = [name for _, name, *_ in columns]
    for name, form in _ADDED.items():
        if name not in known:
            # made by an agent that did not know it yet
            database.execute(f"ALTER TABLE clients ADD COLUMN {name} {form}")
    return database


class _reader:  # noqa: N801
    """A connection for reading; an empty database when there is none yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        if self._path.is_file():
            uri = f"file:{self._path}?mode=ro"
            self._db = sqlite3.connect(uri, uri=True, timeout=5)
        else:
            self._db = sqlite3.connect(":memory:")
            self._db.executescript(_SCHEMA)
        return self._db

    def __exit__(self, *_: object) -> None:
        self._db.close()
