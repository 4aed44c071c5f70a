"""The sys-pxe qube as qrexec sees it: a folder of services, and exit codes.

The services are the real ones of ``qubes-rpc/``, with their two places moved:
the package, and the agent's folder. Facts: qrexec.h and libqrexec/exec.c of
Qubes OS 4.3.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# RPCNAME_ALLOWED_CHARSET, after the service's name an argument
_CALL = r"([A-Za-z0-9_.-]{1,255})(\+[A-Za-z0-9_.+-]*)?"
PROBLEM, REFUSED, NOT_FOUND = 125, 126, 127


@dataclass(frozen=True)
class FarEnd:
    """Where the qube's services are, as files that can be executed."""

    folder: Path

    @classmethod
    def install(cls, folder: Path, agent_root: Path) -> "FarEnd":
        """Put the services there, for the agent's folder."""
        folder.mkdir()
        for shim in (REPOSITORY / "qubes-rpc").glob("syspxe.*"):
            text = shim.read_text()
            for installed, here in (
                ("/usr/lib/sys-pxe", REPOSITORY),
                ("/var/lib/sys-pxe", agent_root),
            ):
                assert text.count(installed) == 1
                text = text.replace(installed, str(here))
            (folder / shim.name).write_text(text)
            (folder / shim.name).chmod(0o755)
        return cls(folder)

    def replace(self, service: str, script: str) -> None:
        """Let a service be a few lines of sh; ``$REAL`` is the real one."""
        path = self.folder / service
        kept = self.folder / f".{service}"
        if not kept.exists():
            path.rename(kept)
        # qrexec gives the service's name; it must stay what the shim sees
        real = self.folder / ".real" / service
        real.parent.mkdir(exist_ok=True)
        real.write_text(kept.read_text())
        real.chmod(0o755)
        path.write_text(f"#!/bin/sh\nREAL='{real}'\n{script}\n")
        path.chmod(0o755)

    def restore(self, service: str) -> None:
        """Put the real service back."""
        (self.folder / f".{service}").rename(self.folder / service)

    def remove(self, service: str) -> None:
        """Take a service away, as before the install state."""
        (self.folder / service).unlink()

    def command(
        self, call: str, source: str
    ) -> tuple[list[str], dict[str, str]]:
        """Return what the agent of qrexec executes, and its environment.

        A call that it cannot execute is a shell that ends with its exit code.
        """
        match = re.fullmatch(_CALL, call)
        assert match, f"qrexec-daemon passes no such call: {call!r}"
        service, argument = match[1], (match[2] or "+")[1:]
        path = self.folder / service
        if not path.exists():
            return ["/bin/sh", "-c", f"exit {NOT_FOUND}"], {}
        if not os.access(path, os.X_OK):
            return ["/bin/sh", "-c", f"exit {PROBLEM}"], {}
        # no argument and an empty one are the same to it: none
        return [str(path), *([argument] if argument else [])], {
            "QREXEC_REMOTE_DOMAIN": source,
            "QREXEC_SERVICE_FULL_NAME": f"{service}+{argument}",
            "QREXEC_SERVICE_ARGUMENT": argument,
            "QREXEC_REQUESTED_TARGET_TYPE": "",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }
