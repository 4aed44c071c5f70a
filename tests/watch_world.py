"""A client as its watcher sees it: files as /sys has them, strict hands."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sys_pxe import usage
from sys_pxe.client import watch
from sys_pxe.client.measure import Places, Room
from sys_pxe.client.xen import Domain
from sys_pxe.errors import SysPxeError
from sys_pxe.usage import MIB, Level, Notice

UUID = "1a3a2e83-abe0-4054-a7b3-775c18523ff5"
LIMIT = 1000 * MIB
DOM0 = Domain(0, "Domain-0", False)
WORK = Domain(3, "work", False)
MAIL = Domain(5, "mail", False)


def put(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


@dataclass
class World:
    """A client's surroundings. ``free`` is what statvfs says, in MiB."""

    top: Path
    free: int = 1000
    overlay_free: int = 100
    now: float = 1000.0
    running: list[Domain] = field(default_factory=lambda: [DOM0, WORK, MAIL])
    # what the watcher did, in its order
    did: list[str] = field(default_factory=list)
    told: list[Notice] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    waiting: list[watch.Job] = field(default_factory=list)
    # program -> the failure that it ends in
    broken: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = Places(
            self.top / "run", self.top / "pool", self.top / "sys"
        )
        self.places.pool.mkdir()
        self.places.changes.mkdir(parents=True)
        put(self.sys / "block/zram0/disksize", LIMIT)
        put(self.sys / "block/zram0/mm_stat", "100 50 777 0 800 0 0 0")
        self.allocation("may_use", 0)
        self.allocation("reserved", 0)

    @property
    def sys(self) -> Path:
        return self.places.sys

    def allocation(self, name: str, value: int) -> None:
        fs = self.sys / "fs/btrfs" / UUID
        put(fs / "devices/zram0/size", 1)
        put(fs / "allocation/data" / f"bytes_{name}", value)

    def wrote(self, domid: int, mib: int, disk: int = 51712) -> None:
        folder = self.sys / f"bus/xen-backend/devices/vbd-{domid}-{disk}"
        put(folder / "statistics/wr_sect", mib * MIB // 512)

    def backing(self, domid: int, path: str, disk: int = 51712) -> None:
        folder = self.sys / f"bus/xen-backend/devices/vbd-{domid}-{disk}"
        put(folder / "physical_device", f"7:{domid + 10:x}")
        block = self.sys / f"dev/block/7:{domid + 10}"
        put(block / "loop/backing_file", path)

    def room(self, path: Path) -> Room:
        if path == self.places.pool:
            return Room(9 * LIMIT, self.free * MIB)
        assert path == self.places.changes
        return Room(100 * MIB, self.overlay_free * MIB)

    def _fail(self, program: str) -> None:
        if program in self.broken:
            raise SysPxeError(self.broken[program])

    def domains(self) -> list[Domain]:
        self._fail("list")
        return self.running

    def stop(self, domid: int) -> None:
        self._fail("pause")
        assert domid in {d.domid for d in self.running if not d.paused}
        self.did.append(f"pause {domid}")
        self.running = [
            Domain(d.domid, d.name, d.paused or d.domid == domid)
            for d in self.running
        ]

    def adopt(self, domid: int, name: str) -> str:
        assert self.did[-1] == f"pause {domid}"
        self.did.append(f"adopt {domid} {name}")
        return f"qvm-unpause {name}"

    def journal(self, text: str, level: Level) -> None:
        self.said.append(text)

    def hands(self, later: Callable[[watch.Job], None]) -> watch.Hands:
        return watch.Hands(
            clock=lambda: self.now,
            room=self.room,
            domains=self.domains,
            stop=self.stop,
            adopt=self.adopt,
            tell=self.told.append,
            journal=self.journal,
            later=later,
        )

    def watcher(self, boundary: int | None = 0) -> watch.Watch:
        hands = self.hands(lambda job: job())
        return watch.Watch(boundary, self.places, hands)

    def state(self) -> usage.State:
        return usage.parse(self.places.state.read_bytes())

    def titles(self) -> list[str]:
        return [notice.title.split(" (")[0] for notice in self.told]
