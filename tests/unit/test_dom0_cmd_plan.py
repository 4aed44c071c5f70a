"""``sys-pxe plan``: the sums for a person and for a program, exit codes."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sys_pxe import files, manifest, ram, signature
from sys_pxe.dom0 import channels, cli
from sys_pxe.dom0.state import State
from tests import documents
from tests.dom0_world import NOW, SITE, Store, keep_release, new_state

Run = Callable[..., int]
# dom0: 2 GiB; one image of one MiB
NEED = ram.RUNNING_MIB + 1 + 256
SMALLEST = 2211


@pytest.fixture
def state(tmp_path: Path) -> State:
    found = new_state(tmp_path / "state")
    keep_release(found, "r1")
    return found


@pytest.fixture
def run(state: State, tmp_path: Path) -> Run:
    path = tmp_path / "site.yaml"
    small = "  tiny: {inherits: base, ram: {dom0: 512MiB}}\nclients:"
    files.write(path, SITE.replace("clients:", small, 1).encode())
    base = ["--state", str(state.root), "--site", str(path)]
    return lambda *words: cli.main([*base, "plan", *words])


def activate(state: State, release: str) -> None:
    store = Store(state.public_key)
    store.releases[release] = state.release(release)
    channels.activate(state, "stable", release, store, NOW)


def test_the_release_is_what_the_channel_names(
    run: Run, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_release(state, "r2")
    activate(state, "r2")
    assert run("office") == 0
    assert "profile office, release r2\n" in capsys.readouterr().out
    assert run("office", "--release", "r1") == 0
    assert "profile office, release r1\n" in capsys.readouterr().out


def test_a_channel_without_a_release_needs_one_named(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("office") == 1
    said = capsys.readouterr()
    assert "channel stable names no release yet\nhint: " in said.err
    assert "--release" in said.err
    assert said.out == ""


def test_the_sums_for_a_program(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("office", "--release", "r1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    rows = {p["name"]: (p["boot_mib"], p["limit_mib"]) for p in found["parts"]}
    assert rows == {
        "running system": (ram.RUNNING_MIB, ram.RUNNING_MIB),
        "dom0-root": (1, 1),
        "overlay": (0, 256),
        "dom0 kernel": (164, 164),
        "free in dom0": (1563, 1307),
        "Xen": (163, 163),
        "free beside dom0": (0, 0),
    }
    del found["parts"]
    assert found == {
        "profile": "office",
        "channel": "stable",
        "release": "r1",
        "dom0_mib": 2048,
        "least_dom0_mib": 707,
        "needed_mib": NEED,
        "smallest_pc_mib": SMALLEST,
        "smallest_pc_all_qubes_mib": SMALLEST,
        "qubes_boot_mib": 0,
        "qubes_all_mib": 0,
        "pc_mib": None,
        "left_mib": None,
        "fits": True,
    }


def test_a_pc_that_is_large_enough(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("office", "--release", "r1", "--ram", "16GiB") == 0
    said = capsys.readouterr().out
    assert f"smallest PC  {SMALLEST} MiB\n" in said
    assert "this PC      16384 MiB, 13952 MiB left\n" in said


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_pc_that_is_too_small_is_exit_code_1_and_both_numbers(
    run: Run, capsys: pytest.CaptureFixture[str], form: tuple[str, ...]
) -> None:
    words = ("office", "--release", "r1", "--ram")
    assert run(*words, f"{SMALLEST}MiB", *form) == 0
    capsys.readouterr()
    assert run(*words, f"{SMALLEST - 1}MiB", *form) == 1
    said = capsys.readouterr()
    assert f"needs a PC with {SMALLEST} MiB" in said.err
    assert f"this one has {SMALLEST - 1} MiB" in said.err
    if form:
        found = json.loads(said.out)
        assert (found["fits"], found["left_mib"]) == (False, -1)
    else:
        assert f"this PC      {SMALLEST - 1} MiB, lacks 1 MiB\n" in said.out


@pytest.mark.parametrize("pc", [(), ("--ram", "64GiB")])
def test_a_profile_that_is_too_small_fits_no_pc(
    run: Run, capsys: pytest.CaptureFixture[str], pc: tuple[str, ...]
) -> None:
    assert run("tiny", "--release", "r1", *pc, "--json") == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["fits"], found["smallest_pc_mib"]) == (False, None)
    assert f"needs {NEED} MiB of RAM in dom0" in said.err
    assert "profile tiny gives it 387 MiB\n" in said.err
    assert "set ram.dom0 in the profile to 707MiB or more" in said.err
    assert run("tiny", "--release", "r1", *pc) == 1
    assert "smallest PC" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["office", "more"], 2),
        (["offce"], 3),
        (["../x"], 3),
        (["\x1b[2J"], 3),
        (["office", "--release", "../r1"], 3),
        (["office", "--release", "r9"], 1),
        (["office", "--release", "r1", "--ram", "16GB"], 3),
        (["office", "--release", "r1", "--ram", "0GiB"], 3),
        (["office", "--release", "r1", "--ram", "-1GiB"], 2),
        (["office", "--release", "r1", "--ram", ""], 3),
    ],
)
def test_a_wrong_call_is_refused(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
) -> None:
    assert run(*words) == code
    said = capsys.readouterr()
    assert said.err.startswith("sys-pxe: error: ")
    assert "\x1b" not in said.err
    assert said.out == ""


def test_a_profile_with_qubes_says_where_all_of_them_can_run(
    run: Run, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SITE.replace("{inherits: base}", "{inherits: base, qubes: [work]}")
    files.write(tmp_path / "site.yaml", text.encode())
    assert run("office", "--release", "r1") == 3
    assert "no set of the qubes" in capsys.readouterr().err
    release = documents.with_set(documents.release("r2"), ("work",))
    folder = files.make_folder(state.release_folder("r2"))
    signed = signature.signed(manifest.write(release), state.private_key)
    files.write(folder / "manifest", signed)
    assert run("office", "--release", "r2") == 0
    said = capsys.readouterr().out
    assert re.search(r"^VM pool +32 +1056$", said, re.M)
    assert re.search(r"^qubes +400 +2000$", said, re.M)
    # Xen takes 128 MiB and a 64th of what there is
    assert "smallest PC  2617 MiB, with all qubes running 4243 MiB\n" in said
