"""Boots that go wrong: what the person sees, what the server knows."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sys_pxe import manifest, run, signature
from sys_pxe.lab.machine import Machine
from sys_pxe.lab.world import BOOT_SECONDS, DESKS, FAILED, IN_RAM, World

DESK, SMALL = DESKS[0], DESKS[1]
FAILURE = FAILED + r"[^\0]*?hint: [^\n]*\n"


def image(world: World) -> manifest.Artifact:
    signed = (world.state / "releases/r1/manifest").read_bytes()
    text = signature.opened(signed, world.agent_root / "key.pem", "r1")
    return manifest.parse(text).find(manifest.Role.DOM0_ROOT)


@contextmanager
def flipped(path: Path) -> Iterator[None]:
    """Flip one bit in the middle of a file while the block runs."""
    at = path.stat().st_size // 2

    def flip() -> None:
        with open(path, "r+b") as stream:
            stream.seek(at)
            byte = stream.read(1)[0]
            stream.seek(at)
            stream.write(bytes([byte ^ 1]))

    flip()
    try:
        yield
    finally:
        flip()


def failure_of(machine: Machine) -> str:
    return machine.wait_for(FAILURE, BOOT_SECONDS).match[0].replace("\r", "")


def pids(world: World, program: str) -> list[int]:
    argv = ["ip", "netns", "pids", world.lan.namespace]
    found = []
    for pid in run.run(argv).stdout.split():
        name = Path(f"/proc/{int(pid)}/comm").read_text().strip()
        if name == program:
            found.append(int(pid))
    return found


def test_too_little_ram_is_refused_before_the_download(world: World) -> None:
    with world.machine(SMALL) as machine:
        said = failure_of(machine)
        assert "MiB of RAM in dom0" in said
        assert "this PC gives it" in said
        assert "hint: set ram.dom0 in the client's profile to" in said
        assert machine.console.text.find("sys-pxe: Download") == -1
        row = world.client_row(SMALL)
        assert row["stage"] == "failed"
        assert "this PC gives it" in str(row["message"])
        assert row["bytes"] == 0
        assert machine.is_on()


def test_one_flipped_bit_is_refused_and_nothing_of_it_is_mounted(
    world: World,
) -> None:
    chunk = image(world).chunks[1].sha256
    with (
        flipped(world.agent_root / "chunks" / chunk),
        world.machine(DESK) as machine,
    ):
        said = failure_of(machine)
        assert "verification failed" in said
        assert chunk[:12] in said
        assert "sys-pxe release push" in said
        assert IN_RAM not in machine.console.text
        row = world.client_row(DESK)
        assert row["stage"] == "failed"
        assert chunk[:12] in str(row["message"])


@pytest.fixture
def slow(world: World) -> Iterator[Machine]:
    """A client behind a slow port, so that its download lasts."""
    with world.machine(DESK) as machine:
        machine.wait_for("sys-pxe: Signatures", BOOT_SECONDS)
        run.run(
            world.lan.exec_argv(
                [*("tc", "qdisc", "replace", "dev", machine.tap, "root"),
                 *("tbf", "rate", "24mbit", "burst", "64k"),
                 *("latency", "400ms")]
            )
        )  # fmt: skip
        try:
            yield machine
        finally:
            run.run(
                world.lan.exec_argv(
                    ["tc", "qdisc", "del", "dev", machine.tap, "root"]
                )
            )


def test_a_download_survives_killed_services_and_a_server_that_was_off(
    world: World, slow: Machine
) -> None:
    slow.wait_for(r"Download, [12][0-9]%", BOOT_SECONDS)
    for program in ("dnsmasq", "nginx"):
        for pid in pids(world, program):
            os.kill(pid, signal.SIGKILL)
    slow.wait_for(r"Download, [45][0-9]%", BOOT_SECONDS)
    assert pids(world, "dnsmasq")
    assert pids(world, "nginx")
    world.stop_agent()
    time.sleep(20)
    world.start_agent()
    slow.wait_for(r"Download, [89][0-9]%", BOOT_SECONDS)
    row = world.client_row(DESK)
    assert "went on from byte" in str(row["message"])
    slow.wait_for(IN_RAM, BOOT_SECONDS)
    slow.login(BOOT_SECONDS)
    own = slow.probe()["boot"]
    assert isinstance(own, dict)
    # two outages; each of the connections may count its own end of one
    assert own["breaks"] >= 2
    # not a byte that had arrived was asked for again
    assert own["bytes_received"] == image(world).size
