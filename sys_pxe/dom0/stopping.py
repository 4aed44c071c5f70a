"""Ctrl-C, SIGTERM and SIGHUP end a build in order, and never half way.

Whatever makes a snapshot or a mount does so inside :func:`stoppable`, with the
step itself and its undoing inside :func:`undisturbed`.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let the first such signal raise KeyboardInterrupt, drop all others.

    Programs that are started after the first one ignore them too: the undoing
    is not undone. Does nothing outside of the main thread or when it is nested.
    """
    if not _is_main() or signal.getsignal(signal.SIGTERM) is _stop:
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        for number, handler in before.items():
            # nohup(1) has its SIGHUP ignored, and wants it so
            if handler is not signal.SIG_IGN:
                signal.signal(number, _stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold the signals back until the block has ended.

    The programs that it starts inherit that: an lvcreate that is killed while
    it has suspended the root's volume would freeze the whole system.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    own = _is_main()
    _held.depth += own
    try:
        yield
    finally:
        _held.depth -= own
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if own and not _held.depth and _held.pending:
            _end()


@dataclass
class _Held:
    """How many blocks hold signals back, and whether one has come since."""

    depth: int = 0
    pending: bool = False


_held = _Held()


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _stop(_number: int, _frame: FrameType | None) -> None:
    # the mask keeps them from this thread only; another may have taken it
    if _held.depth:
        _held.pending = True
    else:
        _end()


def _end() -> None:
    _held.pending = False
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
