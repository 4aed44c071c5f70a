"""The command: nouns, verbs, exit codes, and what a person sees."""

import json
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.dom0 import cli, cmd_site, cmd_status, context
from sys_pxe.dom0.state import State
from sys_pxe.errors import (
    Busy,
    InvalidInput,
    SysPxeError,
    VerificationError,
)
from tests.dom0_command import Run, command, reachable
from tests.dom0_world import SITE, Store, keep_release, new_state


@pytest.fixture
def state(tmp_path: Path) -> State:
    return new_state(tmp_path / "state")


@pytest.fixture
def store(state: State, monkeypatch: pytest.MonkeyPatch) -> Store:
    return reachable(state, monkeypatch)


@pytest.fixture
def run(state: State, tmp_path: Path) -> Run:
    return command(state, tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["release"],
        ["release", "build"],
        ["release", "explode"],
        ["channel", "set", "stable"],
        ["client", "show"],
        ["key", "create", "--json"],
        ["status", "more"],
        ["release", "build", "r1", "--from", "/", "--valid-days", "x"],
        ["release", "build", "r1", "--from", "/", "--compression", "gzip"],
    ],
)
def test_a_wrong_call_is_a_usage_error_with_a_hint(
    run: Run, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert run(*words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("sys-pxe: error: ")
    assert "\nhint: " in said.err
    assert said.out == ""


NOUNS = ("key", "release", "channel", "client", "site", "plan", "status")


def test_help_names_every_noun(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for noun in NOUNS:
        assert f"\n    {noun} " in shown


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SysPxeError("x", "y"), 1),
        (InvalidInput("x", "y"), 3),
        (VerificationError("x", "y"), 4),
        (Busy("x", "y"), 5),
    ],
)
def test_an_error_of_the_store_sets_the_exit_code(
    run: Run,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    error: SysPxeError,
    code: int,
) -> None:
    store.forced["syspxe.Status"] = error
    assert run("status") == code
    assert capsys.readouterr().err == "sys-pxe: error: x\nhint: y\n"


def test_ctrl_c_ends_with_130(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cmd_status, "fetch", stop)
    assert run("status") == cli.INTERRUPTED


def test_a_fault_is_one_line_unless_debug_is_on(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(cmd_status, "fetch", fail)
    assert run("status") == 1
    said = capsys.readouterr().err
    assert said.splitlines()[0] == (
        "sys-pxe: error: unexpected ZeroDivisionError: oops"
    )
    assert "Traceback" not in said
    with pytest.raises(ZeroDivisionError):
        run("--debug", "status")


def test_a_missing_permission_is_told_plainly(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> None:
        raise PermissionError(13, "Permission denied", "/etc/x")

    monkeypatch.setattr(cmd_status, "fetch", fail)
    assert run("status") == 1
    assert capsys.readouterr().err == (
        "sys-pxe: error: /etc/x: Permission denied\nhint: call it with sudo\n"
    )


def test_no_transport_is_a_usage_error(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", spec="") == 2
    assert "SYS_PXE_TRANSPORT" in capsys.readouterr().err


def test_the_environment_can_name_the_transport(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SYS_PXE_TRANSPORT", "local:/srv/agent")
    assert cli.parser().parse_args(["status"]).transport == "local:/srv/agent"


@pytest.mark.usefixtures("store")
def test_the_life_of_a_release(
    run: Run, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("r1", "r2"):
        keep_release(state, name, seed=int(name[1]))
        assert run("release", "push", name) == 0
        assert run("channel", "set", "stable", name) == 0
    assert run("channel", "rollback", "stable") == 0
    said = capsys.readouterr().out
    assert "release r1 is in the store: 4 chunks sent (0.0 MiB, 130 byt" in said
    assert "channel stable: - -> r1\n" in said
    assert "channel stable: r1 -> r2\n" in said
    assert said.endswith("channel stable: r2 -> r1\n")
    assert run("channel", "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["channels"]
    assert [(r["channel"], r["release"], r["rollback"]) for r in rows] == [
        ("testing", None, None),
        ("stable", "r1", True),
    ]


def test_a_pointer_holds_the_floor_that_the_site_has(
    run: Run, store: Store, state: State, tmp_path: Path
) -> None:
    keep_release(state, "r1")
    assert run("release", "push", "r1") == 0
    for floor in (1, 7):
        text = SITE if floor == 1 else f"{SITE}floors: {{stable: {floor}}}\n"
        files.write(tmp_path / "site.yaml", text.encode())
        assert run("channel", "rollback", "stable", "r1") == 0
        sent = store.channels["stable"]
        assert (sent.rollback, sent.floor) == (True, floor)


@pytest.mark.usefixtures("store")
def test_a_channel_that_the_site_does_not_have_is_refused(
    run: Run, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_release(state, "r1")
    assert run("channel", "set", "stabel", "r1") == 3
    assert "one of: testing, stable" in capsys.readouterr().err


def test_site_push_sends_a_growing_serial(
    run: Run, store: Store, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("site", "check") == 0
    assert run("site", "push") == 0
    assert run("site", "push") == 0
    assert store.site_serial == 2
    assert "site 2 is in use: 1 clients, 2 profiles" in capsys.readouterr().out
    assert (state.root / "site").is_file()
    assert cmd_site.SERVICE == "syspxe.Site"


def test_a_broken_site_is_not_sent(
    run: Run, store: Store, tmp_path: Path, state: State
) -> None:
    files.write(tmp_path / "site.yaml", SITE.encode() + b"more: 1\n")
    assert run("site", "push") == 3
    assert store.calls == []
    assert not (state.root / "serials").exists()


@pytest.mark.usefixtures("store")
def test_status_shows_what_came_without_control_characters(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status") == 0
    said = capsys.readouterr().out
    assert "nginx     NOT RUNNING, 3 restarts" in said
    assert "?[2Jhello" in said
    assert "\x1b" not in said
    assert "25 %" in said
    rows = [line.split() for line in said.splitlines()]
    path = "/usr/lib/ipxe/snponly.efi"
    assert ["snponly.efi", "ipxe", "1.0?[2J", path] in rows
    assert ["ipxe.pxe", "NOT", "FOUND", "-"] in rows


READERS = [
    ["key", "show"],
    ["release", "list"],
    ["release", "list", "--remote"],
    ["release", "show", "r1"],
    ["channel", "list"],
    ["client", "list"],
    ["client", "show", "desk-01"],
    ["client", "render", "desk-01"],
    ["site", "check"],
    ["plan", "office"],
    ["status"],
]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_every_reader_speaks_json_and_for_people(
    run: Run,
    state: State,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    keep_release(state, "r1")
    assert run("release", "push", "r1") == 0
    assert run("channel", "set", "stable", "r1") == 0
    capsys.readouterr()
    assert run(*words) == 0
    assert capsys.readouterr().out.strip()
    assert run(*words, "--json") == 0
    shown = capsys.readouterr().out
    assert isinstance(json.loads(shown), dict)
    assert "\x1b" not in shown


def test_prune_says_what_went(
    run: Run, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("release", "prune") == 0
    assert capsys.readouterr().out == (
        "releases dropped: old; 2 chunks, 1.0 MiB\n"
    )
    assert store.calls == [("syspxe.Prune", None)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (("a", "b"), "a, b"),
        ((), "-"),
        ("\x1b[2J\n", "?[2J?"),
        ("x" * 500, "x" * 100),
    ],
)
def test_a_cell_is_printable_and_bounded(value: object, text: str) -> None:
    assert context.shown(value) == text


def test_secure_boot_keys_are_made_once_and_shown(
    run: Run,
    state: State,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("key", "show") == 0
    assert "Secure Boot" not in capsys.readouterr().out
    assert run("key", "create", "--secure-boot") == 0
    said = capsys.readouterr().out
    mark = said.split("db certificate SHA-256 ")[1].split()[0]
    assert str(state.root / "secure-boot") in said and len(mark) == 64
    assert run("key", "show", "--json") == 0
    assert json.loads(capsys.readouterr().out)["secure_boot_db"] == mark
    assert run("key", "show") == 0
    assert mark in capsys.readouterr().out
    assert run("key", "create", "--secure-boot") == 2
    assert "already" in capsys.readouterr().err
