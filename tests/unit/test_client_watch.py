"""The watcher over a tree of files as /sys has it, with strict hands."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sys_pxe import files, run, usage
from sys_pxe.client import extents, measure, notify, watch, xen
from sys_pxe.client.measure import Places, Room
from sys_pxe.client.xen import Domain
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.usage import MIB, Level, Notice, Taker

REPOSITORY = Path(__file__).resolve().parents[2]
UUID = "1a3a2e83-abe0-4054-a7b3-775c18523ff5"
LIMIT = 1000 * MIB
BOOT = {"client": "desk-01", "release": "r1", "serial": 5}
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


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def full(world: World, **rates: int) -> watch.Watch:
    """A watcher of a pool that domains fill with so many MiB each second."""
    found = world.watcher()
    for domid in rates:
        world.wrote(int(domid[1:]), 100)
    found.look()
    world.now += 1
    for domid, rate in rates.items():
        world.wrote(int(domid[1:]), 100 + rate)
    world.free = 25
    return found


# what is read


def test_the_pool_is_what_a_writer_can_still_get(world: World) -> None:
    world.free = 400
    found = measure.pool(world.places, world.room)
    assert found == usage.Usage("VM pool", 600 * MIB, LIMIT)


def test_what_is_written_but_not_allocated_counts(world: World) -> None:
    world.free = 400
    world.allocation("may_use", 300 * MIB)
    world.allocation("reserved", 50 * MIB)
    assert measure.pool(world.places, world.room).free_bytes == 50 * MIB
    world.allocation("may_use", 900 * MIB)
    assert measure.pool(world.places, world.room).percent == 100


def test_another_btrfs_is_not_asked(world: World) -> None:
    other = world.sys / "fs/btrfs/other"
    put(other / "devices/loop0/size", 1)
    put(other / "allocation/data/bytes_may_use", 900 * MIB)
    assert measure.pool(world.places, world.room).used_bytes == 0


def test_a_file_system_larger_than_its_disk_is_not_below_zero(
    world: World,
) -> None:
    world.free = 5000
    assert measure.pool(world.places, world.room).used_bytes == 0


@pytest.mark.parametrize("content", ["0", "", "many"])
def test_no_pool_is_an_error(world: World, content: str) -> None:
    put(world.sys / "block/zram0/disksize", content)
    with pytest.raises(SysPxeError, match="the VM pool is gone"):
        measure.pool(world.places, world.room)


def test_a_qubes_disks_are_added_up(world: World) -> None:
    world.wrote(3, 1)
    world.wrote(3, 2, disk=51728)
    world.wrote(5, 7)
    put(world.sys / "bus/xen-backend/devices/vif-3-0/statistics/wr_sect", 9)
    put(world.sys / "bus/xen-backend/devices/vbd-x-1/statistics/wr_sect", 9)
    put(world.sys / "bus/xen-backend/devices/vbd-6-1/mode", "r")
    assert measure.written(world.places) == {3: 3 * MIB, 5: 7 * MIB, 6: 0}


def test_a_disk_outside_of_the_pool_does_not_count(world: World) -> None:
    pool = world.places.pool
    for domid, path in (
        (3, f"{pool}/appvms/work/private-dirty.img (deleted)"),
        (4, "/home/user/stick.img"),
        (5, f"{pool}2/x"),
        (6, f"{world.places.run}/pool/appvms/mail/private-dirty.img"),
    ):
        world.wrote(domid, 1)
        world.backing(domid, path)
    assert measure.written(world.places) == {3: MIB, 6: MIB}


def test_who_took_what_of_the_pool(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = world.places.pool
    put(pool / "appvms/work/private.img", "x")
    put(pool / "appvms/work/root-dirty.img", "x")
    (pool / "appvms/work/link").symlink_to("private.img")
    put(pool / "appvms/broken/private.img", "x")
    put(pool / "appvms/stray", "x")
    put(pool / "vm-templates/deb\x1b/root.img", "x")

    def own_of(paths: list[Path], boundary: int) -> int:
        assert boundary == 77
        if paths[0].parent.name == "broken":
            raise OSError(errno.EIO, "broken")
        return len(paths) * MIB

    monkeypatch.setattr(extents, "own_of", own_of)
    assert measure.pool_takers(world.places, 77) == [
        Taker("broken", 0),
        Taker("work", 2 * MIB),
        Taker("deb?", MIB),
    ]


def test_which_folders_took_the_overlay(world: World) -> None:
    upper = world.places.changes / "upper"
    for name in ("var/log/a/b", "var/log/c", "home/user/d", "top"):
        path = upper / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100_000)
    (upper / "loop").symlink_to(upper)
    sizes = {t.name: t.used_bytes for t in measure.overlay_takers(world.places)}
    assert sizes["/var/log"] >= 200_000 > sizes["/home/user"] >= 100_000
    assert set(sizes) == {"/", "/var", "/var/log", "/home", "/home/user"}
    assert sum(
        t.used_bytes for t in measure.overlay_takers(world.places, 3)
    ) < sum(sizes.values())


def test_nothing_changed_yet_is_no_error(world: World) -> None:
    assert measure.overlay_takers(world.places) == []
    assert measure.pool_takers(world.places, 0) == []


def test_the_room_of_a_real_file_system(tmp_path: Path) -> None:
    found = measure.room(tmp_path)
    assert 0 <= found.free <= found.total
    with pytest.raises(OSError, match="No such file"):
        measure.room(tmp_path / "none")


# rates


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rates = watch.Rates()
    assert rates.add(0, {3: 1000}) == {3: 0}
    assert rates.add(1, {3: 3000}) == {3: 2000}
    assert rates.add(2, {3: 3000, 4: 9999}) == {3: 1000, 4: 0}
    assert rates.add(3, {3: 3000, 4: 9999}) == {3: 0, 4: 0}
    # it came back with another counter
    assert rates.add(4, {3: 10}) == {3: 0}
    assert rates.add(4, {}) == {}


def test_writers_are_qubes_with_their_device_models() -> None:
    running = [
        DOM0,
        Domain(7, "win-dm", False),
        Domain(6, "win", False),
        Domain(8, "late-dm", False),
        Domain(9, "held", True),
    ]
    rates = {6: 1.0, 7: 2.0, 8: 4.0, 9: 8.0, 99: 16.0}
    assert watch.writers(running, rates) == [
        usage.Writer("win", 6, 3.0),
        usage.Writer("late-dm", 8, 4.0),
    ]


# what is done


def test_a_calm_client_is_left_alone(world: World) -> None:
    found = world.watcher()
    put(world.places.reserve, "x")
    # nobody writes: 1000 MiB last for four looks, if somebody begins
    assert found.look() == 1000 / 1024
    world.free, world.overlay_free, world.now = 300, 60, world.now + 10
    assert found.look() == 300 / 1024
    assert (world.did, world.told, world.said) == ([], [], [])


def test_the_more_is_written_the_sooner_is_the_next_look(world: World) -> None:
    found = world.watcher()
    world.wrote(3, 100)
    found.look()
    world.now, world.free = world.now + 1, 100
    world.wrote(3, 600)
    # 100 MiB at 900 MiB/s
    assert found.look() == usage.LOOK_MIN


def test_each_level_is_told_once_with_who_took_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.places.pool / "appvms/work/private.img", "x")
    monkeypatch.setattr(extents, "own_of", lambda *_: 5 * MIB)
    found = world.watcher()
    for free in (1000, 251, 250, 270, 240, 100, 120, 99, 29, 310, 301, 240):
        world.free, world.now = free, world.now + 1
        found.look()
    assert world.titles() == [
        "The VM pool is 75 % full",
        "The VM pool is 90 % full",
        "The VM pool is 97 % full",
        "The VM pool is 69 % full",
        "The VM pool is 76 % full",
    ]
    assert "Largest: work 5 MiB." in world.told[0].text
    assert world.told[3].level is Level.OK


def test_the_overlay_is_told_apart(world: World) -> None:
    found = world.watcher(None)
    world.overlay_free = 5
    assert found.look() == watch.OVERLAY_EVERY
    assert world.titles() == ["The overlay is 95 % full"]
    assert world.told[0].level is Level.CRITICAL
    state = world.state()
    assert [p.usage.name for p in state.places] == ["overlay"]
    assert (state.ram_bytes, state.reserve) == (None, False)


def test_the_state_is_written_at_a_change_and_each_minute(
    world: World,
) -> None:
    found = world.watcher()
    seen = []
    for now, free in ((0, 900), (59, 800), (60, 800), (61, 200), (119, 190)):
        world.now, world.free = float(now), free
        found.look()
        state = world.state()
        seen.append((state.uptime, state.places[1].usage.used_bytes // MIB))
    assert seen == [(0, 100), (0, 100), (60, 200), (61, 800), (61, 800)]
    assert world.state().ram_bytes == 777
    assert world.places.state.stat().st_mode & 0o777 == 0o644


def test_who_took_what_is_not_looked_up_again_for_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def takers(*_: object) -> list[Taker]:
        looked.append(int(world.now))
        return [Taker("work", 1)]

    monkeypatch.setattr(measure, "pool_takers", takers)
    found = world.watcher()
    for now, free in ((0, 900), (60, 891), (120, 889), (180, 889), (190, 100)):
        world.now, world.free = float(now), free
        found.look()
        assert world.state().places[1].largest == (Taker("work", 1),)
    assert looked == [0, 120, 190]


def test_the_largest_writer_of_a_full_pool_is_paused(world: World) -> None:
    found = full(world, d3=80, d5=9)
    found.look()
    assert world.did == ["pause 3", "adopt 3 work"]
    assert world.titles() == [
        "The qube work was paused",
        "The VM pool is 97 % full",
    ]
    assert "80 MiB/s" in world.told[0].text
    assert "'qvm-unpause work'" in world.told[0].text
    assert world.state().paused == ("work",)
    # the other's 9 MiB/s last for a while, and work is not paused twice
    world.free = 200
    world.now += 1
    found.look()
    assert world.did == ["pause 3", "adopt 3 work"]


def test_one_that_goes_on_writing_after_the_first_is_next(
    world: World,
) -> None:
    found = full(world, d3=80, d5=9)
    found.look()
    world.now, world.free = world.now + 0.1, 10
    found.look()
    assert world.did[2:] == ["pause 5", "adopt 5 mail"]
    assert world.state().paused == ("mail", "work")


def test_a_qube_that_goes_on_again_is_no_longer_shown(world: World) -> None:
    found = full(world, d3=80)
    found.look()
    assert world.state().paused == ("work",)
    world.running = [DOM0, WORK, MAIL]
    world.free, world.now = 1000, world.now + 60
    found.look()
    assert world.state().paused == ()


@pytest.mark.parametrize(
    ("rates", "free"),
    [
        # not full yet
        ({"d3": 80}, 31),
        # dom0 itself
        ({"d0": 80}, 25),
        # too slow to be the cause
        ({"d3": 0, "d5": 0}, 0),
        ({"d3": 1}, 25),
    ],
)
def test_nobody_is_paused_without_need(
    world: World, rates: dict[str, int], free: int
) -> None:
    found = full(world, **rates)
    world.free = free
    found.look()
    assert world.did == []


def test_a_pause_that_fails_is_told_and_not_tried_again_at_once(
    world: World,
) -> None:
    world.broken["pause"] = "xl pause 3: exit status 1"
    found = full(world, d3=80)
    for step in (0, 1, 5):
        world.now += step
        world.wrote(3, 180 + 500 * step)
        found.look()
    assert [t for t in world.titles() if "paused" in t] == [
        "The qube work fills the VM pool and was not paused"
    ]
    assert world.told[0].text.startswith("xl pause 3: exit status 1.")
    del world.broken["pause"]
    world.now += 5
    world.wrote(3, 9000)
    found.look()
    assert world.did == ["pause 3", "adopt 3 work"]


def test_xl_that_tells_nothing_does_not_end_the_watch(world: World) -> None:
    world.broken["list"] = "xl list: exit status 1"
    found = full(world, d3=80)
    found.look()
    assert world.said == ["xl list: exit status 1"]
    assert world.titles() == ["The VM pool is 97 % full"]


# the reserve


def test_the_reserve_is_made_given_up_and_made_again(world: World) -> None:
    reserve = world.places.reserve
    found = world.watcher()
    there = []
    for free in (1000, 11, 10, 9, 251, 250, 251, 300):
        world.free, world.now = free, world.now + 1
        found.look()
        there.append(reserve.exists())
    assert there == [True, True, True, False, True, True, True, True]
    reserve.unlink()
    world.free = 250
    found.look()
    assert not reserve.exists()
    assert world.said == ["the VM pool's reserve is in use"]


def test_the_state_tells_at_once_that_the_reserve_is_gone(
    world: World,
) -> None:
    found = world.watcher()
    found.look()
    world.free = 10
    found.look()
    assert world.state().reserve
    world.free = 9
    found.look()
    assert not world.state().reserve


def test_the_reserve_takes_room(world: World) -> None:
    world.watcher().look()
    found = world.places.reserve.stat()
    assert found.st_size == LIMIT // 32
    assert found.st_blocks * 512 >= found.st_size
    assert world.state().reserve


def test_a_qube_is_paused_before_the_reserve_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = full(world, d3=80)
    world.free = 1
    remove = files.remove

    def removed(path: Path) -> None:
        world.did.append(f"remove {path.name}")
        remove(path)

    monkeypatch.setattr(files, "remove", removed)
    found.look()
    assert world.did[-1] == "remove .sys-pxe-reserve"
    assert world.did[0] == "pause 3"


def test_a_reserve_that_cannot_be_made_is_tried_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def allocate(path: Path, size: int) -> None:
        tries.append(world.now)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "allocate", allocate)
    found = world.watcher()
    for now in (0.0, 5.0, 9.0, 10.0):
        world.now = now
        found.look()
    assert tries == [0.0, 10.0]
    text = "the VM pool's reserve: No space left on device"
    assert world.said == [text, text]


# xl and qvm-pause

LIST = """\
Name                                        ID   Mem VCPUs\tState\tTime(s)
Domain-0                                     0  4000     4     r-----     120.5
work                                         3   400     2     --p---      12.3
sys-net-dm                                   5   144     1     -b----       1.0
(null)                                       6     0     1     --psrd       9.9
torn line
"""


def test_the_domains_that_xl_lists() -> None:
    assert xen.parse_list(LIST) == [
        DOM0,
        Domain(3, "work", True),
        Domain(5, "sys-net-dm", False),
        Domain(6, "(null)", True),
    ]
    assert xen.parse_list("") == []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs, the only one that is looked into."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(run, "_PATH", str(folder))
    return folder


def program(folder: Path, name: str, *known: str) -> None:
    """A program that fails at a call that it does not know."""
    cases = "".join(f"'{words}') ;;\n" for words in known)
    path = folder / name
    path.write_text(
        f'#!/bin/sh\necho "{name} $*" >>{folder}/log\n'
        f'case "$*" in\n{cases}*) echo no such call >&2; exit 9;;\nesac\n'
    )
    path.chmod(0o755)


def calls(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


def test_a_qube_is_stopped_by_xl(programs: Path) -> None:
    program(programs, "xl", "pause 3")
    xen.stop(3)
    assert calls(programs) == ["xl pause 3"]
    with pytest.raises(SysPxeError, match="no such call"):
        xen.stop(4)


def test_qubes_pause_takes_the_place_of_xls(programs: Path) -> None:
    program(programs, "xl", "unpause 3")
    program(programs, "qvm-pause", "-- work")
    assert xen.adopt(3, "work") == "qvm-unpause work"
    assert calls(programs) == ["qvm-pause -- work", "xl unpause 3"]


def test_without_qubes_xls_pause_stays(programs: Path) -> None:
    program(programs, "xl")
    assert xen.adopt(3, "work") == "xl unpause 3"
    program(programs, "qvm-pause", "-- other")
    assert xen.adopt(3, "work") == "xl unpause 3"
    assert xen.adopt(3, "--all") == "xl unpause 3"
    assert calls(programs) == ["qvm-pause -- work"]


def test_two_pauses_need_two_commands(programs: Path) -> None:
    program(programs, "xl")
    program(programs, "qvm-pause", "-- work")
    assert xen.adopt(3, "work") == "xl unpause 3; qvm-unpause work"


def test_the_list_comes_from_xl(programs: Path) -> None:
    path = programs / "xl"
    path.write_text(f"#!/bin/sh\n[ \"$*\" = list ] && echo '{LIST}'\n")
    path.chmod(0o755)
    assert DOM0 in xen.domains()
    path.unlink()
    with pytest.raises(SysPxeError, match="'xl' is not installed"):
        xen.domains()


# the program


class Stop(Exception):
    pass


def sleeper(waits: list[float], count: int) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == count:
            raise Stop

    return sleep


def test_what_cannot_be_read_is_told_once_and_tried_again(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    put(world.sys / "block/zram0/disksize", "0")
    waits: list[float] = []
    found = world.watcher()
    with pytest.raises(Stop):
        watch.watch(found, sleeper(waits, 2))
    assert waits == [5.0, 5.0]
    assert capsys.readouterr().err.count("the VM pool is gone") == 1
    put(world.sys / "block/zram0/disksize", LIMIT)
    with pytest.raises(Stop):
        watch.watch(found, sleeper(waits, 3))
    assert waits[2] == 1000 / 1024


def test_a_job_that_fails_is_told_and_the_next_one_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    worker = watch.Worker()
    ran: list[int] = []

    def fails() -> None:
        raise ZeroDivisionError("x")

    worker.later(fails)
    worker.later(lambda: ran.append(1))
    worker.once()
    assert ran == []
    worker.once()
    assert ran == [1]
    assert capsys.readouterr().err == "<4>unexpected ZeroDivisionError: x\n"


def test_what_takes_long_is_left_to_the_second_thread(world: World) -> None:
    hands = world.hands(world.waiting.append)
    found = watch.Watch(0, world.places, hands)
    world.free = 20
    found.look()
    assert (world.told, world.places.state.exists()) == ([], False)
    for job in world.waiting:
        job()
    assert world.titles() == ["The VM pool is 98 % full"]
    assert world.state().places[1].level is Level.FULL


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), ("{}", "client"), ("x", "not JSON")],
)
def test_where_this_is_no_client_that_is_an_error(
    world: World, content: str | None, said: str
) -> None:
    if content is not None:
        put(world.places.boot, content)
    with pytest.raises(SysPxeError, match=said):
        watch.booted(world.places)


def test_a_boot_that_is_too_large_is_refused(world: World) -> None:
    put(world.places.boot, json.dumps({"client": "x" * 100_000}))
    with pytest.raises(InvalidInput, match="larger than"):
        watch.booted(world.places)


def test_the_program_ends_where_it_cannot_watch(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(watch, "Places", lambda: world.places)
    assert watch.main(["x"]) == 2
    assert watch.main([]) == 1
    said = capsys.readouterr().err
    assert "usage: sys-pxe-watch\n" in said
    assert "<2>" in said
    assert "on clients that sys-pxe has booted" in said


def test_the_program_watches_with_a_second_thread(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.places.boot, json.dumps({**BOOT, "pool": {"boundary": 0}}))
    given = world.hands(lambda job: job())
    written = threading.Event()

    def hands(later: Callable[[watch.Job], None]) -> watch.Hands:
        assert later.__name__ == "later"

        def both(job: watch.Job) -> None:
            later(job)
            later(written.set)

        return replace(given, later=both)

    def sleep(_: float) -> None:
        assert written.wait(60)
        raise Stop

    monkeypatch.setattr(watch, "Places", lambda: world.places)
    monkeypatch.setattr(watch, "Hands", hands)
    monkeypatch.setattr(time, "sleep", sleep)
    before = os.umask(0o077)
    try:
        with pytest.raises(Stop):
            watch.main([])
    finally:
        os.umask(before)
    assert world.state().reserve
    assert world.places.state.stat().st_mode & 0o777 == 0o644


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Path]:
    """The launcher as in the real root, with its path to the package."""
    launcher = REPOSITORY / "sys_pxe/client/files/sys-pxe-watch"
    text = launcher.read_text()
    assert text.count("/usr/lib/sys-pxe") == 1
    assert os.access(launcher, os.X_OK)
    copy = tmp_path / "sys-pxe-watch"
    copy.write_text(text.replace("/usr/lib/sys-pxe", str(REPOSITORY)))
    yield copy


def test_the_launcher_starts_as_its_unit_says(installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-ISB", str(installed), "x"],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (2, "usage: sys-pxe-watch\n")
    unit = REPOSITORY / "sys_pxe/client/files/sys-pxe-watch.service"
    assert (
        "ExecStart=/usr/bin/python3 -ISB /usr/lib/sys-pxe/sys-pxe-watch\n"
        in unit.read_text()
    )


def test_hands_are_the_real_ones_unless_given() -> None:
    hands = watch.Hands()
    assert (hands.stop, hands.adopt) == (xen.stop, xen.adopt)
    assert (hands.tell, hands.room) == (notify.tell, measure.room)
