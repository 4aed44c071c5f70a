"""One boot of the desk with qubes: real guests of Xen from the pool in RAM."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from sys_pxe import usage
from sys_pxe.lab import golden, guests, qubes
from sys_pxe.lab.guests import MIB, Guests, Used
from sys_pxe.lab.machine import SETTLE_SECONDS, Machine
from sys_pxe.lab.world import BOOT_SECONDS, IN_RAM, QUBES_DESK, World

RELEASE = "q1"
WORK, PERSONAL, VAULT = (qube.name for qube in qubes.QUBES)
# a file that is in the template, and one that is not
GIVEN, WRITTEN = "/etc/template", guests.WRITTEN
# what the bookkeeping of btrfs takes beside the data, when a qube starts
BOOKKEEPING = 2 * MIB
# free bytes of a full pool, with those of the reserve that was given up
FULL = 24 * MIB
# and of one that is full to the last byte: less than btrfs allots at once
LAST = MIB
PATIENCE = 300
# how Qubes' rules for udev mark a qube's image, see lab/golden.py
MARKS = {
    "UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG=1",
    "DM_UDEV_DISABLE_DISK_RULES_FLAG=1",
}
RESERVE = f"/{qubes.FOLDER}/.sys-pxe-reserve"
WATCHER = "sys-pxe-watch.service"
# zeros cost no RAM, but as much of the pool as anything
FILL = (
    "(/tmp/busybox dd if=/dev/zero of=/full bs=1M conv=fsync; "
    "echo $? >/tmp/ended) >/tmp/said 2>&1 &"
)
WRITE = "dd if=/dev/urandom of=/rw/after bs=1M count=1 conv=fsync"


@dataclass(frozen=True)
class Ready:
    machine: Machine
    guests: Guests
    seed: str
    empty: Used
    taken: dict[str, int]


@pytest.fixture(scope="module")
def ready(world: World) -> Iterator[Ready]:
    """The client with all of its qubes started."""
    world.write_site(qubes=True)
    try:
        with golden.variant(world.golden(), RELEASE, {}) as tree:
            qubes.add(tree)
            world.build(RELEASE, tree)
        world.command("release", "push", RELEASE, shown=False)
        world.command("site", "push")
        world.command("channel", "set", "testing", RELEASE)
        with world.machine(QUBES_DESK) as machine:
            machine.wait_for(IN_RAM, BOOT_SECONDS)
            machine.login(BOOT_SECONDS)
            found = Guests(machine)
            seed, empty = found.seed_digest(), found.used()
            taken = {}
            for qube in qubes.QUBES:
                begun = found.start(qube.name)
                taken[qube.name] = guests.number(begun, "taken")
            yield Ready(machine, found, seed, empty, taken)
    finally:
        world.write_site()
        world.command("site", "push")


def test_each_qube_runs_from_the_template_and_has_its_own_volume(
    ready: Ready,
) -> None:
    for qube in qubes.QUBES:
        said = ready.guests.check(qube.name, f"cat {GIVEN} /rw/owner; hostname")
        assert said.split() == [qubes.TEMPLATE, qube.name, qube.name]


def test_the_qubes_that_start_with_the_system_are_those_of_the_store(
    ready: Ready,
) -> None:
    folder = "/etc/systemd/system/multi-user.target.wants"
    said = ready.machine.command(f"cd {folder} && echo qubes-vm@*")
    assert said.split() == [f"qubes-vm@{WORK}.service"]


def test_a_start_takes_nothing_but_bookkeeping(ready: Ready) -> None:
    assert max(ready.taken.values()) < BOOKKEEPING


def test_the_disks_of_a_guest_have_sectors_of_512_bytes(ready: Ready) -> None:
    said = ready.guests.check(
        WORK, "cat /sys/block/xvda/queue/logical_block_size"
    )
    assert said.strip() == "512"


def test_dom0_reads_nothing_of_the_images_of_guests(ready: Ready) -> None:
    machine = ready.machine
    images = f"^/{qubes.FOLDER}/appvms/"
    line = f"cd /sys/block && grep -l {images} loop*/loop/backing_file"
    loops = [path.split("/")[0] for path in machine.command(line).split()]
    # root and private
    assert len(loops) == 2 * len(qubes.QUBES)
    machine.command(f"udevadm settle -t {SETTLE_SECONDS}", PATIENCE)
    for loop in loops:
        line = f"udevadm info --query=property /sys/block/{loop}"
        found = machine.command(line, PATIENCE).splitlines()
        assert set(found) >= MARKS
        assert [one for one in found if one.startswith("ID_")] == []
    links = "find /dev/disk -type l -exec readlink -f {} +"
    linked = set(machine.command(links, PATIENCE).split())
    assert "/dev/sda" in linked
    assert linked.isdisjoint(f"/dev/{loop}" for loop in loops)
    # their images have a partition table, see lab/qubes.py
    nodes = "ls -d /dev/loop*p* /sys/block/loop*/loop*p* 2>/dev/null; :"
    assert machine.command(nodes).split() == []


def test_a_write_is_seen_by_nobody_else_and_discard_returns_its_ram(
    ready: Ready,
) -> None:
    assert guests.write(ready.guests, WORK) >= guests.RETURNED_MIB
    for name in (PERSONAL, VAULT):
        assert ready.guests.run(name, f"test -e {WRITTEN}").status == 1
        assert ready.guests.run(name, f"test -e {GIVEN}").status == 0
    assert guests.discard(ready.guests, WORK) >= guests.RETURNED_MIB


def test_what_is_written_is_dropped_or_kept_when_a_qube_stops(
    ready: Ready,
) -> None:
    line = "echo kept >/rw/note; echo dropped >/note; sync"
    ready.guests.check(VAULT, line)
    ready.guests.stop(VAULT)
    assert ready.guests.state(VAULT) == "off"
    ready.guests.start(VAULT)
    assert ready.guests.check(VAULT, "cat /rw/note") == "kept\n"
    assert ready.guests.run(VAULT, "test -e /note").status == 1


def test_a_volume_group_of_the_same_name_on_a_disk_is_left_alone(
    ready: Ready,
) -> None:
    disks = ready.machine.command("ls /sys/block").split()
    assert {"sda", "sdb"} <= set(disks)
    # it is there for who looks without the sealed configuration, ...
    plain = "env LVM_SYSTEM_DIR=/nonexistent vgs --noheadings -o vg_name"
    assert ready.machine.command(plain, PATIENCE).split() == [QUBES_DESK.group]
    # ... and nobody else sees it, or makes it active
    sealed = "vgs --noheadings -o vg_name; vgchange -aay; ls /dev/mapper"
    seen = ready.machine.command(sealed, PATIENCE).split()
    assert QUBES_DESK.group not in seen
    assert [name for name in seen if name.startswith("qubes")] == []


def test_one_qube_that_fills_the_pool_leaves_the_others_alive(
    ready: Ready,
) -> None:
    found = ready.guests
    found.check(PERSONAL, FILL)
    assert filled(found) < FULL
    assert found.state(PERSONAL) == "paused"
    assert PERSONAL in told_as_paused(ready.machine)
    journal = f"journalctl --no-pager -o cat -u {WATCHER}"
    said = ready.machine.command(journal, PATIENCE)
    assert re.search(f"VM pool is [0-9]+ % full.* Largest: {PERSONAL} ", said)
    assert f"The qube {PERSONAL} was paused." in said
    for name in (WORK, VAULT):
        found.check(name, WRITE)
        assert found.check(name, f"cat {GIVEN}").strip() == qubes.TEMPLATE
    found.stop(PERSONAL, kill=True)
    assert found.used().pool_free > 2 * FULL
    found.start(PERSONAL)
    found.check(PERSONAL, "echo again >/note && sync")


def filled(found: Guests) -> int:
    """Wait until the pool is full and nobody writes; return what is free."""
    until = time.monotonic() + PATIENCE
    before = -1
    while time.monotonic() < until:
        free = found.used().pool_free
        if free == before and free < FULL:
            break
        before = free
        time.sleep(5)
    return before


def told_as_paused(machine: Machine) -> tuple[str, ...]:
    """Wait until usage.json names qubes that are paused; return them."""
    until = time.monotonic() + PATIENCE
    while True:
        said = machine.command("cat /run/sys-pxe/usage.json")
        paused = usage.parse(said.encode()).paused
        if paused or time.monotonic() > until:
            return paused
        time.sleep(2)


def test_a_pool_full_to_the_last_byte_fails_its_writer_alone(
    ready: Ready,
) -> None:
    found = ready.guests
    for name in (WORK, VAULT):
        found.check(name, "sync")
    with unwatched(ready.machine):
        found.check(PERSONAL, FILL)
        assert ended(found) != 0
        # it is the pool that is full, not the qube's own volume
        said = found.check(PERSONAL, "$box cat /tmp/said; $box df -k /")
        assert "error" in said
        assert "No space left" not in said
        assert found.state(PERSONAL) == "running"
        assert found.used().pool_free < LAST
        for name in (WORK, VAULT):
            # from the volumes, not from what the guest still has in RAM
            found.check(name, "echo 3 >/proc/sys/vm/drop_caches")
            read = found.check(name, f"cat {GIVEN} /rw/owner").split()
            assert read == [qubes.TEMPLATE, name]
        found.stop(PERSONAL, kill=True)
        for name in (WORK, VAULT):
            found.check(name, WRITE)


@contextmanager
def unwatched(machine: Machine) -> Iterator[None]:
    """Nobody pauses a qube, and the pool has no reserve."""
    line = f"systemctl stop {WATCHER} && rm -f {RESERVE}"
    machine.command(line, PATIENCE)
    try:
        yield
    finally:
        machine.command(f"systemctl start {WATCHER}", PATIENCE)


def ended(found: Guests) -> int:
    """Wait until the qube writes no more; return the status of its dd."""
    until = time.monotonic() + PATIENCE
    line = "read status </tmp/ended && echo $status"
    while (answer := found.run(PERSONAL, line)).status != 0:
        assert time.monotonic() < until, f"{PERSONAL} still writes"
        time.sleep(5)
    return int(answer.output)


def test_at_last_the_pool_is_as_empty_as_it_was_and_the_seed_unchanged(
    world: World, ready: Ready
) -> None:
    for qube in qubes.QUBES:
        ready.guests.stop(qube.name)
        assert ready.guests.state(qube.name) == "off"
    most = ready.empty.zram_held + guests.LEFT_MIB * MIB
    assert ready.guests.settled(most).zram_held <= most
    assert ready.guests.seed_digest() == ready.seed
    assert world.decoy_unchanged(QUBES_DESK)
