"""The client program: ``hide`` before udev, ``boot`` before the root mounts.

It never ends in a shell and never loops in silence: a failure says what, why
and what to do, on the screen and to the server, then waits and starts over.
"""

import sys
import time
import traceback
from collections.abc import Sequence

from sys_pxe import run
from sys_pxe.client import pci, screen
from sys_pxe.client.boot import Boot, failed
from sys_pxe.errors import SysPxeError, VerificationError

# seconds on the failure screen before the PC restarts for new boot files
PAUSE = 120


def main(argv: Sequence[str]) -> int:
    """Run ``hide`` or ``boot``; return the exit status."""
    if list(argv) == ["hide"]:
        return _hide()
    if list(argv) == ["boot"]:
        return _boot()
    sys.stderr.write("usage: sys-pxe-client hide|boot\n")
    return 2


def _hide() -> int:
    shown = screen.find()
    try:
        hidden = pci.hide_all()
    except SysPxeError as error:
        state = screen.State(stage="network")
        _hold(shown, state, error)
        return error.exit_code
    shown.say(
        "sys-pxe: hidden from dom0: "
        + ", ".join(f"{d.address} ({d.class_code:04x})" for d in hidden)
    )
    return 0


def _boot() -> int:
    shown = screen.find()
    state = screen.State()
    boot: Boot | None = None
    try:
        boot = Boot(state, lambda log: shown.show(state, log=log))
        boot.run()
    except Exception as caught:
        error = _explained(caught)
        failed(boot, error)
        _hold(shown, state, error)
        return error.exit_code
    shown.say(
        "sys-pxe: "
        + ", ".join(
            f"{stage} {seconds:.1f} s"
            for stage, seconds in state.seconds.items()
        )
    )
    shown.say("sys-pxe: the system is in RAM, the network is off")
    return 0


def _explained(caught: Exception) -> SysPxeError:
    if isinstance(caught, SysPxeError):
        return caught
    traceback.print_exception(caught)
    return SysPxeError(
        f"unexpected: {type(caught).__name__}: {caught}",
        "report this, with a photograph of this screen",
    )


def _hold(
    shown: screen.Screen, state: screen.State, error: SysPxeError
) -> None:
    """Show the failure for a while, then restart the PC for new boot files.

    What was wrong may have been mended on the server by then, and boot files
    belong to one release.
    """
    state.failure = error
    kind = "verification failed" if isinstance(error, VerificationError) else ""
    shown.say(f"sys-pxe: FAILED {kind}\n{error.explain()}")
    end = time.monotonic() + PAUSE
    while (left := end - time.monotonic()) > 0:
        state.next_step = (
            f"This PC restarts in {int(left)} s and tries again. "
            "Switch it off to stop."
        )
        shown.show(state, log=False)
        time.sleep(1)
    run.run(["systemctl", "--force", "--force", "reboot"], check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
