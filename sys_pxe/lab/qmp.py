"""QEMU's control socket: JSON commands and their answers (QMP)."""

import json
import socket

from sys_pxe.errors import SysPxeError

_ANSWER_MAX = 1 << 20


class Control:
    """Commands to one QEMU, over a socket that it got at its start."""

    def __init__(self, name: str, end: socket.socket, timeout: float) -> None:
        self.name = name
        end.settimeout(timeout)
        self._socket = end
        self._lines = end.makefile("rb")
        self._answer("QMP")
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> object:
        """Run a command and return its answer; SysPxeError when refused."""
        call = {"execute": command, "arguments": arguments}
        try:
            self._socket.sendall(json.dumps(call).encode() + b"\n")
        except OSError:
            raise self._gone() from None
        return self._answer("return")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()

    def _answer(self, key: str) -> object:
        """Return the next message's ``key``; events in between are skipped."""
        while True:
            try:
                line = self._lines.readline(_ANSWER_MAX)
            except OSError:
                raise self._gone() from None
            if not line:
                raise self._gone()
            message = json.loads(line)
            if "error" in message:
                raise SysPxeError(
                    f"{self.name}: QEMU refused: {message['error'].get('desc')}"
                )
            if key in message:
                value: object = message[key]
                return value

    def _gone(self) -> SysPxeError:
        return SysPxeError(f"{self.name}: QEMU does not answer; it has ended")
