"""Salt as dom0, the template and the qube run it, with a double of Qubes OS.

Salt itself is real and runs in this process, because it takes seconds to
start. What would touch the machine goes to the double or below a folder.
"""

import getpass
import grp
import importlib
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sys_pxe import run
from tests.salt.double import model

REPOSITORY = Path(__file__).resolve().parents[2]
DOUBLE = REPOSITORY / "tests/salt/double"
DOM0, TEMPLATE, QUBE = "dom0", "tpl-sys-pxe", "sys-pxe"
ADMIN_TEMPLATE = "debian-13-xfce"
MINIONS = (DOM0, TEMPLATE, QUBE)
KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"

# Salt looks through each module that it has for a function that is in none,
# such as qvm.mod_init: a second for each call, unless they are disabled
MODULES = (
    *("cmdmod", "config", "cp", "file", "grains", "match", "pillar"),
    *("saltutil", "state", "test", "useradd"),
)
STATES = ("cmd", "file", "pkg", "qvm", "service", "test", "user")

Pillar = Mapping[str, object]
States = dict[str, dict[str, Any]]


def program(name: str) -> str:
    """Return the command of a double."""
    return f"{shlex.quote(sys.executable)} -m tests.salt.double.programs {name}"


def salt_url(path: str, saltenv: str | None = None) -> str:
    """Return a salt:// address.

    Salt 3007.13 makes them with urlunparse(), which puts no slashes before a
    relative path from Python 3.12.4 on; Qubes OS repairs its own Salt.
    """
    return f"salt://{path}" + (f"?saltenv={saltenv}" if saltenv else "")


def others(kind: str, wanted: tuple[str, ...]) -> list[str]:
    """Return the names of Salt's other modules of a kind."""
    folder = Path(importlib.import_module("salt").__path__[0], kind)
    return sorted({p.stem for p in folder.iterdir()} - set(wanted))


class World:
    """An installed formula, one Qubes OS, and Salt's own folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.srv = folder / "installed/srv"
        self.state = folder / "qubes.json"
        self.pillar_root = folder / "pillar"
        self.pillar_root.mkdir()
        (self.pillar_root / "top.sls").write_text("base: {'*': [given]}\n")
        run.run(
            ["bash", str(REPOSITORY / "tools/install"), str(self.srv.parent)]
        )
        self._callers: dict[str, Any] = {}
        self.reset()

    def reset(self, *devices: model.Device) -> None:
        """Make it a fresh Qubes OS with these devices; one card by default."""
        os.environ[model.ENVIRONMENT] = str(self.state)
        model.save(model.plain(*(devices or (model.card("00_1f.6"),))))
        run.run(["rm", "-rf", str(self.root)])
        (self.root / "var/lib").mkdir(parents=True)

    @property
    def lookup(self) -> dict[str, str]:
        """What the pillar has to replace, and nothing else."""
        return {
            "root": str(self.root),
            "user": getpass.getuser(),
            "group": grp.getgrgid(os.getegid()).gr_name,
            "python": sys.executable,
            "library": f"{REPOSITORY}:{DOUBLE}",
            "command": program("sys-pxe"),
            "qvm_check": program("qvm-check"),
            "qvm_volume": program("qvm-volume"),
        }

    def call(
        self,
        minion: str,
        function: str,
        *args: Any,
        family: str = "Debian",
        **more: Any,
    ) -> Any:
        """Call a Salt function as ``salt-call --local`` does.

        ``family`` is the grain os_family.
        """
        key = f"{minion}-{family}"
        if key not in self._callers:
            self._callers[key] = self._caller(minion, family)
        return self._callers[key].cmd(function, *args, **more)

    def _caller(self, minion: str, family: str) -> Any:
        private = self.folder / f"{minion}-{family}"
        private.mkdir()
        (private / "minion").write_text(
            yaml.safe_dump(
                {
                    "id": minion,
                    "file_client": "local",
                    "root_dir": str(private),
                    "log_file": "/dev/null",
                    "log_level": "error",
                    "file_roots": {"base": [str(self.srv / "salt")]},
                    "pillar_roots": {"base": [str(self.pillar_root)]},
                    "module_dirs": [str(DOUBLE)],
                    "disable_modules": others("modules", MODULES),
                    "disable_states": others("states", STATES),
                    "nodegroups": {"dom0": "dom0"},
                    "grains": {"os_family": family},
                    # else a pillar is merged with that of the last call
                    "ssh_merge_pillar": False,
                }
            )
        )
        # no type hints, and slow: hence not at the top
        config = importlib.import_module("salt.config")
        client = importlib.import_module("salt.client")
        url: Any = importlib.import_module("salt.utils.url")
        url.create = salt_url
        options = config.minion_config(str(private / "minion"))
        return client.Caller(mopts=options)

    def give(self, more: Pillar | None = None, key: str | None = KEY) -> None:
        """Let the pillar hold these settings, and the public key."""
        given: dict[str, object] = {"lookup": self.lookup, **(more or {})}
        if key is not None:
            given["public_key"] = key
        (self.pillar_root / "given.sls").write_text(
            yaml.safe_dump({"sys-pxe": given})
        )

    def show(
        self, sls: str, more: Pillar | None = None, family: str = "Debian"
    ) -> Any:
        """Return the states that an .sls renders to, or a list of faults."""
        self.give(more)
        return self.call(
            MINION_OF[sls], "state.show_sls", f"sys-pxe.{sls}", family=family
        )

    def apply(
        self,
        sls: str,
        more: Pillar | None = None,
        *,
        key: str | None = KEY,
        test: bool = False,
    ) -> "Outcome":
        """Apply an .sls."""
        self.give(more, key)
        answer = self.call(
            MINION_OF[sls], "state.apply", f"sys-pxe.{sls}", test=test
        )
        return Outcome(answer)


MINION_OF = {
    "create": DOM0,
    "remove": DOM0,
    "install": TEMPLATE,
    "configure": QUBE,
    # a template of the user's own; it has no top
    "install-admin": ADMIN_TEMPLATE,
}


class Outcome:
    """What came of applying states."""

    def __init__(self, answer: Any) -> None:
        self.faults: list[str] = []
        self.states: States = {}
        if isinstance(answer, list):
            self.faults = [str(one) for one in answer]
            return
        for one in answer.values():
            self.states[one["__id__"]] = one
            if one["result"] is False:
                said = [one["comment"], one["changes"].get("stderr", "")]
                self.faults.append(f"{one['__id__']}: {' '.join(said)}")

    @property
    def changed(self) -> list[str]:
        """The ids of the states that changed something."""
        return [name for name, one in self.states.items() if one["changes"]]

    @property
    def said(self) -> str:
        """All faults as one text."""
        return "\n".join(self.faults)

    def __repr__(self) -> str:
        return self.said or json.dumps(self.changed)
