"""The command as a person calls it, in a small world with a store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.dom0 import cli, transports
from sys_pxe.dom0.state import State
from tests.dom0_world import SITE, Store

Run = Callable[..., int]


def reachable(state: State, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store that each transport leads to."""
    found = Store(state.public_key)
    monkeypatch.setattr(
        transports, "choose", lambda spec, say, *, start=True: found
    )
    return found


def command(state: State, folder: Path) -> Run:
    """Return what calls the command; its site file is in the folder."""
    path = folder / "site.yaml"
    files.write(path, SITE.encode())

    def call(*words: str, spec: str = "local:/nowhere") -> int:
        return cli.main(
            [
                *("--state", str(state.root), "--site", str(path)),
                *("--transport", spec, *words),
            ]
        )

    return call
