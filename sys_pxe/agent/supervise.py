"""Keeping dnsmasq and nginx running, and restarting them with patience.

No clock is read here: the caller says what time it is (monotonic seconds).
"""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from sys_pxe import run
from sys_pxe.errors import SysPxeError

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
# A program that ran this long was well: its next death is a new story.
STEADY = 60.0


class Backoff:
    """Pauses of 1, 2, 4 … 30 s, from the start again after a steady run."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def pause(self, ran: float) -> float:
        """Return how long to wait after a run of ``ran`` seconds."""
        if ran >= STEADY:
            self._next = FIRST_PAUSE
        pause = self._next
        self._next = min(2 * pause, LONGEST_PAUSE)
        return pause


class Service:
    """One program that is to run as long as it is wanted.

    It gets SIGTERM from the kernel when the agent itself is killed.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Callable[[str], None],
        stderr: run.Stream = None,
    ) -> None:
        self.name = name
        # where its log goes; None: to where ours goes
        self.stderr = stderr
        self.restarts = 0
        self._argv = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
        self._log = log
        self._backoff = Backoff()
        self._child: run.Popen[bytes] | None = None
        self._started = 0.0
        self._due: float | None = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process, if it runs."""
        return self._child.pid if self._child and self.running else None

    @property
    def due(self) -> float | None:
        """When it is to be started again, if it waits for that."""
        return self._due

    def start(self, now: float) -> None:
        """Start it; if that fails, it is tried again later."""
        self._due = None
        self._started = now
        try:
            self._child = run.spawn(
                self._argv, new_session=True, stderr=self.stderr
            )
        except (SysPxeError, OSError) as error:
            self._log(f"{self.name}: {error}")
            self._due = now + self._backoff.pause(0)

    def tend(self, now: float) -> None:
        """See whether it died, and start it again when that is due."""
        if self._child is not None and self._child.poll() is not None:
            pause = self._backoff.pause(now - self._started)
            self._log(
                f"{self.name} ended with status {self._child.returncode}, "
                f"it is started again in {pause:g} s"
            )
            self._end_children()
            self._due = now + pause
        if self._due is not None and now >= self._due:
            self.restarts += 1
            self.start(now)

    def restart(self, now: float) -> None:
        """Stop it and start it, because its configuration is another one."""
        self.stop()
        self.start(now)

    def reload(self) -> None:
        """Let it read its files again (SIGHUP), if it runs."""
        if self._child is not None and self.running:
            self._child.send_signal(signal.SIGHUP)

    def _end_children(self) -> None:
        """Kill what a dead program left: nginx's workers hold its port."""
        if self._child is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child = None

    def stop(self) -> None:
        """End it for good."""
        self._due = None
        if self._child is not None:
            run.stop(self._child)
            self._end_children()
