"""The client program's middle stages on a host of the lab. JSON to stdout.

Usage: ``refusal_probe.py JSON`` with the keys folder, key, release, serial,
mac, and optionally ram (MiB), clock (seconds since 1970), or xen and kernel,
the digests of a boot stick, in place of a release. Only what needs
a real PC is stood in for: the network card, its address, root and handover.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sys_pxe.client import boot, card, identity, memory, started
from sys_pxe.client.screen import State
from sys_pxe.errors import SysPxeError

SERVER = ("192.0.2.1", 80)


@dataclass(frozen=True)
class StandIn:
    """What the stages read of the boot card."""

    name: str
    mac: str


ROOT = "dom0-root"


class MiddleStages(boot.Boot):
    """A boot of a PC whose card is up already and that stays as it is."""

    def __init__(self, state: State, mac: str) -> None:
        super().__init__(state, lambda _log: None)
        self.facts.boot_card = cast(card.Card, StandIn("eth0", mac))

    def stage_network(self) -> None:
        self.facts.server = SERVER

    def stage_root(self) -> None:
        assert (memory.IMAGES / ROOT).is_file()

    def stage_pool(self) -> None:
        assert self.facts.qubes is None

    def stage_handover(self) -> None:
        self.facts.interfaces = ("lo",)


def prepare(wanted: dict[str, str]) -> None:
    folder = Path(wanted["folder"])
    memory.IMAGES = folder / "images"
    boot.RESULT = folder / "boot.json"
    identity.KEY = Path(wanted["key"])
    # whatever this machine was started by
    started.UEFI = folder / "no-uefi"
    path = folder / "identity"
    keys = ("xen", "kernel") if "xen" in wanted else ("release", "serial")
    lines = [f"{key} {wanted[key]}\n" for key in keys]
    path.write_text("".join(lines), "ascii")
    # a default of a function is bound when the function is made
    identity.read.__defaults__ = (path,)
    if "ram" in wanted:
        total = int(wanted["ram"])
        memory.total_mib = lambda *_: total
    if "clock" in wanted:
        now = float(wanted["clock"])
        time.time = lambda: now


def main() -> int:
    wanted: dict[str, str] = json.loads(sys.argv[1])
    prepare(wanted)
    state = State()
    tried = MiddleStages(state, wanted["mac"])
    error: SysPxeError | None = None
    try:
        tried.run()
    except SysPxeError as caught:
        error = caught
        boot.failed(tried, error)
    copy = Path(wanted["folder"]) / "copy"
    copy.unlink(missing_ok=True)
    if error is None:
        # the tmpfs goes with this process's mount namespace
        copy.write_bytes((memory.IMAGES / ROOT).read_bytes())
    progress = tried.facts.progress
    found = {
        "ok": error is None,
        "message": error.message if error else "",
        "hint": error.hint if error else "",
        "exit_code": error.exit_code if error else 0,
        "bytes": progress.received if progress else 0,
        "stage": state.stage,
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
