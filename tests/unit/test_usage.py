"""Levels, texts, pace and the choice of whom to pause."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import usage
from sys_pxe.errors import InvalidInput
from sys_pxe.usage import (
    MIB,
    Booted,
    Level,
    Place,
    State,
    Taker,
    Usage,
    Writer,
)


def pool(percent: int) -> Usage:
    return Usage(usage.POOL, percent * MIB, 100 * MIB)


@pytest.mark.parametrize(
    ("used", "limit", "at"),
    [
        (0, 1000, Level.OK),
        (749, 1000, Level.OK),
        (750, 1000, Level.WARNING),
        (899, 1000, Level.WARNING),
        (900, 1000, Level.CRITICAL),
        (969, 1000, Level.CRITICAL),
        (970, 1000, Level.FULL),
        (2000, 1000, Level.FULL),
        (0, 0, Level.FULL),
    ],
)
def test_levels(used: int, limit: int, at: Level) -> None:
    assert usage.level(Usage("x", used, limit)) is at


@pytest.mark.parametrize(
    ("before", "percent", "after"),
    [
        (Level.OK, 74, Level.OK),
        (Level.OK, 75, Level.WARNING),
        (Level.OK, 98, Level.FULL),
        (Level.WARNING, 70, Level.WARNING),
        (Level.WARNING, 69, Level.OK),
        (Level.CRITICAL, 85, Level.CRITICAL),
        (Level.CRITICAL, 84, Level.WARNING),
        (Level.CRITICAL, 69, Level.OK),
        (Level.FULL, 92, Level.FULL),
        (Level.FULL, 91, Level.CRITICAL),
        (Level.FULL, 84, Level.WARNING),
        (Level.FULL, 0, Level.OK),
    ],
)
def test_a_level_rises_at_once_and_falls_late(
    before: Level, percent: int, after: Level
) -> None:
    assert usage.settle(before, pool(percent)) is after


@given(st.lists(st.integers(0, 100), min_size=2))
def test_no_level_is_reached_twice_without_a_fall_of_five_points(
    walk: list[int],
) -> None:
    levels = [Level.OK]
    for percent in walk:
        levels.append(usage.settle(levels[-1], pool(percent)))
    reached: dict[Level, int] = {}
    for number, (before, after) in enumerate(pairwise(levels)):
        for at in Level:
            if not before < at <= after:
                continue
            if at in reached:
                since = walk[reached[at] : number + 1]
                assert min(since) < usage.FROM[at] - usage.BACK
            reached[at] = number


@given(st.floats(-1, 1e12), st.floats(-1e12, 1e12))
def test_the_next_look_is_within_bounds(free: float, rate: float) -> None:
    assert usage.LOOK_MIN <= usage.next_look(free, rate) <= usage.LOOK_MAX


@given(st.floats(0, 1e12), st.floats(1, 1e12))
def test_nobody_fills_a_place_between_two_looks(
    free: float, rate: float
) -> None:
    wait = usage.next_look(free, rate)
    assert wait == usage.LOOK_MIN or wait * rate <= free


@pytest.mark.parametrize(
    ("free", "rate", "wait"),
    [
        (100_000 * MIB, 0, 5.0),
        (0, 0, 0.25),
        (0, 1, 0.05),
        (1024 * MIB, 0, 1.0),
        (1024 * MIB, 512 * MIB, 0.5),
        (-5, -5, 0.25),
    ],
)
def test_the_pace(free: float, rate: float, wait: float) -> None:
    assert usage.next_look(free, rate) == wait


def test_the_reserve_is_a_thirtysecond_but_no_less_than_8_mib() -> None:
    assert usage.reserve_size(192 * MIB) == 8 * MIB
    assert usage.reserve_size(3200 * MIB) == 100 * MIB


WORK = Writer("work", 3, 80.0 * MIB)
MAIL = Writer("mail", 4, 2.0 * MIB)


def test_the_one_that_writes_most_is_paused() -> None:
    assert usage.to_pause([MAIL, WORK], 5 * MIB) == WORK


@pytest.mark.parametrize(
    ("writers", "free"),
    [
        ([], 0),
        ([Writer("Domain-0", 0, 900.0 * MIB)], 0),
        ([Writer("work", 3, 0.0), Writer("mail", 4, 0.0)], 0),
        # too slow to be the cause
        ([Writer("work", 3, 1.0 * MIB - 1)], 0),
        # what is free lasts for more than 20 s
        ([MAIL], 40 * MIB),
    ],
)
def test_nobody_is_paused_without_a_clear_reason(
    writers: list[Writer], free: int
) -> None:
    assert usage.to_pause(writers, free) is None


def test_dom0_writes_most_yet_the_largest_qube_is_paused() -> None:
    dom0 = Writer("Domain-0", 0, 900.0 * MIB)
    assert usage.to_pause([dom0, MAIL, WORK], 0) == WORK


def test_equal_writers_are_told_apart_in_any_order() -> None:
    twin = Writer("twin", 9, WORK.rate)
    assert usage.to_pause([WORK, twin], 0) == WORK
    assert usage.to_pause([twin, WORK], 0) == WORK


def test_what_is_said_of_a_pool() -> None:
    takers = [
        Taker("idle", 0),
        Taker("personal", 20 * MIB),
        Taker("work", 120 * MIB),
    ]
    found = Usage(usage.POOL, 162 * MIB - 1, 192 * MIB)
    said = usage.warning(found, Level.WARNING, takers)
    assert said.line == (
        "The VM pool is 84 % full (161 of 192 MiB). "
        "Largest: work 120 MiB, personal 20 MiB. "
        "hint: shut a qube down, or delete files in it; what a qube frees is "
        "given back."
    )
    assert said.level is Level.WARNING


def test_what_is_said_when_nobody_is_known_and_nothing_is_left() -> None:
    found = Usage(usage.OVERLAY, 100 * MIB, 100 * MIB)
    said = usage.warning(found, Level.FULL, [])
    assert said.title == "The overlay is 100 % full (100 of 100 MiB)"
    assert "Largest" not in said.text
    assert "write errors" in said.text
    assert "ram.overlay" in said.text


def test_what_is_said_of_a_pause_names_who_why_and_how_to_go_on() -> None:
    said = usage.paused(WORK, pool(98), "qvm-unpause work")
    assert said.title == "The qube work was paused"
    assert "80 MiB/s" in said.text
    assert "98 % full" in said.text
    assert "'qvm-unpause work'" in said.text
    failed = usage.not_paused(WORK, pool(98), "xl: exit status 1")
    assert "work fills the VM pool" in failed.title
    assert failed.text.startswith("xl: exit status 1.\nhint: ")


STATE = State(
    100,
    (
        Place(pool(84), Level.WARNING, (Taker("work", 5),)),
        Place(Usage(usage.OVERLAY, 1, 2), Level.OK),
    ),
    7,
    ("work",),
    True,
)


@pytest.mark.parametrize("state", [STATE, State(0, ())])
def test_a_state_is_read_as_it_was_written(state: State) -> None:
    assert usage.parse(usage.write(state)) == state


def changed(**values: object) -> bytes:
    return json.dumps({**usage.data(STATE), **values}).encode()


PLACE = {"name": "x", "used_bytes": 1, "limit_bytes": 2, "level": "ok"}


@pytest.mark.parametrize(
    ("untrusted", "said"),
    [
        (b"", "usage.json: not JSON"),
        (b"\xff", "usage.json: not JSON"),
        (b"[" * 100_000, "usage.json: not JSON"),
        (b"[]", "usage.json: expected a table"),
        (b"{}", "usage.json: uptime"),
        (changed(uptime=-1), "uptime: not in"),
        (changed(uptime=1.5), "uptime: not a whole number"),
        (changed(places=3), "places: not a list"),
        (changed(places=[{**PLACE, "level": "fine"}]), "'fine' is not a level"),
        (changed(places=[{**PLACE, "used_bytes": "1"}]), r"places\[0\].used"),
        (changed(places=[{**PLACE, "more": 1}]), "unknown key"),
        (changed(paused=[1]), "paused: not a list of texts"),
        (changed(reserve=None), "reserve: not true or false"),
        (changed(surprise=1), "surprise: unknown key"),
    ],
)
def test_a_broken_state_is_refused(untrusted: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        usage.parse(untrusted)


def test_a_name_of_a_state_cannot_steer_a_terminal() -> None:
    found = usage.parse(changed(places=[{**PLACE, "name": "\x1b[2J"}]))
    assert found.places[0].usage.name == "?[2J"


BOOT = {"client": "desk-01", "release": "r1", "serial": 5, "breaks": 0}


@pytest.mark.parametrize(
    ("more", "boundary"),
    [
        ({}, None),
        ({"pool": None}, None),
        ({"pool": {"boundary": 4096, "disksize": 1 << 28}}, 4096),
    ],
)
def test_a_boot_with_and_without_a_pool(
    more: dict[str, object], boundary: int | None
) -> None:
    untrusted = json.dumps({**BOOT, **more}).encode()
    assert usage.parse_boot(untrusted) == Booted("desk-01", "r1", 5, boundary)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"client": "a/b"}, "boot.json: client"),
        ({"serial": "5"}, "boot.json: serial"),
        ({"pool": 5}, "boot.json: pool"),
        ({"pool": {}}, "boot.json: pool.boundary"),
        ({"pool": {"boundary": -1}}, "boot.json: pool.boundary"),
    ],
)
def test_a_broken_boot_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        usage.parse_boot(json.dumps({**BOOT, **more}).encode())
