"""One boot of one client, and all that must hold in the dom0 that it gives."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sys_pxe import manifest, signature
from sys_pxe.lab.machine import Machine
from sys_pxe.lab.world import BOOT_SECONDS, DESKS, IN_RAM, RAM_MIB, World

DESK = DESKS[0]
ETHERNET, IDE = "0200", "0101"


@dataclass(frozen=True)
class Ready:
    machine: Machine
    found: dict[str, object]
    own: dict[str, object]


@pytest.fixture(scope="module")
def ready(world: World) -> Iterator[Ready]:
    # a second card, which must never be released
    with world.machine(DESK, more_nics=("virtio-net-pci",)) as machine:
        machine.wait_for(IN_RAM, BOOT_SECONDS)
        machine.login(BOOT_SECONDS)
        found = machine.probe()
        own = found["boot"]
        assert isinstance(own, dict)
        yield Ready(machine, found, own)


def test_dom0_runs_on_xen(ready: Ready) -> None:
    assert ready.found["hypervisor"] == "xen"


def test_the_root_is_an_overlay_over_a_squashfs_in_ram(ready: Ready) -> None:
    root = json.dumps(ready.found["root"])
    assert all(kind in root for kind in ("overlay", "squashfs", "tmpfs"))
    source = ready.machine.command("losetup --noheadings -O BACK-FILE -a")
    assert source.strip().endswith("/dom0-root")
    kind = ready.machine.command("stat -f -c %T /run/sys-pxe/images")
    assert kind.strip() == "tmpfs"


def test_it_is_the_release_and_the_client_that_the_site_names(
    world: World, ready: Ready
) -> None:
    signed = (world.state / "releases/r1/manifest").read_bytes()
    public = world.agent_root / "key.pem"
    release = manifest.parse(signature.opened(signed, public, "r1"))
    assert ready.own["release"] == release.release == "r1"
    assert ready.own["serial"] == release.serial
    assert ready.own["client"] == ready.found["hostname"] == DESK.name
    image = release.find(manifest.Role.DOM0_ROOT)
    assert ready.own["bytes_received"] == image.size
    assert ready.own["breaks"] == 0


def test_there_is_no_network_but_lo(ready: Ready) -> None:
    assert ready.own["interfaces"] == ["lo"]
    assert ready.found["interfaces"] == ["lo"]


def test_both_cards_and_the_disk_controller_are_held_by_pciback(
    ready: Ready,
) -> None:
    held = ready.found["pciback"]
    assert isinstance(held, dict)
    classes = sorted(str(c).removeprefix("0x")[:4] for c in held.values())
    assert classes == [IDE, ETHERNET, ETHERNET]


def test_the_drivers_of_the_card_are_unloaded(ready: Ready) -> None:
    loaded = ready.machine.command("cut -d' ' -f1 /proc/modules").split()
    assert "xen_pciback" in loaded
    assert "e1000" not in ready.machine.command(
        "ls -l /sys/bus/pci/devices/*/driver"
    )


def test_no_disk_is_seen_and_no_swap_is_active(ready: Ready) -> None:
    block = ready.found["block"]
    assert isinstance(block, dict)
    assert not [name for name in block if not name.startswith(("loop", "zram"))]
    assert ready.found["swap_kib"] == 0


def test_nothing_failed_on_the_way(ready: Ready) -> None:
    failed = ready.machine.command("systemctl --failed --no-legend --plain")
    assert failed.strip() == ""


def test_the_server_saw_it_through_to_the_handover(
    world: World, ready: Ready
) -> None:
    row = world.client_row(DESK)
    assert (row["stage"], row["release"]) == ("handover", "r1")
    assert row["bytes"] == row["total"] == ready.own["bytes_received"]
    # dom0's by its kernel, the PC's by the firmware's tables
    assert row["dom0_mib"] == ready.own["dom0_mib"]
    assert row["pc_mib"] == RAM_MIB


def test_the_screen_is_a_login_that_names_the_release(
    world: World, ready: Ready
) -> None:
    issue = ready.machine.command("cat /run/issue.d/sys-pxe.issue")
    assert "desk-01: release r1" in issue
    picture = world.folder / "ready.png"
    ready.machine.screenshot(picture)
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_the_watcher_looks_at_the_overlay_of_a_client_without_qubes(
    ready: Ready,
) -> None:
    state = ready.machine.command("systemctl is-active sys-pxe-watch")
    assert state.strip() == "active"


def test_qubes_memory_reports_are_off_and_dom0_mem_is_fixed(
    ready: Ready,
) -> None:
    # qmemman takes tmpfs for cache: it would take RAM from dom0 that holds
    # the release, so dom0 must not report, and Xen must not give it a range
    state = ready.machine.command(
        "systemctl is-enabled qubes-meminfo-writer-dom0.service; true"
    )
    assert state.strip() == "masked"
    options = re.search(
        r"\(XEN\) Command line: (.*)", ready.machine.console.text
    )
    assert options is not None
    assert "dom0_mem=1536M,max:1536M" in options[1]


def test_changes_are_capped_and_the_user_is_warned(ready: Ready) -> None:
    said = ready.machine.command(
        "dd if=/dev/zero of=/root/big bs=1M count=400 2>&1; true", 120
    )
    assert "No space left" in said
    warned = ready.machine.command(
        "for i in $(seq 60); do journalctl -u sys-pxe-watch --no-pager | "
        "grep -q 'full' && break; sleep 1; done; "
        "journalctl -u sys-pxe-watch --no-pager -o cat",
        300,
    )
    assert "full" in warned and "/root" in warned
    ready.machine.command("rm /root/big; echo fine > /root/small")
    assert ready.machine.command("cat /root/small").strip() == "fine"


def test_with_a_full_overlay_one_can_log_in_and_shut_down(
    ready: Ready,
) -> None:
    # to the last byte: large pieces, then small ones
    ready.machine.command(
        "for size in 1M 4k 1; do dd if=/dev/zero of=/root/big.$size "
        "bs=$size 2>/dev/null; done; true",
        300,
    )
    free = ready.machine.command("stat -f -c %a /run/sys-pxe/changes")
    assert free.strip() == "0"
    said = len(ready.machine.console.text)
    ready.machine.send("exit\n")
    ready.machine.login(BOOT_SECONDS, after=said)
    assert ready.machine.command("hostname").strip() == DESK.name
    ready.machine.send("systemctl poweroff\n")
    ready.machine.wait_until_off(BOOT_SECONDS)


def test_at_last_the_decoy_disk_is_what_it_was(
    world: World, ready: Ready
) -> None:
    assert not ready.machine.is_on()
    assert world.decoy_unchanged(DESK)
