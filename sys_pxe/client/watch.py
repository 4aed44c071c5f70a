"""Watches VM pool and overlay, warns in time, keeps the other qubes going.

``look`` reads a few files, decides and acts; what takes longer (finding out
who took what, telling people, telling Qubes OS) is done by a second thread, so
that a pool which fills within a second is still looked at.
"""

import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sys_pxe import files, usage
from sys_pxe.client import measure, notify, xen
from sys_pxe.client.measure import Places
from sys_pxe.errors import SysPxeError
from sys_pxe.usage import Level, Notice, Place, State, Taker, Usage, Writer

# seconds: usage.json is at most so old
PUBLISH_EVERY = 60.0
# seconds over which a qube's rate is measured; a journal's flush is no rate
WINDOW = 2.0
# seconds after a failed pause or a reserve that was not made
PATIENCE = 10.0
# seconds between two looks at the overlay, at least: all one can do is warn
OVERLAY_EVERY = 1.0
_BOOT_MAX = 64 << 10
# how many takers are kept for people, per place
_KEPT = 10

Job = Callable[[], None]


@dataclass(frozen=True)
class Hands:
    """All that the watcher does to its surroundings; tests give their own."""

    clock: Callable[[], float] = time.monotonic
    room: measure.Look = measure.room
    domains: Callable[[], list[xen.Domain]] = xen.domains
    stop: Callable[[int], None] = xen.stop
    adopt: Callable[[int, str], str] = xen.adopt
    tell: Callable[[Notice], None] = notify.tell
    journal: Callable[[str, Level], None] = notify.journal
    later: Callable[[Job], None] = lambda job: job()


class Rates:
    """What each domain wrote in the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[int, int]]] = deque()

    def add(self, now: float, written: dict[int, int]) -> dict[int, float]:
        """Take the counters of now; return domain number -> bytes a second."""
        self._seen.append((now, written))
        # the oldest kept is just older than the window
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()
        then, before = self._seen[0]
        spent = now - then
        if spent <= 0:
            return dict.fromkeys(written, 0.0)
        # a disk that went and came back counts from 0 again
        return {
            domid: max(count - before.get(domid, count), 0) / spent
            for domid, count in written.items()
        }


class Watch:
    """The state between two looks."""

    def __init__(
        self, boundary: int | None, places: Places, hands: Hands
    ) -> None:
        self._boundary = boundary
        self._places = places
        self._hands = hands
        self._rates = Rates()
        self._levels: dict[str, Level] = {}
        self._last: dict[str, tuple[float, int]] = {}
        # None: what the state says is no longer so
        self._published: float | None = None
        self._paused: dict[int, str] = {}
        self._not_before: dict[str, float] = {}
        # only the second thread uses these
        self._takers: dict[str, tuple[int, tuple[Taker, ...]]] = {}

    def look(self) -> float:
        """Look once, act; return the seconds until the next look.

        SysPxeError or OSError where something cannot be read.
        """
        now = self._hands.clock()
        found = [measure.overlay(self._places, self._hands.room)]
        rates: dict[int, float] = {}
        if self._boundary is not None:
            found.append(measure.pool(self._places, self._hands.room))
            rates = self._rates.add(now, measure.written(self._places))
            self._protect(found[-1], rates, now)
        waits = []
        for place in found:
            rate = self._filling(place, now)
            if place.name == usage.POOL:
                rate = max(rate, sum(rates.values()))
                waits.append(usage.next_look(place.free_bytes, rate))
            else:
                wait = usage.next_look(place.free_bytes, rate)
                waits.append(max(wait, OVERLAY_EVERY))
        self._settle(found, now)
        return min(waits)

    def _filling(self, place: Usage, now: float) -> float:
        """Return how fast a place fills since the last look."""
        then, used = self._last.get(place.name, (now, place.used_bytes))
        self._last[place.name] = (now, place.used_bytes)
        return (place.used_bytes - used) / (now - then) if now > then else 0.0

    def _protect(
        self, pool: Usage, rates: dict[int, float], now: float
    ) -> None:
        """Pause who fills a full pool; give up the reserve, or make it."""
        at = usage.level(pool)
        if at is Level.FULL:
            self._pause(pool, rates, now)
        if not self._due("reserve", now):
            return
        reserve = self._places.reserve
        there = reserve.exists()
        try:
            if there and 100 * pool.free_bytes < pool.limit_bytes:
                files.remove(reserve)
                self._hands.journal("the VM pool's reserve is in use", at)
            elif not there and at is Level.OK:
                files.allocate(reserve, usage.reserve_size(pool.limit_bytes))
            else:
                return
            self._published = None
        except OSError as error:
            self._not_before["reserve"] = now + PATIENCE
            text = f"the VM pool's reserve: {error.strerror}"
            self._hands.journal(text, Level.WARNING)

    def _due(self, what: str, now: float) -> bool:
        """Whether it is time to try again what has failed."""
        return now >= self._not_before.get(what, now)

    def _pause(self, pool: Usage, rates: dict[int, float], now: float) -> None:
        fast = [d for d, rate in rates.items() if rate >= usage.CLEAR_RATE]
        if not fast or not self._due("pause", now):
            return
        try:
            running = self._hands.domains()
        except SysPxeError as error:
            self._not_before["pause"] = now + PATIENCE
            self._hands.journal(error.message, Level.FULL)
            return
        who = usage.to_pause(writers(running, rates), pool.free_bytes)
        if who is None:
            return
        try:
            self._hands.stop(who.domid)
        except SysPxeError as error:
            self._not_before["pause"] = now + PATIENCE
            notice = usage.not_paused(who, pool, error.message)
            self._hands.later(partial(self._hands.tell, notice))
            return
        self._published = None
        self._paused[who.domid] = who.name
        self._hands.later(partial(self._adopt, who, pool))

    def _adopt(self, who: Writer, pool: Usage) -> None:
        go_on = self._hands.adopt(who.domid, who.name)
        self._hands.tell(usage.paused(who, pool, go_on))

    def _settle(self, found: Sequence[Usage], now: float) -> None:
        """Tell what has changed; let the state be written when it is due."""
        rows = []
        for place in found:
            before = self._levels.get(place.name, Level.OK)
            after = self._levels[place.name] = usage.settle(before, place)
            rows.append((place, before, after))
        changed = any(before != after for _, before, after in rows)
        last = self._published
        if changed or last is None or now - last >= PUBLISH_EVERY:
            self._published = now
            self._hands.later(partial(self._publish, rows, now))

    def _publish(
        self, rows: Sequence[tuple[Usage, Level, Level]], now: float
    ) -> None:
        places = []
        for place, before, after in rows:
            takers = self._found_takers(place, changed=before != after)
            places.append(Place(place, after, takers))
            if after > before:
                self._hands.tell(usage.warning(place, after, takers))
            elif after is Level.OK and before is not Level.OK:
                self._hands.tell(usage.relief(place))
        pooled = self._boundary is not None
        state = State(
            int(now),
            tuple(places),
            measure.ram_bytes(self._places) if pooled else None,
            self._still_paused(),
            pooled and self._places.reserve.exists(),
        )
        files.write(self._places.state, usage.write(state))

    def _found_takers(
        self, place: Usage, *, changed: bool
    ) -> tuple[Taker, ...]:
        """Return who took most; looked up again when it may have changed.

        The maps of large images take seconds to read.
        """
        used, known = self._takers.get(place.name, (None, ()))
        if (
            used is not None
            and not changed
            and 100 * abs(place.used_bytes - used) < place.limit_bytes
        ):
            return known
        if place.name == usage.POOL and self._boundary is not None:
            takers = measure.pool_takers(self._places, self._boundary)
        else:
            takers = measure.overlay_takers(self._places)
        kept = usage.largest(takers, _KEPT)
        self._takers[place.name] = (place.used_bytes, kept)
        return kept

    def _still_paused(self) -> tuple[str, ...]:
        """Return the qubes that were paused here and are still."""
        ours = dict(self._paused)
        if not ours:
            return ()
        try:
            running = self._hands.domains()
        except SysPxeError:
            return tuple(sorted(ours.values()))
        still = {d.domid for d in running if d.paused}
        return tuple(sorted(n for d, n in ours.items() if d in still))


def writers(
    running: Sequence[xen.Domain], rates: dict[int, float]
) -> list[Writer]:
    """Return the qubes that write; what its device model writes is its own.

    One that is paused already does not write, whatever it did just now.
    """
    numbers = {d.name: d.domid for d in running}
    paused = {d.domid for d in running if d.paused}
    found: dict[int, Writer] = {}
    for domain in running:
        name = domain.name.removesuffix(xen.STUBDOMAIN)
        # a device model without its qube is not a qube's
        name = name if name in numbers else domain.name
        domid = numbers[name]
        if domid in paused or domain.domid not in rates:
            continue
        so_far = found[domid].rate if domid in found else 0.0
        found[domid] = Writer(name, domid, so_far + rates[domain.domid])
    return list(found.values())


class Worker(threading.Thread):
    """Runs jobs one after the other; a failed one is told in the journal."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()

    def later(self, job: Job) -> None:
        """Let a job be run after those that wait."""
        self._jobs.put(job)

    def run(self) -> None:
        """Run what comes, for ever."""
        while True:
            self.once()

    def once(self) -> None:
        """Run the next job."""
        job = self._jobs.get()
        try:
            job()
        except Exception as error:
            text = f"unexpected {type(error).__name__}: {error}"
            notify.journal(text, Level.WARNING)


def booted(places: Places) -> usage.Booted:
    """Return what this boot was. SysPxeError where this is no client."""
    try:
        return usage.parse_boot(files.read_capped(places.boot, _BOOT_MAX))
    except OSError as error:
        raise SysPxeError(
            f"{places.boot}: {error.strerror}",
            "this runs on clients that sys-pxe has booted",
        ) from None


def watch(watcher: Watch, sleep: Callable[[float], None]) -> None:
    """Look for ever; what cannot be read is told once and tried again."""
    said = ""
    while True:
        try:
            wait = watcher.look()
            said = ""
        except (SysPxeError, OSError) as error:
            text = str(error)
            if text != said:
                notify.journal(text, Level.WARNING)
            said, wait = text, usage.LOOK_MAX
        sleep(wait)


def main(argv: Sequence[str]) -> int:
    """Watch for ever; return the exit status when that is not possible."""
    if argv:
        sys.stderr.write("usage: sys-pxe-watch\n")
        return 2
    os.umask(0o022)
    places = Places()
    try:
        boundary = booted(places).boundary
    except SysPxeError as error:
        notify.journal(error.explain().replace("\n", "; "), Level.FULL)
        return error.exit_code
    worker = Worker()
    worker.start()
    watch(Watch(boundary, places, Hands(later=worker.later)), time.sleep)
    return 0
