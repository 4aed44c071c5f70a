"""Programs are started again with patience, and end with the agent."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sys_pxe import run
from sys_pxe.agent.supervise import STEADY, Backoff, Service
from tests.agent_world import REPOSITORY


def wait_for(what: Callable[[], object], patience: float = 10.0) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def test_pauses_grow_to_half_a_minute() -> None:
    backoff = Backoff()
    pauses = [backoff.pause(0.1) for _ in range(7)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_a_steady_run_makes_pauses_short_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.pause(1)
    assert backoff.pause(STEADY) == 1
    assert backoff.pause(1) == 2


def test_a_program_that_died_comes_back_when_it_is_due() -> None:
    said: list[str] = []
    service = Service("sleeper", ["sleep", "60"], said.append)
    service.start(100)
    first = service.pid
    assert first
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not service.running)
    service.tend(101)
    assert (service.due, service.restarts) == (102, 0)
    service.tend(101.9)
    assert not service.running
    service.tend(102)
    assert service.running
    assert service.pid != first
    assert service.restarts == 1
    assert "ended with status -9" in said[0]
    service.stop()
    assert not service.running


def test_a_stopped_program_stays_stopped() -> None:
    service = Service("sleeper", ["sleep", "60"], lambda _: None)
    service.start(0)
    service.stop()
    service.tend(1000)
    assert not service.running


def test_a_program_that_is_missing_is_tried_again() -> None:
    service = Service("none", ["/no/such/program"], lambda _: None)
    service.start(0)
    wait_for(lambda: not service.running)
    service.tend(1)
    assert service.due == 2


def test_children_end_when_the_agent_is_killed(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "from sys_pxe.agent.supervise import Service\n"
        "s = Service('sleeper', ['sleep', '60'], print)\n"
        "s.start(0)\n"
        "print(s.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = run.spawn(
        [sys.executable, "-c", script],
        stdout=run.PIPE,
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    with parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        parent.kill()
    wait_for(lambda: not alive(pid))
