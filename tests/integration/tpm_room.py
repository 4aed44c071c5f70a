"""A TPM 2.0 without a PC: swtpm behind a socket, as its device would be."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sys_pxe import run
from sys_pxe.client import tpm

# a TPM that hangs fails the test: struct timeval, 60 s
PATIENCE = struct.pack("ll", 60, 0)


@contextmanager
def powered(state: Path) -> Iterator[tpm.Device]:
    """A TPM from power-on to power-off; ``state`` is what it keeps."""
    state.mkdir(exist_ok=True)
    ours, its = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, PATIENCE)
    with tpm.Device(ours.detach()) as device:
        with its:
            child = run.spawn(
                [
                    *("swtpm", "socket", "--tpm2", "--terminate"),
                    *("--tpmstate", f"dir={state}"),
                    *("--fd", str(its.fileno())),
                    *("--flags", "not-need-init,startup-clear"),
                ],
                pass_fds=(its.fileno(),),
            )
        try:
            yield device
        finally:
            run.stop(child)
