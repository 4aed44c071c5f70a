"""The watcher as a program: its threads, its failures, its launcher."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sys_pxe.client import measure, notify, watch, xen
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.usage import Level
from tests.watch_world import LIMIT, World, put

REPOSITORY = Path(__file__).resolve().parents[2]
BOOT = {"client": "desk-01", "release": "r1", "serial": 5}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


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
