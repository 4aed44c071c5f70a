"""A LAN with an agent that serves, and a host that asks. Needs root."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sys_pxe import run
from sys_pxe.lab.network import BRIDGE, Lan, inside
from tests.agent_world import REPOSITORY, World

PROBE = Path(__file__).parent / "pxe_probe.py"
MAC = "52:54:00:00:00:01"
STRANGER = "52:54:00:00:00:77"


def wait_for(what: Callable[[], object], patience: float = 20.0) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


class Room:
    """A LAN, a host on it, and an agent that serves."""

    def __init__(self, lan: Lan, world: World) -> None:
        self.lan = lan
        self.world = world
        self.host = lan.host("pc", "192.0.2.50/24")
        self.child: run.Popen[bytes] | None = None

    def argv(self) -> list[str]:
        module = [sys.executable, "-m", "sys_pxe.agent"]
        root = ["--root", str(self.world.root)]
        return self.lan.exec_argv(
            [*module, *root, "run", "--interface", BRIDGE]
        )

    def start(self) -> None:
        self.child = run.spawn(self.argv(), env={"PYTHONPATH": str(REPOSITORY)})
        wait_for(self.serves)

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.child
        self.child.send_signal(number)
        return self.child.wait(20)

    def status(self) -> dict[str, dict[str, dict[str, int]]]:
        got = self.world.rpc("syspxe.Status")
        assert got.status == 0, got.stderr
        found: dict[str, dict[str, dict[str, int]]] = json.loads(got.stdout)
        return found

    def serves(self) -> bool:
        services = self.status()["services"]
        running = all(s["running"] for s in services.values())
        return running and self.code("site") == "200"

    def curl(self, *words: str) -> bytes:
        argv = ["curl", "-sS", "-m", "10", "--path-as-is", *words]
        return run.run(inside(self.host, argv), check=False).stdout

    def code(self, path: str, *words: str) -> str:
        url = f"http://192.0.2.1/{path}"
        form = ["-o", "/dev/null", "-w", "%{http_code}"]
        return self.curl(*form, *words, url).decode()

    def probe(self, *words: str) -> dict[str, object] | None:
        argv = [sys.executable, str(PROBE), *words]
        found = json.loads(run.run(inside(self.host, argv)).stdout)
        assert found is None or isinstance(found, dict)
        return found

    def dhcp(self, *words: str) -> dict[str, object]:
        found = self.probe("dhcp", *words)
        assert found, "no offer came"
        return found

    def pids(self, name: str) -> list[int]:
        left = run.run(["ip", "netns", "pids", self.lan.namespace]).stdout
        found = []
        for pid in map(int, left.split()):
            comm = Path(f"/proc/{pid}/comm")
            if comm.exists() and comm.read_text().strip() == name:
                found.append(pid)
        return found

    def left(self) -> list[int]:
        return self.pids("nginx") + self.pids("dnsmasq")


@contextmanager
def opened(tmp_path: Path) -> Iterator[Room]:
    """Yield a room whose agent serves release r1 to desk-01."""
    world = World(tmp_path)
    release = world.release()
    world.push(release)
    world.activate(1, release)
    world.set_site()
    with Lan() as lan:
        made = Room(lan, world)
        made.start()
        try:
            yield made
        finally:
            if made.child:
                run.stop(made.child, 10)
