"""A LAN with an agent and a PC that boots r1, for test_client_refusals.py."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sys_pxe import manifest, pointer, run
from sys_pxe.agent import report
from sys_pxe.agent.control import STATUS, ask
from sys_pxe.lab.network import BRIDGE, HOST_DEVICE, Lan, inside
from sys_pxe.manifest import Manifest, Role
from sys_pxe.pointer import Pointer
from tests.agent_world import (
    DAY,
    REPOSITORY,
    Release,
    World,
    artifact,
    key_pair,
)

PROBE = Path(__file__).parent / "refusal_probe.py"
MAC = "52:54:00:00:00:01"
MIB = 1 << 20
STEP = MIB // 2
SIZE = 4 * MIB - 4096
# the image, the overlay's 256 MiB, and ram.RUNNING_MIB
NEED = 4 + 256 + 320
# all that travels when a release is refused before its image is fetched
DOCUMENTS_MAX = 64 << 10


def wait_for(what: Callable[[], object], patience: float = 30.0) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def made_release(
    world: World, name: str = "r1", serial: int = 3, **given: bytes
) -> Release:
    """Return a release of parts that were ``given``, or else are new."""
    content = {"xen": 512, "kernel": 512, "initramfs": 512, "dom0-root": SIZE}
    parts = {role: os.urandom(size) for role, size in content.items()}
    parts.update(given)
    text = Manifest(
        name, serial, world.now - DAY, world.now + DAY,
        tuple(
            artifact(Role(role), role, part, min(STEP, len(part)))
            for role, part in parts.items()
        ),
    )  # fmt: skip
    chunks = {
        c.sha256: parts[a.name][c.offset : c.offset + c.size]
        for a in text.artifacts
        for c in a.chunks
    }
    return Release(text, world.sign(manifest.write(text)), chunks)


@dataclass(frozen=True)
class Outcome:
    """How an attempt of the PC ended; ``traffic`` is what it received."""

    ok: bool
    message: str
    hint: str
    exit_code: int
    bytes: int
    stage: str
    traffic: int
    told: report.Event

    def says(self, *words: object) -> bool:
        return all(str(word) in self.message for word in words)


class Room:
    """A LAN with an agent, and one PC whose boot files belong to r1."""

    def __init__(self, lan: Lan, folder: Path) -> None:
        self.lan = lan
        self.folder = folder
        self.world = World(folder)
        self.store = self.world.store
        self.release = made_release(self.world)
        self.manifest_file = self.store.releases / "r1"
        self.pointer_file = self.store.channels / "stable"
        self.other_private = folder / "other-private.pem"
        self.other_key = folder / "other.pem"
        private, public = key_pair(1)
        self.other_private.write_bytes(private)
        self.other_key.write_bytes(public)
        self.host = lan.host("pc", "192.0.2.50/24")
        self.child: run.Popen[bytes] | None = None
        self.tries = 0

    def start(self) -> None:
        argv = [sys.executable, "-m", "sys_pxe.agent", "--root",
                str(self.world.root), "run", "--interface", BRIDGE]  # fmt: skip
        env = {"PYTHONPATH": str(REPOSITORY)}
        self.service("syspxe.Push+r1", self.release.frames())
        self.service("syspxe.Site", self.world.signed_site(1))
        first = self.world.pointer(1, self.release)
        self.service("syspxe.Activate+stable", first)
        self.child = run.spawn(self.lan.exec_argv(argv), env=env)
        wait_for(self.serves)

    def service(self, call: str, content: bytes) -> None:
        name, _, argument = call.partition("+")
        words = [argument] if argument else []
        got = self.world.rpc(name, *words, stdin=content)
        assert got.status == 0, got.stderr

    def serves(self) -> bool:
        answer = ask(self.store, STATUS)
        curl = ["curl", "-sf", "-m", "2", "-o", "/dev/null"]
        argv = inside(self.host, [*curl, "http://192.0.2.1/site"])
        return answer is not None and run.run(argv, check=False).status == 0

    def take_another_address(self) -> None:
        """As nginx takes a few reports a second from one address."""
        self.tries += 1
        address = f"192.0.2.{2 + self.tries % 97}/24"
        ip = ["ip", "-n", self.host, "address"]
        run.run([*ip, "flush", "dev", HOST_DEVICE])
        run.run([*ip, "add", address, "dev", HOST_DEVICE])

    def received(self) -> int:
        argv = ["ip", "-n", self.host, "-s", "-j", "link", "show", HOST_DEVICE]
        (found,) = json.loads(run.run(argv).stdout)
        return int(found["stats64"]["rx"]["bytes"])

    def boot(self, **changes: object) -> Outcome:
        """Let the PC try, in a mount namespace that ends with it."""
        values: dict[str, object] = {
            "folder": self.folder, "key": self.store.key, "release": "r1",
            "serial": 3, "mac": MAC, "ram": NEED,
        }  # fmt: skip
        words = {k: str(v) for k, v in {**values, **changes}.items()}
        argv = ["unshare", "--mount", sys.executable, str(PROBE),
                json.dumps(words)]  # fmt: skip
        self.take_another_address()
        before = self.received()
        got = run.run(
            inside(self.host, argv),
            timeout=60,
            env={"PYTHONPATH": str(REPOSITORY)},
        )
        traffic = self.received() - before
        # the last event of all: the daemon answers a report when it is kept
        told = report.read_events(self.store.database)[-1]
        return Outcome(**json.loads(got.stdout), traffic=traffic, told=told)

    def refused(self, code: int = 4, **changes: object) -> Outcome:
        """Let the PC try and fail; what holds for every failure holds."""
        got = self.boot(**changes)
        assert not got.ok
        assert got.exit_code == code, got.message
        assert got.message
        assert got.hint, f"no word of what to do: {got.message}"
        assert got.told.stage == "failed"
        assert got.told.mac == changes.get("mac", MAC)
        assert got.told.release == changes.get("release", "r1")
        # the agent keeps as much of it as one line of a list can show
        assert got.told.message == f"{got.message}; {got.hint}"[:200]
        assert not (self.folder / "copy").exists()
        return got

    def refused_early(self, code: int = 4, **changes: object) -> Outcome:
        """As ``refused``, with no byte of the image fetched."""
        got = self.refused(code, **changes)
        assert got.bytes == 0
        assert got.traffic < DOCUMENTS_MAX
        return got

    def boots(self, **changes: object) -> Outcome:
        got = self.boot(**changes)
        assert got.ok, got.message
        return got

    @contextmanager
    def changed(self, path: Path, content: bytes) -> Iterator[None]:
        """Let the server send this; when it is mended, the PC boots."""
        with self.changed_only(path, content):
            yield
        self.boots()

    @contextmanager
    def changed_only(self, path: Path, content: bytes) -> Iterator[None]:
        before = path.read_bytes()
        path.write_bytes(content)
        try:
            yield
        finally:
            path.write_bytes(before)

    def manifest(self, **changes: object) -> bytes:
        """The release's manifest with other values, signed by our key."""
        text = replace(self.release.manifest, **changes)  # type: ignore[arg-type]
        return self.world.sign(manifest.write(text))

    def site(self, **changes: object) -> bytes:
        return self.world.signed_site(2, **changes)

    def pointer(self, **changes: object) -> bytes:
        """A rollback to the release, signed by our key under a floor of 4."""
        return self.world.sign(self.pointer_text(**changes))

    def pointer_text(self, **changes: object) -> bytes:
        wanted = Pointer("stable", 2, self.world.now, "r1", 3, True, 4)
        return pointer.write(replace(wanted, **changes))  # type: ignore[arg-type]

    def chunk(self, number: int) -> Path:
        wanted = self.release.manifest.find(Role.DOM0_ROOT)
        return self.store.chunks / wanted.digests[number]


@contextmanager
def opened(folder: Path) -> Iterator[Room]:
    """Yield a room whose agent serves, on a LAN of its own."""
    with Lan() as lan:
        made = Room(lan, folder)
        made.start()
        yield made
        if made.child is not None:
            run.stop(made.child, 10)
