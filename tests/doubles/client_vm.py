"""A double of ``qrexec-client-vm`` and of dom0's policy behind it.

A real program, first in PATH. It takes the two words that it is to get, asks
the policy files with the tests' evaluator, and then becomes the service.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.doubles.far_end import REFUSED, REPOSITORY, FarEnd
from tests.policy import evaluator
from tests.policy.evaluator import PolicyError, Qube, Request

POLICY = REPOSITORY / "qubes-rpc" / "policy" / "80-sys-pxe.policy"
TARGET = "sys-pxe"


@dataclass(frozen=True)
class ClientVm:
    """The program's folder, which holds what it decides by, too."""

    folder: Path
    far_end: FarEnd

    @classmethod
    def install(cls, folder: Path, far_end: FarEnd) -> "ClientVm":
        """Write the program and the policy; the caller has no tag yet."""
        (folder / "policy.d").mkdir(parents=True)
        made = cls(folder, far_end)
        made.policy(POLICY.name, POLICY.read_text())
        made.say()
        path = folder / "qrexec-client-vm"
        path.write_text(
            f"#!{sys.executable} -P\nimport sys\n"
            f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
            "from tests.doubles.client_vm import main\n"
            f"main({str(folder)!r}, sys.argv[1:])\n"
        )
        path.chmod(0o755)
        return made

    def policy(self, name: str, text: str) -> None:
        """Write a policy file."""
        (self.folder / "policy.d" / name).write_text(text)

    def say(self, *tags: str, **changes: bool) -> None:
        """Set the caller's tags; ``running``, ``starts``, ``exists``."""
        state = {"running": True, "starts": True, "exists": True, **changes}
        content = {**state, "tags": tags, "services": str(self.far_end.folder)}
        (self.folder / "world.json").write_text(json.dumps(content))

    def calls(self) -> list[str]:
        """Return the calls that came, allowed or not."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


def main(folder: str, words: list[str]) -> None:
    """Be the program."""
    target, call = words
    place = Path(folder)
    with (place / "calls").open("a") as log:
        log.write(f"{target} {call}\n")
    world = json.loads((place / "world.json").read_text())
    if not _allowed(place / "policy.d", target, call, world):
        sys.stderr.write("Request refused\n")
        sys.exit(REFUSED)
    argv, env = FarEnd(Path(world["services"])).command(call, "admin")
    os.execve(argv[0], argv, env)


def _allowed(
    policy: Path, target: str, call: str, world: Mapping[str, object]
) -> bool:
    service, plus, argument = call.partition("+")
    system = {"admin": Qube(frozenset(_tags(world)))}
    if world["exists"]:
        system[TARGET] = Qube(running=bool(world["running"]))
    request = Request(service, f"{plus or '+'}{argument}", "admin", target)
    try:
        rules = evaluator.load(
            {p.name: p.read_text() for p in policy.iterdir()}
        )
    except PolicyError:
        return False
    if evaluator.evaluate(rules, request, system) != TARGET:
        return False
    # dom0 tells a caller as little of a start that failed
    return bool(world["running"] or world["starts"])


def _tags(world: Mapping[str, object]) -> list[str]:
    tags = world["tags"]
    assert isinstance(tags, list)
    return tags
