"""The sys-pxe command against the real services, by the local transport."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sys_pxe import files, signature
from sys_pxe.dom0 import cli
from sys_pxe.dom0.state import State
from sys_pxe.manifest import Manifest
from tests import dom0_world
from tests.dom0_world import SITE, keep_release, new_state

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def present(monkeypatch: pytest.MonkeyPatch) -> None:
    dom0_world.in_the_present(monkeypatch)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return new_state(tmp_path / "state")


@pytest.fixture
def run(state: State, tmp_path: Path) -> Run:
    agent = files.make_folder(tmp_path / "agent")
    files.copy(state.public_key, agent / "key.pem")
    site = tmp_path / "site.yaml"
    files.write(site, SITE.encode())

    def call(*words: str) -> int:
        return cli.main(
            [
                *("--state", str(state.root), "--site", str(site), "--quiet"),
                *("--transport", f"local:{agent}", *words),
            ]
        )

    return call


def keep(state: State, name: str, seed: int) -> Manifest:
    return keep_release(state, name, 3 << 20, seed)


def test_push_activate_rollback_and_what_is_shown(
    run: Run, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("site", "push") == 0
    for number in (1, 2):
        keep(state, f"r{number}", number)
        assert run("release", "push", f"r{number}") == 0
        assert run("channel", "set", "stable", f"r{number}") == 0
    assert run("release", "push", "r2") == 0
    assert "0 chunks sent" in capsys.readouterr().out
    assert run("channel", "rollback", "stable") == 0
    assert capsys.readouterr().out == "channel stable: r2 -> r1\n"
    assert run("status", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["channels"]["stable"] == {
        "release": "r1",
        "serial": 1,
        "rollback": True,
    }
    assert run("release", "list", "--remote", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["releases"]
    assert [(r["release"], r["complete"]) for r in rows] == [
        ("r1", True),
        ("r2", True),
    ]
    assert run("release", "prune") == 0


def test_a_release_of_another_key_is_refused_with_code_4(
    run: Run, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = signature.new_key()
    files.write(state.key_folder / "private.pem", private, 0o600)
    files.write(state.key_folder / "public.pem", public)
    keep(state, "r1", 1)
    assert run("release", "push", "r1") == 4
    said = capsys.readouterr().err
    assert "signature" in said
    assert "\nhint: " in said


def test_a_chunk_that_was_damaged_in_dom0_is_refused_and_push_resumes(
    run: Run, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(state, "r1", 1)
    path = state.release_folder("r1") / "dom0-root"
    good = path.read_bytes()
    files.write(path, good[: 2 << 20] + bytes(1 << 20))
    assert run("release", "push", "r1") == 4
    files.write(path, good)
    assert run("release", "push", "r1") == 0
    assert "1 chunks sent" in capsys.readouterr().out


def test_an_old_pointer_and_an_unpushed_release_are_refused(
    run: Run, state: State
) -> None:
    assert run("site", "push") == 0
    keep(state, "r1", 1)
    assert run("channel", "set", "stable", "r1") != 0
    assert run("release", "push", "r1") == 0
    assert run("channel", "set", "stable", "r1") == 0
    files.remove(state.root / "serials/pointer")
    assert run("channel", "set", "stable", "r1") == 4
