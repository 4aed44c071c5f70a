"""The client program's network parts against the real agent. Needs root."""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sys_pxe import manifest, run
from sys_pxe.agent.control import STATUS, ask
from sys_pxe.lab.network import BRIDGE, HOST_DEVICE, Lan, inside
from tests.agent_world import REPOSITORY, Release, World, artifact

PROBE = Path(__file__).parent / "client_probe.py"
MAC = "52:54:00:00:00:01"
STRANGER = "52:54:00:00:00:77"
MIB = 1 << 20
SIZE = 24 * MIB
STEP = 2 * MIB
ROLES = {"xen": MIB, "kernel": MIB, "initramfs": MIB, "dom0-root": SIZE}


def wait_for(what: Callable[[], object], patience: float = 30.0) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def big_release(world: World) -> Release:
    """A release whose transfer can be broken in the middle."""
    content = {role: os.urandom(size) for role, size in ROLES.items()}
    made = manifest.Manifest(
        "r1", 1, world.now - 86_400, world.now + 86_400,
        tuple(
            artifact(manifest.Role(role), role, content[role],
                     min(STEP, size))
            for role, size in ROLES.items()
        ),
    )  # fmt: skip
    chunks = {
        c.sha256: content[a.name][c.offset : c.offset + c.size]
        for a in made.artifacts
        for c in a.chunks
    }
    return Release(made, world.sign(manifest.write(made)), chunks)


class Room:
    """A LAN with an agent, and one PC that runs the client's code."""

    def __init__(self, lan: Lan, folder: Path) -> None:
        self.lan = lan
        self.folder = folder
        self.world = World(folder)
        self.release = big_release(self.world)
        self.world.push(self.release)
        self.world.activate(1, self.release)
        client = {"mac": MAC, "profile": "base", "address": "192.0.2.33"}
        self.world.set_site(clients={"desk-01": client})
        (folder / "manifest").write_bytes(manifest.write(self.release.manifest))
        self.host = lan.host("pc", "192.0.2.50/24")
        self.child: run.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [sys.executable, "-m", "sys_pxe.agent", "--root",
                str(self.world.root), "run", "--interface", BRIDGE]  # fmt: skip
        env = {"PYTHONPATH": str(REPOSITORY)}
        self.child = run.spawn(self.lan.exec_argv(argv), env=env)
        wait_for(self.serves)

    def stop(self) -> None:
        if self.child is not None:
            run.stop(self.child, 10)
            self.child = None

    def services(self) -> dict[str, dict[str, int]]:
        answer = ask(self.world.store, STATUS)
        found = answer["services"] if answer else {}
        assert isinstance(found, dict)
        return found

    def serves(self) -> bool:
        curl = ["curl", "-sf", "-m", "2", "-o", "/dev/null"]
        url = "http://192.0.2.1/site"
        services = self.services()
        return (
            bool(services)
            and all(s["running"] for s in services.values())
            and run.run(inside(self.host, [*curl, url]), check=False).status
            == 0
        )

    def argv(self, *words: str) -> list[str]:
        return inside(self.host, [sys.executable, str(PROBE), *words])

    def probe(self, *words: str) -> dict[str, object]:
        env = {"PYTHONPATH": str(REPOSITORY)}
        got = run.run(self.argv(*words), check=False, timeout=60, env=env)
        found: dict[str, object] = json.loads(got.stdout or got.stderr)
        return {**found, "status": got.status}

    def fetch_words(self, role: str = "dom0-root") -> list[str]:
        target = self.folder / f"got-{role}"
        return ["fetch", "192.0.2.1", str(self.folder / "manifest"), role,
                str(target)]  # fmt: skip

    def link(self, *words: str) -> None:
        run.run(["ip", "-n", self.host, "link", "set", "dev", *words])

    def set_mac(self, mac: str) -> None:
        """Make the PC a machine without an address, as it is at its start."""
        run.run(["ip", "-n", self.host, "address", "flush", "dev", HOST_DEVICE])
        self.link(HOST_DEVICE, "down")
        self.link(HOST_DEVICE, "address", mac)

    def slow(self, rate: str) -> None:
        """Let the server's side send no faster than this."""
        shape = ["tc", "qdisc", "add", "dev", "v-pc", "root", "tbf", "rate",
                 rate, "burst", "64k", "latency", "50ms"]  # fmt: skip
        run.run(self.lan.exec_argv(shape))

    def addresses(self) -> list[dict[str, object]]:
        argv = ["ip", "-n", self.host, "-j", "address", "show", HOST_DEVICE]
        (found,) = json.loads(run.run(argv).stdout)
        assert isinstance(found["addr_info"], list)
        return found["addr_info"]

    def routes(self) -> str:
        argv = ["ip", "-n", self.host, "route"]
        return run.run(argv).stdout.decode()


class Transfer:
    """A fetch that runs while something happens to the server."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.path = room.folder / "progress"
        with open(self.path, "wb") as log:
            self.child = run.spawn(
                room.argv(*room.fetch_words()),
                stdout=run.PIPE,
                stderr=log,
                env={"PYTHONPATH": str(REPOSITORY)},
            )

    def done(self) -> int:
        lines = self.path.read_text().splitlines()
        return int(lines[-1]) if lines else 0

    def wait_for_middle(self) -> None:
        wait_for(lambda: self.done() > SIZE // 5)
        assert self.done() < SIZE * 3 // 4, "too fast to break"

    def end(self) -> dict[str, object]:
        out, _ = self.child.communicate(timeout=120)
        found: dict[str, object] = json.loads(out)
        return found


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with Lan() as lan:
        made = Room(lan, tmp_path)
        made.start()
        yield made
        made.stop()


def arrived(room: Room) -> bool:
    wanted = room.release.manifest.find(manifest.Role.DOM0_ROOT)
    content = (room.folder / "got-dom0-root").read_bytes()
    return hashlib.sha256(content).hexdigest() == wanted.sha256


def test_a_known_pc_gets_its_pinned_address(room: Room) -> None:
    room.set_mac(MAC)
    assert room.probe("dhcp", MAC, "20") == {
        "address": "192.0.2.33/24",
        "gateway": "None",
        "server": "192.0.2.1",
        "status": 0,
    }


def test_an_unknown_pc_is_told_what_to_check(room: Room) -> None:
    room.set_mac(STRANGER)
    got = room.probe("dhcp", STRANGER, "3")
    assert got["status"] == 1
    assert f"eth0 ({STRANGER}) within 3 s" in str(got["error"])
    assert "site.yaml" in str(got["hint"])


def test_a_server_that_comes_late_is_found(room: Room) -> None:
    room.stop()
    room.set_mac(MAC)
    env = {"PYTHONPATH": str(REPOSITORY)}
    child = run.spawn(room.argv("dhcp", MAC, "40"), stdout=run.PIPE, env=env)
    time.sleep(3)
    assert child.poll() is None
    room.host, host = room.lan.host("other", "192.0.2.51/24"), room.host
    room.start()
    room.host = host
    out, _ = child.communicate(timeout=60)
    assert json.loads(out)["address"] == "192.0.2.33/24"


def test_an_address_is_set_and_nothing_of_it_stays(room: Room) -> None:
    room.set_mac(MAC)
    room.link(HOST_DEVICE, "up")
    assert room.probe("address", "192.0.2.33/26", "192.0.2.1")["status"] == 0
    (found,) = room.addresses()
    assert (found["local"], found["prefixlen"]) == ("192.0.2.33", 26)
    assert "default via 192.0.2.1" in room.routes()
    assert room.probe("down")["status"] == 0
    assert room.addresses() == []
    assert room.routes() == ""
    shown = run.run(["ip", "-n", room.host, "link", "show", HOST_DEVICE])
    assert b"UP" not in shown.stdout.split(b">")[0]


def test_a_pushed_release_is_fetched_whole(room: Room) -> None:
    got = room.probe(*room.fetch_words())
    assert got == {
        "done": SIZE, "received": SIZE, "breaks": 0, "resumed_at": [],
        "status": 0,
    }  # fmt: skip
    assert arrived(room)


def test_nginx_killed_in_mid_transfer_costs_a_moment(room: Room) -> None:
    room.slow("60mbit")
    transfer = Transfer(room)
    transfer.wait_for_middle()
    # its workers too, or they would serve the transfer to its end
    for pid in nginx_of(room):
        os.kill(pid, signal.SIGKILL)
    got = transfer.end()
    assert arrived(room)
    assert got["done"] == SIZE
    assert int(str(got["breaks"])) >= 1
    assert room.services()["nginx"]["restarts"] >= 1


def nginx_of(room: Room) -> list[int]:
    argv = ["ip", "netns", "pids", room.lan.namespace]
    found = []
    for pid in map(int, run.run(argv).stdout.split()):
        name = Path(f"/proc/{pid}/comm")
        if name.exists() and name.read_text().strip() == "nginx":
            found.append(pid)
    return found


def test_a_server_stopped_in_mid_transfer_and_started_again(
    room: Room,
) -> None:
    """The client goes on from where it was, and the report says so."""
    room.slow("60mbit")
    transfer = Transfer(room)
    transfer.wait_for_middle()
    assert room.child is not None
    room.child.kill()
    room.child.wait()
    time.sleep(20)
    assert transfer.child.poll() is None
    stood_at = transfer.done()
    assert 0 < stood_at < SIZE
    room.start()
    got = transfer.end()
    assert arrived(room)
    assert got["done"] == SIZE
    # what broke off within a step comes again, and nothing else
    assert got["received"] == SIZE
    assert 1 <= int(str(got["breaks"])) <= 4
    resumed = got["resumed_at"]
    assert isinstance(resumed, list)
    assert resumed[-1] == stood_at


def chunk_file(room: Room, role: str, number: int) -> Path:
    wanted = room.release.manifest.find(manifest.Role(role))
    return room.world.store.chunks / wanted.digests[number]


@pytest.mark.parametrize("role", list(ROLES))
def test_one_flipped_bit_is_refused_by_name(room: Room, role: str) -> None:
    path = chunk_file(room, role, -1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    got = room.probe(*room.fetch_words(role))
    assert got["status"] == 4
    assert f"{role}: chunk {path.name[:12]}" in str(got["error"])
    assert "push" in str(got["hint"])


@pytest.mark.parametrize("left", [0, 1, STEP - 1])
def test_a_truncated_chunk_is_refused(room: Room, left: int) -> None:
    path = chunk_file(room, "dom0-root", 3)
    os.truncate(path, left)
    got = room.probe(*room.fetch_words())
    assert got["status"] == 4
    assert f"chunk {path.name[:12]} has {left} bytes" in str(got["error"])


def test_a_chunk_that_is_gone_is_refused(room: Room) -> None:
    path = chunk_file(room, "dom0-root", 3)
    path.unlink()
    got = room.probe(*room.fetch_words())
    assert got["status"] == 1
    assert "answers 404" in str(got["error"])
