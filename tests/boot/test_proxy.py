"""PCs beside another DHCP server: that gives the address, we the loader."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from sys_pxe import files, run
from sys_pxe.lab import traffic
from sys_pxe.lab.machine import Machine
from sys_pxe.lab.world import BOOT_SECONDS, World, site_data
from tests import other_dhcp
from tests.matrix import DESK, FIRST, Row, booting, named

PXE_PORT = 4011  # PXE 2.1, section 2.2.1: where a proxy is asked for the file
THEIRS = r"192\.0\.2\.2[1-4][0-9]"
# what the firmware says of the address, and of the loader; BIOS says nothing on
# the serial console
SAID = {
    Row("bios", "pxe", False, "rtl8139", rom=True): ("", ""),
    Row("uefi", "pxe", False, "virtio-net-pci"): (
        rf"Station IP address is {THEIRS}\s",
        r"Server IP address is 192\.0\.2\.1\s+NBP filename is snponly\.efi",
    ),
    Row("uefi", "http", False, "virtio-net-pci"): (
        rf"Station IP address is {THEIRS}\s",
        r"URI: http://192\.0\.2\.1/boot/snponly\.efi",
    ),
}


@pytest.fixture(scope="module")
def leases(world: World) -> Iterator[Path]:
    """Yield where the other server notes whom it gave an address."""
    path = world.folder / "other-leases"
    data = site_data()
    network = {"address": "192.0.2.1/24", "dhcp": {"mode": "proxy"}}
    text = yaml.safe_dump({**data, "network": network})
    with other_dhcp.serving(world.lan, path):
        try:
            files.write(world.site_file, text.encode("ascii"))
            world.command("site", "push")
            wait_for(lambda: listens(world, PXE_PORT))
            yield path
        finally:
            world.write_site()
            world.command("site", "push")
            wait_for(
                lambda: listens(world, 67) and not listens(world, PXE_PORT)
            )


def listens(world: World, port: int) -> bool:
    argv = ["ss", "-Hlnu", "sport", "=", str(port)]
    return run.run(world.lan.exec_argv(argv)).stdout != b""


def wait_for(what: Callable[[], bool], patience: float = 60.0) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def leased(leases: Path) -> dict[str, str]:
    """Return the addresses that the other server gave: MAC -> address."""
    rows = [line.split() for line in leases.read_text("ascii").splitlines()]
    return {row[1]: row[2] for row in rows}


@pytest.mark.parametrize("row", list(SAID), ids=named)
def test_the_address_is_theirs_and_the_loader_ours(
    world: World, leases: Path, row: Row
) -> None:
    address, loader = SAID[row]
    before = world.client_row(DESK)
    with booting(world, row) as machine:
        machine.wait_for(r"\(XEN\) Xen version", BOOT_SECONDS)
        sent = traffic.counted(world.lan)
        if row.path == "http":
            check_client_program(machine)
            # its reports reach our server
            after = world.client_row(DESK)
            assert after != before
            assert after["release"] == FIRST
    said = machine.console.text
    assert re.search(address, said), said
    assert re.search(loader, said), said
    assert re.fullmatch(THEIRS, leased(leases)[DESK.mac])
    # only our server sends files; by TFTP where the firmware knows no better
    assert (sent["tftp"] > 0) == (row.path == "pxe")
    assert sent["http"] > 0


def check_client_program(machine: Machine) -> None:
    """It asks who answers firmware: neither image nor lease names a server."""
    machine.wait_for("sys-pxe: Memory", BOOT_SECONDS)
    told = rf"sys-pxe: Network, address {THEIRS}/24, server 192\.0\.2\.1\s"
    assert re.search(told, machine.console.text), machine.console.last_lines()
