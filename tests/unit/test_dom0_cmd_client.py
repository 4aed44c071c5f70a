"""``sys-pxe client``: the list, PCs that asked and are added, scripts."""

import json
from pathlib import Path

import pytest

from sys_pxe.dom0.state import State
from sys_pxe.errors import SysPxeError
from tests.dom0_command import Run, command, reachable
from tests.dom0_world import Store, keep_release, new_state


@pytest.fixture
def state(tmp_path: Path) -> State:
    return new_state(tmp_path / "state")


@pytest.fixture
def store(state: State, monkeypatch: pytest.MonkeyPatch) -> Store:
    return reachable(state, monkeypatch)


@pytest.fixture
def run(state: State, tmp_path: Path) -> Run:
    return command(state, tmp_path)


@pytest.mark.usefixtures("store")
def test_render_prints_the_script_with_the_active_release(
    run: Run, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    made = keep_release(state, "r1")
    assert run("release", "push", "r1") == 0
    assert run("channel", "set", "stable", "r1") == 0
    assert run("client", "render", "desk-01", "--http-port", "8080") == 0
    said = capsys.readouterr().out
    assert "==> ipxe/desk-01.ipxe <==" in said
    assert f"http://192.0.2.1:8080/chunks/{made.artifacts[0].sha256}" in said


@pytest.mark.parametrize("verb", ["show", "render"])
@pytest.mark.parametrize("name", ["desk-02", "../x", "\x1b[2J"])
def test_an_unknown_client_is_refused(
    run: Run, capsys: pytest.CaptureFixture[str], verb: str, name: str
) -> None:
    assert run("client", verb, name) == 3
    assert "\x1b" not in capsys.readouterr().err


STRANGER = "52:54:00:00:00:77"


def test_who_asked_and_is_no_client_is_listed_and_can_be_added(
    run: Run,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store.asked = {STRANGER: "uefi", "52:54:00:00:00:01": "bios"}
    assert run("client", "list") == 0
    said = capsys.readouterr().out
    assert "NOT IN THE SITE" in said
    line = next(x for x in said.splitlines() if STRANGER in x)
    assert line.split()[:2] == [STRANGER, "uefi"]
    assert run("client", "list", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [s["mac"] for s in shown["strangers"]] == [STRANGER]
    path = tmp_path / "site.yaml"
    before = path.read_text()
    path.chmod(0o640)
    new = ["client", "add", "new", "--from-seen", STRANGER]
    assert run(*new, "--profile", "base") == 0
    said = capsys.readouterr().out
    row = "new: {mac: 52:54:00:00:00:77, profile: base}"
    assert f"\n+  {row}\n" in said
    assert said.endswith("next: sys-pxe site push\n")
    assert path.read_text().replace(f"  {row}\n", "") == before
    assert path.stat().st_mode & 0o777 == 0o640
    assert run("site", "push") == 0
    capsys.readouterr()
    assert run("client", "list") == 0
    assert "NOT IN THE SITE" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["new", "--from-seen", "52:54:00:00:00:78", "--profile", "base"],
         "no PC with 52:54:00:00:00:78 asked"),
        (["unknown", "--from-seen", STRANGER, "--profile", "base"],
         "is kept for PCs"),
        (["desk-01", "--from-seen", STRANGER, "--profile", "base"],
         "is a client already"),
        (["new", "--from-seen", STRANGER, "--profile", "none"], "--profile"),
    ],
)  # fmt: skip
def test_a_pc_that_cannot_be_added_changes_nothing(
    run: Run,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    store.asked = {STRANGER: "bios"}
    path = tmp_path / "site.yaml"
    before = path.read_bytes()
    assert run("client", "add", *words) == 3
    assert said in capsys.readouterr().err
    assert path.read_bytes() == before


def test_client_list_works_while_the_qube_is_down(
    run: Run, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.forced["syspxe.Status"] = SysPxeError("no answer")
    assert run("client", "list") == 0
    said = capsys.readouterr()
    assert "desk-01" in said.out
    assert "no reports: no answer" in said.err
