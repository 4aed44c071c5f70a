"""A QEMU machine without anything to boot. Needs root and QEMU."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.errors import SysPxeError
from sys_pxe.lab.machine import Hardware, Machine
from sys_pxe.lab.network import Lan

HARDWARE = Hardware(mac="52:54:00:00:00:01", memory=128, cpus=1)
HOLD = (
    "import sys, time, pathlib\n"
    "from sys_pxe.lab.machine import *\n"
    "from sys_pxe.lab.network import Lan\n"
    "hardware = Hardware(mac='52:54:00:00:00:01', memory=128, cpus=1)\n"
    "folder = pathlib.Path(sys.argv[1])\n"
    "with Lan() as lan:\n"
    "    tap = lan.tap('tap0')\n"
    "    with Machine(lan, 'pc', tap, hardware, folder) as machine:\n"
    "        print(machine.pid, flush=True); time.sleep(60)\n"
)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Lan() as lan:
        tap = lan.tap("tap0")
        with Machine(lan, "pc", tap, HARDWARE, tmp_path) as machine:
            yield machine


def test_the_screen_can_be_photographed(
    machine: Machine, tmp_path: Path
) -> None:
    machine.screenshot(tmp_path / "screen.png")
    content = (tmp_path / "screen.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")


def test_what_the_screen_shows_can_be_read(machine: Machine) -> None:
    until = time.monotonic() + 60
    while "SeaBIOS" not in machine.screen_text():
        assert time.monotonic() < until, machine.screen_text()
        time.sleep(0.2)
    rows = machine.screen_text().splitlines()
    assert max(len(row) for row in rows) <= 80


def test_reset_and_power_off_start_and_end_qemu(machine: Machine) -> None:
    first = machine.pid
    machine.reset()
    assert machine.is_on()
    assert machine.pid != first
    machine.power_off()
    assert not machine.is_on()
    assert not Path(f"/proc/{first}").exists()
    with pytest.raises(SysPxeError, match="it ended"):
        machine.wait_for("anything", 60)


def test_a_machine_that_is_on_is_not_switched_on_again(
    machine: Machine,
) -> None:
    with pytest.raises(SysPxeError, match="on already"):
        machine.power_on()
    assert machine.is_on()


def test_a_machine_that_stays_on_is_reported(machine: Machine) -> None:
    with pytest.raises(SysPxeError, match="still on after"):
        machine.wait_until_off(0.2)


def test_wrong_hardware_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    wrong = Hardware(mac="52:54:00:00:00:01", nic="no-such-card")
    with Lan() as lan:
        machine = Machine(lan, "pc", lan.tap("tap0"), wrong, tmp_path)
        with pytest.raises(SysPxeError, match=r"(?s)did not start.*no-such"):
            machine.power_on()
        assert not machine.is_on()


def test_a_machine_dies_with_a_killed_lab(tmp_path: Path) -> None:
    holder = run.spawn(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=run.PIPE
    )
    assert holder.stdout is not None
    with holder.stdout as said:
        pid = int(said.readline())
    holder.kill()
    holder.wait()
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
    with Lan():
        pass  # sweeps what the killed one left
