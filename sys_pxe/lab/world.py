"""The lab's world: a LAN with the real agent, the real command, clients.

What ``make demo`` and the boot tests share. The seams to Qubes OS are the
local transport (a process in qrexec's place) and the golden tree (Debian with
Xen in the place of an installed Qubes OS); all the rest is what is shipped.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from sys_pxe import files, run
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import disks, golden
from sys_pxe.lab.machine import Hardware, Machine
from sys_pxe.lab.network import BRIDGE, Lan

REPOSITORY = Path(__file__).resolve().parents[2]
IPV6 = "fd00:192:0:2::1/64"
RAM_MIB = 2048
DOM0_RAM = "1536MiB"
# high levels cost a minute and save 6 % (DEFAULT_LEVEL is for real releases)
COMPRESSION = 3
BOOT_SECONDS = 420.0
# the last thing that the client program says, and what it says in trouble
IN_RAM = "the system is in RAM, the network is off"
FAILED = "sys-pxe: FAILED"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Desk:
    """A client of the lab: name, MAC address, profile, and RAM in MiB.

    ``group`` is the volume group on its second disk, if it has one.
    """

    name: str
    mac: str
    profile: str
    memory: int = RAM_MIB
    group: str = ""


DESKS = (
    Desk("desk-01", "52:54:00:00:00:01", "lab"),
    Desk("desk-02", "52:54:00:00:00:02", "small"),
    Desk("desk-03", "52:54:00:00:00:03", "disks"),
)
# the one with qubes: its release comes from a tree that lab.qubes filled
# the group has the name of Qubes' own
QUBES_DESK = Desk("desk-04", "52:54:00:00:00:04", "qubes", 3072, "qubes_dom0")
_QUBES_PROFILE = {
    "inherits": "lab",
    # the channel of releases with qubes, so that the others have theirs
    "channel": "testing",
    "qubes": ["work", "personal", "vault"],
    "storage": "visible",
    "ram": {"dom0": "1792MiB", "pool": "192MiB"},
}


def site_data(
    profiles: Mapping[str, str] | None = None, qubes: bool = False
) -> dict[str, object]:
    """Return the lab's site.yaml; ``profiles`` gives clients other profiles.

    With ``qubes`` there is also the desk that has some; a release for such a
    site can be built only from a tree that has them.
    """
    other = profiles or {}
    desks = (*DESKS, QUBES_DESK) if qubes else DESKS
    return {
        "network": {
            "address": "192.0.2.1/24",
            "dhcp": {"mode": "server", "pool": "192.0.2.100-192.0.2.199"},
        },
        "channels": ["testing", "stable"],
        "profiles": {
            "lab": {
                "channel": "stable",
                "ram": {"dom0": DOM0_RAM, "overlay": "128MiB"},
                "options": {
                    "xen": ["console=com1", "com1=115200"],
                    "kernel": [
                        *("console=tty0", "console=hvc0"),
                        # without BPF LSM: systemd reads all type data of
                        # the kernel for it, half a minute under emulation
                        "lsm=landlock,lockdown,yama,integrity",
                        # a busy machine emulates slowly: the console's
                        # device may come after the usual 90 s
                        "systemd.default_device_timeout_sec=600",
                    ],
                },
            },
            "small": {"inherits": "lab", "ram": {"dom0": "384MiB"}},
            "disks": {"inherits": "lab", "storage": "visible"},
            **({"qubes": _QUBES_PROFILE} if qubes else {}),
        },
        "clients": {
            desk.name: {
                "mac": desk.mac,
                "profile": other.get(desk.name, desk.profile),
            }
            for desk in desks
        },
        "unknown_clients": "refuse",
    }


class World:
    """The lab, up and running while its ``with`` block runs. Needs root.

    ``folder`` is emptied first; it holds the state of dom0, the agent's
    folder, logs, disks and pictures. ``cache`` keeps the golden tree.
    """

    def __init__(self, folder: Path, cache: Path, say: Say) -> None:
        self.folder = folder.absolute()
        self.cache = cache.absolute()
        self.say = say
        self.state = self.folder / "dom0"
        self.agent_root = self.folder / "agent"
        self.site_file = self.folder / "site.yaml"
        self.lan = Lan(ipv6=IPV6)
        self._undo = ExitStack()
        self._agent: run.Popen[bytes] | None = None
        # the digest of each disk when the power came on
        self._disks: dict[Path, str] = {}

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise SysPxeError(
                "the lab needs root: it makes network namespaces and mounts",
                "call it as root, on a machine that may be a test machine",
            )
        files.remove(self.folder)
        for folder in (self.folder, self.agent_root):
            files.make_folder(folder)
        try:
            self._undo.enter_context(self.lan)
            self._undo.callback(self.stop_agent)
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    def golden(self) -> Path:
        """Return the golden tree, made now or taken from the cache."""
        files.make_folder(self.cache)
        return golden.golden_tree(self.cache, self.say)

    def command(self, *words: str, shown: bool = True) -> str:
        """Run ``sys-pxe WORDS``; return its stdout (SysPxeError if it fails).

        With ``shown``, the command, its output and its progress appear.
        """
        if shown:
            self.say(f"$ sys-pxe {' '.join(words)}")
        argv = [
            *(sys.executable, "-m", "sys_pxe.dom0"),
            *("--state", str(self.state), "--site", str(self.site_file)),
            *("--transport", f"local:{self.agent_root}"),
            *words,
        ]
        env = {"PYTHONPATH": str(REPOSITORY)}
        child = run.spawn(
            argv,
            stdout=run.PIPE,
            stderr=None if shown else run.PIPE,
            env=env,
        )
        with child:
            out, errors = child.communicate()
        if child.returncode != 0:
            said = (errors or b"").decode("utf-8", "replace")[-2000:]
            raise SysPxeError(f"sys-pxe {' '.join(words)} failed: {said}")
        text = out.decode()
        if shown and text:
            self.say(text.rstrip())
        return text

    def write_site(
        self, profiles: Mapping[str, str] | None = None, qubes: bool = False
    ) -> None:
        """Write site.yaml, as an administrator would edit it."""
        text = yaml.safe_dump(site_data(profiles, qubes), sort_keys=False)
        files.write(self.site_file, text.encode("ascii"))

    def create_key(self) -> None:
        """Make dom0's signing key and give its public half to the agent."""
        self.command("key", "create")
        files.copy(self.state / "key/public.pem", self.agent_root / "key.pem")

    def build(self, release: str, tree: Path) -> None:
        """Build a release from a tree, at a quick compression level."""
        self.command(
            *("release", "build", release, "--from", str(tree)),
            *("--compression", str(COMPRESSION)),
        )

    def start_agent(self) -> None:
        """Start the agent, with dnsmasq and nginx below it, on the LAN."""
        argv = [
            *(sys.executable, "-m", "sys_pxe.agent"),
            *("--root", str(self.agent_root), "run", "--interface", BRIDGE),
        ]
        with open(self.folder / "agent.log", "ab") as log:
            self._agent = run.spawn(
                self.lan.exec_argv(argv),
                stdout=log,
                stderr=log,
                env={"PYTHONPATH": str(REPOSITORY)},
                new_session=True,
            )

    def stop_agent(self) -> None:
        """Stop the agent and its children, as a shutdown of the qube does."""
        if self._agent is not None:
            run.stop(self._agent, 15)
            self._agent = None

    def machine(self, desk: Desk, **hardware: object) -> Machine:
        """Return a client, switched on by its ``with`` block.

        Its disks are made anew; ``hardware`` overrides Hardware's fields.
        """
        decoys = self.decoys(desk)
        files.remove(decoys[0])
        disks.decoy_disk(decoys[0])
        for disk in decoys[1:]:
            disks.volume_group(disk, desk.group)
        self._disks.update({disk: disks.digest(disk) for disk in decoys})
        fields: dict[str, object] = {
            "mac": desk.mac,
            "memory": desk.memory,
            "disks": decoys,
            **hardware,
        }
        tap = f"tap-{desk.name}"
        if not (self.folder / tap).exists():
            self.lan.tap(tap)
            files.write_generated(self.folder / tap, b"")
        return Machine(
            self.lan,
            desk.name,
            tap,
            Hardware(**fields),  # type: ignore[arg-type]
            self.folder,
        )

    def decoys(self, desk: Desk) -> tuple[Path, ...]:
        """Return the paths of a client's disks, which nothing may change."""
        kinds = ("decoy", "group") if desk.group else ("decoy",)
        return tuple(self.folder / f"{desk.name}-{k}.img" for k in kinds)

    def decoy_unchanged(self, desk: Desk) -> bool:
        """Return whether its disks are what they were at power-on."""
        return all(
            disks.digest(disk) == self._disks[disk]
            for disk in self.decoys(desk)
        )

    def client_row(self, desk: Desk) -> dict[str, object]:
        """Return what ``sys-pxe status`` says of a client."""
        status = json.loads(self.command("status", "--json", shown=False))
        for row in status["clients"]:
            if row["client"] == desk.name:
                return dict(row)
        return {}
