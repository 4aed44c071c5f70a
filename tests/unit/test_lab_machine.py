import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from sys_pxe.errors import SysPxeError
from sys_pxe.lab.machine import Ends, Hardware, Machine, qemu_argv, widen
from sys_pxe.lab.network import Lan
from sys_pxe.lab.qmp import Control

HARDWARE = Hardware(mac="52:54:00:00:00:01")
LOG = Path("/tmp/desk-serial.log")


def argv(hardware: Hardware) -> str:
    return " ".join(qemu_argv("desk", hardware, "tap0", LOG, Ends(7, 8)))


def test_a_machine_boots_from_the_network_only() -> None:
    words = argv(HARDWARE)
    assert "-boot n" in words
    assert "-drive" not in words
    assert "netdev=lan,mac=52:54:00:00:00:01" in words
    assert "ifname=tap0,script=no,downscript=no" in words


def test_a_machine_talks_through_the_sockets_it_inherits() -> None:
    words = argv(HARDWARE)
    assert "socket,id=control,fd=7" in words
    assert f"socket,id=serial,fd=8,logfile={LOG}" in words


@pytest.mark.parametrize("device", ["ide-hd", "virtio-blk-pci", "nvme"])
def test_decoy_disks_hang_on_the_chosen_bus(device: str) -> None:
    disks = (Path("/tmp/a.img"), Path("/tmp/b.img"))
    words = argv(replace(HARDWARE, disks=disks, disk_device=device))
    assert "id=disk0,format=raw,file=/tmp/a.img" in words
    assert f"-device {device},drive=disk1" in words
    assert ("serial=disk1" in words) == (device == "nvme")


def test_other_firmware_and_a_second_card_can_be_given() -> None:
    words = argv(
        replace(
            HARDWARE,
            firmware=("-drive", "if=pflash,file=/tmp/code.fd"),
            more_nics=("e1000e",),
            no_reboot=False,
        )
    )
    assert "if=pflash,file=/tmp/code.fd" in words
    assert "-device e1000e,romfile=" in words
    assert "-no-reboot" not in words
    assert "-no-reboot" in argv(HARDWARE)


def test_a_stick_is_started_first_and_cannot_be_written() -> None:
    words = argv(replace(HARDWARE, stick=Path("/stick.img")))
    assert "format=raw,readonly=on,file=/stick.img" in words
    assert "usb-storage,drive=stick,bootindex=0" in words
    assert "usb-storage" not in argv(HARDWARE)


def test_a_tpm_is_reached_by_its_socket() -> None:
    words = argv(replace(HARDWARE, tpm=Path("/tpm/control")))
    assert "socket,id=tpm,path=/tpm/control" in words
    assert "tpm-crb,tpmdev=tpm0" in words
    assert "tpm" not in argv(HARDWARE)


def test_a_machine_that_is_off_says_so(tmp_path: Path) -> None:
    machine = Machine(Lan(), "desk", "tap0", HARDWARE, tmp_path)
    machine.power_off()
    assert not machine.is_on()
    with pytest.raises(SysPxeError, match="is off"):
        machine.screenshot(tmp_path / "s.png")
    with pytest.raises(SysPxeError, match="never on"):
        machine.wait_for("x", 1)


class FakeSocket:
    """Takes options; without ``root`` it refuses those that only root has."""

    def __init__(self, root: bool) -> None:
        self.root = root
        self.options: list[tuple[int, int]] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        assert level == socket.SOL_SOCKET
        if not self.root and option != socket.SO_SNDBUF:
            raise PermissionError(1, "only root may")
        self.options.append((option, value))


def test_root_gets_a_buffer_beyond_the_systems_limit() -> None:
    end = FakeSocket(root=True)
    widen(end, 5 << 20)  # type: ignore[arg-type]
    # SO_SNDBUFFORCE, asm-generic/socket.h
    assert end.options == [(32, 5 << 20)]


def test_others_get_what_the_system_allows() -> None:
    end = FakeSocket(root=False)
    widen(end, 5 << 20)  # type: ignore[arg-type]
    assert end.options == [(socket.SO_SNDBUF, 5 << 20)]


class FakeQemu(threading.Thread):
    """Answers each command with the next line; an unexpected call ends it."""

    def __init__(self, end: socket.socket, answers: dict[str, object]) -> None:
        super().__init__(daemon=True)
        self.end = end
        self.answers = {"qmp_capabilities": {"return": {}}, **answers}
        self.calls: list[object] = []
        self.start()

    def run(self) -> None:
        self.end.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\n')
        for line in self.end.makefile("rb"):
            call = json.loads(line)
            self.calls.append(call)
            if call["execute"] not in self.answers:
                break
            event = json.dumps({"event": "RTC_CHANGE"}) + "\n"
            answer = json.dumps(self.answers[call["execute"]]) + "\n"
            self.end.sendall((event + answer).encode())
        with suppress(OSError):
            self.end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def qemu() -> Iterator[tuple[Control, FakeQemu]]:
    ours, theirs = socket.socketpair()
    fake = FakeQemu(
        theirs,
        {
            "stop": {"return": {"n": 1}},
            "screendump": {"error": {"class": "x", "desc": "no screen"}},
        },
    )
    control = Control("desk", ours, 5)
    yield control, fake
    control.close()
    fake.join(5)
    theirs.close()


def test_an_answer_is_found_behind_events(
    qemu: tuple[Control, FakeQemu],
) -> None:
    control, fake = qemu
    assert control.execute("stop", now=True) == {"n": 1}
    assert fake.calls[-1] == {"execute": "stop", "arguments": {"now": True}}


def test_a_refusal_is_an_error_with_its_reason(
    qemu: tuple[Control, FakeQemu],
) -> None:
    with pytest.raises(SysPxeError, match="refused: no screen"):
        qemu[0].execute("screendump")


def test_a_qemu_that_ends_is_an_error(qemu: tuple[Control, FakeQemu]) -> None:
    with pytest.raises(SysPxeError, match="it has ended"):
        qemu[0].execute("unexpected")
