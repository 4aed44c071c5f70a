"""A TPM 2.0 for a PC of the lab: swtpm, which QEMU reaches over a socket.

QEMU hands it a socket for commands over the control socket, and the firmware
starts it (Documentation: docs/specs/tpm.rst of QEMU).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.errors import SysPxeError

_READY_SECONDS = 30.0


@contextmanager
def emulated(folder: Path) -> Iterator[Path]:
    """Yield the control socket of a TPM that keeps its seeds in ``folder``.

    It serves one power-on of a machine. Raises SysPxeError when swtpm does not
    start; it dies with the thread that started it.
    """
    files.make_folder(folder)
    control = folder / "control"
    files.remove(control)
    child = run.spawn(
        [
            *("setpriv", "--pdeathsig", "KILL", "swtpm", "socket", "--tpm2"),
            *("--tpmstate", f"dir={folder}", "--terminate"),
            *("--ctrl", f"type=unixio,path={control}"),
        ],
        new_session=True,
    )
    try:
        end = time.monotonic() + _READY_SECONDS
        while not control.is_socket():
            if child.poll() is not None or time.monotonic() > end:
                raise SysPxeError(
                    "swtpm did not start", "install the package swtpm"
                )
            time.sleep(0.05)
        yield control
    finally:
        run.stop(child)
