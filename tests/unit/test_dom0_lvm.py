"""Logical volumes: what lvs says, names, snapshots that never stay."""

import json
import os
import signal
import sys
import threading
from io import StringIO

import pytest

from sys_pxe.dom0 import lvm, marks
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.stopping import STOPS, stoppable, undisturbed
from sys_pxe.errors import InvalidInput, SysPxeError
from tests.lvm_double import Lvm, row, said

ROOT = row("qubes_dom0/root", attr="Vwi-aotz--", pool="root-pool",
           number="253:4")  # fmt: skip
POOL = row("qubes_dom0/root-pool", attr="twi-aotz--", pool="", number="253:2")
SWAP = row("qubes_dom0/swap", attr="-wi-ao----", pool="", number="253:0")
TEMPLATE = row("qubes_dom0/vm-debian-13-root", size=20 << 30)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Lvm:
    made = Lvm([ROOT, POOL, SWAP, TEMPLATE])
    made.install(monkeypatch)
    return made


def left(number: int = 1) -> str:
    # no process has this id: the kernel's highest is 2^22
    return f"vm-{marks.PREFIX}4194304-77-{number}-snap"


def test_what_lvs_says_is_read() -> None:
    root, pool, swap, template = lvm.parse(said(ROOT, POOL, SWAP, TEMPLATE))
    assert (root.vid, root.number) == ("qubes_dom0/root", "253:4")
    assert (root.is_thin, root.is_open) == (True, True)
    assert (pool.is_thin, swap.is_thin) == (False, False)
    assert (template.size, template.is_open) == (20 << 30, False)


def test_no_volume_at_all_is_no_error() -> None:
    assert lvm.parse(b'{"report": [{"lv": []}]}') == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b'{"report": 5}',
        b'{"report": [{"lv": [5]}]}',
        b'{"report": [{}]}',
        json.dumps({"report": [{"lv": [{"vg_name": "v"}]}]}).encode(),
        said({**ROOT, "lv_size": "4.00g"}),
    ],
)
def test_what_is_not_the_json_of_lvs_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="lvs"):
        lvm.parse(content)


@pytest.mark.parametrize(
    ("size", "percent", "mapped"),
    [
        (200 << 30, "0.00", 0),
        (200 << 30, "0.01", (200 << 30) // 10_000),
        (20 << 30, "12.34", (20 << 30) * 1234 // 10_000),
        (20 << 30, "100.00", 20 << 30),
        # the last chunk may reach beyond the volume's end
        (20 << 30, "100.02", 20 << 30),
        (0, "0.00", 0),
        # not active, a failed pool, and what LVM does not write
        *((20 << 30, text, None) for text in ("", "-1.00", "nan", "5", "1,00")),
        *((20 << 30, text, None) for text in ("1e9", "1000.00", "5.00\n")),
    ],
)
def test_what_is_mapped_of_a_thin_volume(
    size: int, percent: str, mapped: int | None
) -> None:
    (found,) = lvm.parse(said(row("v/t", size=size, percent=percent)))
    assert found.mapped == mapped


@pytest.mark.parametrize(
    "vid", ["qubes_dom0/vm-work-private", "a/b", "x+1/y.2"]
)
def test_names_of_volumes(vid: str) -> None:
    assert lvm.parse_vid(vid, "x") == vid


@pytest.mark.parametrize(
    "vid",
    [
        *("", "a", "a/", "/b", "a/b/c", "a/-b", "-a/b", "a/b c", "a/b\n"),
        *("../b", "a/..", "a/.", "--yes/x", "a/\u00e9", "a/b;reboot"),
        "a/" + "b" * 200,
    ],
)
def test_hostile_names_of_volumes_are_refused(vid: str) -> None:
    with pytest.raises(InvalidInput, match="work:root"):
        lvm.parse_vid(vid, "work:root")


def test_volumes_are_found_by_name_and_by_number(world: Lvm) -> None:
    found = lvm.volumes()
    assert lvm.find(found, "qubes_dom0/root") == lvm.by_number(found, "253:4")
    assert lvm.find(found, "qubes_dom0/roo") is None
    assert lvm.by_number(found, "253:44") is None


def snapshots(world: Lvm) -> list[str]:
    return [vid for vid in world.vids if marks.PREFIX in vid]


def root_of(world: Lvm) -> lvm.Lv:
    found = lvm.find(lvm.volumes(), "qubes_dom0/root")
    assert found
    return found


def test_a_snapshot_is_there_in_the_block_only(world: Lvm) -> None:
    with lvm.snapshot(root_of(world)) as device:
        assert [f"/dev/{vid}" for vid in snapshots(world)] == [str(device)]
        # what keeps dom0's udev and qubesd away from it
        assert device.name.startswith("vm-")
        assert device.name.endswith("-snap")
        assert lvm.parse_vid(f"qubes_dom0/{device.name}", "x")
    assert snapshots(world) == []
    assert len(world.rows) == 4


def test_two_snapshots_have_two_names(world: Lvm) -> None:
    root = root_of(world)
    with lvm.snapshot(root) as one, lvm.snapshot(root) as two:
        assert one != two
        assert len(snapshots(world)) == 2
    assert snapshots(world) == []


def test_an_lvcreate_that_fails_half_way_leaves_nothing(world: Lvm) -> None:
    world.half = True
    with (
        pytest.raises(SysPxeError, match=r"lvcreate.*in use"),
        lvm.snapshot(root_of(world)),
    ):
        pytest.fail("there is no snapshot")
    assert snapshots(world) == []


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_ends_the_block_and_the_snapshot(
    world: Lvm, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), lvm.snapshot(root_of(world)):
        assert len(snapshots(world)) == 1
        os.kill(os.getpid(), number)
        pytest.fail("the signal did not end it")
    assert snapshots(world) == []
    assert signal.getsignal(number) == before


def test_a_signal_waits_until_lvcreate_has_ended(world: Lvm) -> None:
    def interrupt(argv: list[str]) -> None:
        if argv[0] == "lvcreate":
            os.kill(os.getpid(), signal.SIGTERM)

    world.before = interrupt
    with pytest.raises(KeyboardInterrupt), lvm.snapshot(root_of(world)):
        pytest.fail("the signal was lost")
    assert snapshots(world) == []
    assert [c[0] for c in world.calls if c[0] != "lvs"] == [
        *("lvcreate", "lvchange", "lvremove")
    ]


def test_a_signal_waits_also_when_another_thread_takes_it(world: Lvm) -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        test_a_signal_waits_until_lvcreate_has_ended(world)
    finally:
        done.set()
        other.join()


def test_more_signals_do_not_end_the_undoing(world: Lvm) -> None:
    def again(argv: list[str]) -> None:
        if argv[0] == "lvremove":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGHUP)

    world.before = again
    with (
        pytest.raises(KeyboardInterrupt),
        stoppable(),
        lvm.snapshot(root_of(world)),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
    assert snapshots(world) == []


def test_an_ignored_hang_up_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_programs_inherit_that_they_are_undisturbed() -> None:
    from sys_pxe import run  # noqa: PLC0415 (the real one)

    code = (
        "import signal; print(sorted(signal.pthread_sigmask("
        "signal.SIG_BLOCK, [])))"
    )
    with undisturbed():
        inside = run.run([sys.executable, "-c", code]).stdout
    outside = run.run([sys.executable, "-c", code]).stdout
    for number in STOPS:
        assert number.name.encode() in inside
        assert number.name.encode() not in outside


def test_what_a_killed_build_left_is_removed(world: Lvm) -> None:
    world.rows.append(row(f"qubes_dom0/{left()}"))
    stream = StringIO()
    lvm.sweep(lvm.volumes(), Reporter(stream))
    assert snapshots(world) == []
    assert left() in stream.getvalue()
    assert len(world.rows) == 4


def test_a_snapshot_of_a_build_that_runs_stays(world: Lvm) -> None:
    world.rows.append(row(f"qubes_dom0/{marks.new_lv()}"))
    lvm.sweep(lvm.volumes(), Reporter(StringIO()))
    assert len(snapshots(world)) == 1


def test_what_cannot_be_removed_is_told_and_does_not_stop_the_build(
    world: Lvm,
) -> None:
    world.rows.append(row(f"qubes_dom0/{left()}"))
    world.busy = True
    stream = StringIO()
    lvm.sweep(lvm.volumes(), Reporter(stream))
    assert "warning" in stream.getvalue()
    assert "in use" in stream.getvalue()


def test_marks_tell_whose_a_snapshot_is() -> None:
    pid, start = marks.new().removeprefix(marks.PREFIX).split("-")[:2]
    assert int(pid) == os.getpid()
    assert not marks.is_left(marks.new())
    assert not marks.is_left(marks.new_lv())
    # the id of this process, taken by an earlier one
    assert marks.is_left(f"{marks.PREFIX}{pid}-{int(start) - 1}-1")
    assert marks.is_left(left())


@pytest.mark.parametrize(
    "name",
    [
        *("root", "vm-work-root-snap", marks.PREFIX, f"{marks.PREFIX}x-1-1"),
        f"vm-{marks.PREFIX}private",
        f"my-{marks.PREFIX}4194304-77-1",
        f"{marks.PREFIX}4194304-77-1-important",
        f"{marks.PREFIX}4194304-77",
        f"{marks.PREFIX}4194304-77-1\n",
    ],
)
def test_what_no_build_has_made_is_never_removed(name: str) -> None:
    assert not marks.is_left(name)
