"""Qubes OS' own policy parser behind the same call as our evaluator.

For machines where its package ``qrexec`` is installed; nothing here is a copy.
"""

import importlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.policy.evaluator import PolicyError, Request, System
from tests.policy.matrix import Verdict


def system_info(system: System) -> dict[str, Any]:
    """Return what qrexec's policy daemon gets from qubesd."""
    found: dict[str, Any] = {}
    for number, (name, qube) in enumerate(system.items()):
        uuid = f"00000000-0000-0000-0000-{number:012d}"
        found[name] = {
            "name": name,
            "uuid": uuid,
            "tags": sorted(qube.tags),
            "type": "AdminVM" if name == "dom0" else "AppVM",
            "template_for_dispvms": qube.template_for_dispvms,
            "default_dispvm": qube.default_dispvm,
            "icon": "xen",
            "guivm": None,
            "internal": False,
            "power_state": "Running" if qube.running else "Halted",
            "relayvm": None,
            "transport_rpc": None,
        }
        found[f"uuid:{uuid}"] = found[name]
    return {"domains": found}


def verdict_of(files: Mapping[str, str]) -> Verdict:
    """Return the verdicts of upstream's parser on these policy files."""
    parser = importlib.import_module("qrexec.policy.parser")
    exc = importlib.import_module("qrexec.exc")
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        try:
            policy = parser.FilePolicy(policy_path=Path(folder))
        except exc.AccessDenied as error:
            raise PolicyError(str(error)) from None

    def verdict(request: Request, system: System) -> str | None:
        try:
            asked = parser.Request(
                request.service,
                request.argument,
                request.source,
                request.target,
                system_info=system_info(system),
            )
            return reached(policy.evaluate(asked).execute())
        except exc.AccessDenied:
            return None

    return verdict


def reached(coroutine: Any) -> str:
    """Return the target in the answer for qrexec-daemon."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        answer = dict(line.split("=", 1) for line in end.value.splitlines())
        assert answer["result"] == "allow"
        return str(answer["target"])
    raise AssertionError("an allowed call waits for nothing")


def lint(path: Path) -> None:
    """Run qubes-policy-lint; SystemExit when it finds a fault."""
    tool = importlib.import_module("qrexec.tools.qubes_policy_lint")
    tool.main([str(path)])
