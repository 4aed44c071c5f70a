"""The daemon's control socket: one word in, one line of JSON out.

Only processes of the agent's own user can reach it.
"""

import json
import socket

from sys_pxe.agent.store import Store
from sys_pxe.errors import SysPxeError

# a row for each client of the largest site
ANSWER_MAX = 1 << 19
_PATIENCE = 60.0
RELOAD = b"reload"
STATUS = b"status"
ASKED = b"asked"


def ask(store: Store, word: bytes) -> dict[str, object] | None:
    """Return the daemon's answer, or None when no daemon runs.

    Raises SysPxeError when there is one and it does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as conn:
        conn.settimeout(_PATIENCE)
        try:
            conn.connect(str(store.run / "control"))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            conn.sendall(word + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                part = conn.recv(65536)
                if not part or len(answer) > ANSWER_MAX:
                    raise SysPxeError("the agent's daemon gave no answer")
                answer += part
        except OSError as error:
            raise SysPxeError(
                f"the agent's daemon did not answer ({error})",
                "look at the journal of sys-pxe",
            ) from None
    found = json.loads(answer)
    return found if isinstance(found, dict) else None
