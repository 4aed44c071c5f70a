"""What 200 clients cost the agent: its memory, and the time of a rendering."""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from sys_pxe import render, run, site
from sys_pxe.agent.control import STATUS, ask
from sys_pxe.lab.network import BRIDGE, Lan
from sys_pxe.render import Server
from tests.agent_world import REPOSITORY, World, site_data
from tests.bench import rows

CLIENTS = 200
RSS_LIMIT = 40.0
RENDER_LIMIT = 1.0


def clients() -> dict[str, object]:
    return {
        f"desk-{n:03}": {"mac": f"52:54:00:00:01:{n:02x}", "profile": "base"}
        for n in range(CLIENTS)
    }


def rendering(world: World) -> float:
    """Return the seconds that rendering all files of the site takes."""
    found = site.parse(site_data(clients=clients()))
    active = {"stable": world.release().manifest}
    begin = time.perf_counter()
    made = render.everything(found, active, Server())
    seconds = time.perf_counter() - begin
    if len(made) < CLIENTS:
        raise RuntimeError(f"only {len(made)} files for {CLIENTS} clients")
    return seconds


def resident(world: World, lan: Lan) -> float:
    """Start an agent, wait until it serves, and return its RSS in MiB."""
    argv = [sys.executable, "-m", "sys_pxe.agent", "--root", str(world.root),
            "run", "--interface", BRIDGE]  # fmt: skip
    child = run.spawn(lan.exec_argv(argv), env={"PYTHONPATH": str(REPOSITORY)})
    try:
        end = time.monotonic() + 60
        while not ask(world.store, STATUS):
            if child.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the agent does not serve")
            time.sleep(0.1)
        # its first rounds of looking after its programs are part of it
        time.sleep(2)
        text = Path(f"/proc/{child.pid}/status").read_text("ascii")
    finally:
        run.stop(child, 20)
    line = next(x for x in text.splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def bench() -> list[rows.Row]:
    with TemporaryDirectory() as name, Lan() as lan:
        world = World(Path(name))
        release = world.release()
        world.push(release)
        world.activate(1, release)
        world.set_site(clients=clients())
        times = [rendering(world) for _ in range(rows.ROUNDS)]
        sizes = [resident(world, lan) for _ in range(rows.ROUNDS)]
    return [
        rows.against_limit(
            f"agent with {CLIENTS} clients, RSS", "MiB", RSS_LIMIT, sizes
        ),
        rows.against_limit(
            f"rendering of {CLIENTS} clients", "s", RENDER_LIMIT, times
        ),
    ]
