"""On Qubes OS: calls from dom0 and from an admin qube, and what goes wrong."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.dom0 import qrexec, transports
from sys_pxe.dom0.qrexec import QubesTransport
from sys_pxe.errors import InvalidInput, SysPxeError
from tests import dom0_world
from tests.doubles import places, qubesadmin_double
from tests.doubles.places import AdminQube, Dom0, Place
from tests.doubles.qubesadmin_double import QubesException

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def present(monkeypatch: pytest.MonkeyPatch) -> None:
    dom0_world.in_the_present(monkeypatch)


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[Dom0]:
    with places.dom0(tmp_path) as found:
        yield found


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[AdminQube]:
    with places.admin_qube(tmp_path) as found:
        yield found


@pytest.fixture(params=["dom0", "admin"])
def place(request: pytest.FixtureRequest) -> Place:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Place)
    return found


def test_the_life_of_a_release(dom0: Dom0, capsys: Capture) -> None:
    assert dom0.run("site", "push") == 0
    for number in (1, 2):
        dom0.keep_release(f"r{number}", 100, number)
        assert dom0.run("release", "push", f"r{number}") == 0
        assert dom0.run("channel", "set", "stable", f"r{number}") == 0
    assert dom0.run("channel", "rollback", "stable") == 0
    assert "stable: r2 -> r1" in capsys.readouterr().out
    assert dom0.run("release", "list", "--remote", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["releases"]
    assert [(r["release"], r["complete"]) for r in rows] == [
        *(("r1", True), ("r2", True))
    ]
    assert dom0.run("status", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["channels"]["stable"]["release"] == "r1"
    assert dom0.run("release", "prune") == 0
    assert dom0.run("client", "list") == 0
    assert "desk-01" in capsys.readouterr().out


def test_the_qube_sees_service_and_argument_and_nothing_of_ours(
    place: Place,
) -> None:
    place.far_end.replace(
        "syspxe.Push", 'cat >/dev/null; echo "$# $1"; env >&2; exit 1'
    )
    near = transports.choose(None, print)
    with pytest.raises(SysPxeError) as caught:
        near.call("syspxe.Push", "r1")
    said = caught.value.message
    assert "QREXEC_SERVICE_FULL_NAME=syspxe.Push+r1" in said
    assert "PYTHON" not in said


@pytest.mark.parametrize("argument", ["", "../r1", "r1 r2", "r1\n", "R1", "@"])
def test_an_argument_that_is_no_name_never_leaves(
    place: Place, argument: str
) -> None:
    near = transports.choose(None, print)
    with pytest.raises(InvalidInput):
        near.call("syspxe.Push", argument)


@pytest.mark.parametrize(
    ("status", "kind"), [(1, 1), (2, 1), (3, 3), (4, 4), (5, 5), (77, 1)]
)
def test_an_exit_code_of_the_service_stays_its_own(
    place: Place, capsys: Capture, status: int, kind: int
) -> None:
    place.far_end.replace(
        "syspxe.Status",
        f"echo 'no way' >&2; echo 'hint: try' >&2; exit {status}",
    )
    assert place.run("status") == kind
    assert capsys.readouterr().err == (
        "sys-pxe: error: syspxe.Status: no way\nhint: try\n"
    )


def test_a_service_that_is_not_installed(place: Place, capsys: Capture) -> None:
    place.far_end.remove("syspxe.Status")
    assert place.run("status") == 1
    said = capsys.readouterr().err
    assert "the qube sys-pxe does not have the service syspxe.Status" in said
    assert "state.apply sys-pxe.install" in said


def test_a_service_that_cannot_be_executed(
    place: Place, capsys: Capture
) -> None:
    (place.far_end.folder / "syspxe.Status").chmod(0o644)
    assert place.run("status") == 1
    said = capsys.readouterr().err
    assert "qrexec could not run syspxe.Status" in said
    assert "/var/log/qubes/qrexec.sys-pxe.log" in said


CUT = (
    # the stream ends, and the service says so
    ('head -c 2500000 | "$REAL" "$@"', 3),
    # the connection ends: nothing comes back
    ('head -c 2500000 | "$REAL" "$@" >/dev/null 2>&1; exit 125', 1),
    ('head -c 2500000 | "$REAL" "$@" >/dev/null 2>&1; kill -9 $$', 1),
)


@pytest.mark.parametrize(("script", "code"), CUT)
def test_a_push_that_was_cut_in_the_middle_goes_on_where_it_was(
    place: Place, capsys: Capture, script: str, code: int
) -> None:
    made = place.keep_release("r1", 4 << 20)
    # the first call carries no chunk and is left whole
    place.far_end.replace("syspxe.Push", _second_time(place, script))
    assert place.run("release", "push", "r1") == code
    kept = place.chunks()
    assert 0 < len(kept) < len(made.chunks())
    said = capsys.readouterr().err
    assert "push r1:" in said
    assert "\nhint: " in said or code == 1
    place.far_end.restore("syspxe.Push")
    assert place.run("release", "push", "r1") == 0
    left = len(made.chunks()) - len(kept)
    assert f"{left} chunks sent" in capsys.readouterr().out
    assert place.chunks() == set(made.chunks())


def _second_time(place: Place, script: str) -> str:
    mark = place.far_end.folder / ".called"
    return (
        f'if [ ! -e {mark} ]; then : >{mark}; exec "$REAL" "$@"; fi\n{script}'
    )


# dom0


def test_a_qube_that_is_off_is_started_and_that_is_said(
    dom0: Dom0, capsys: Capture
) -> None:
    dom0.qube.state = "Halted"
    assert dom0.run("status") == 0
    assert dom0.qube.started == 1
    said = capsys.readouterr().err
    assert said == "the qube sys-pxe is off; starting it\n"
    assert dom0.run("status") == 0
    assert dom0.qube.started == 1


def test_a_list_of_clients_starts_no_qube(dom0: Dom0, capsys: Capture) -> None:
    dom0.qube.state = "Halted"
    assert dom0.run("client", "list") == 0
    assert dom0.qube.started == 0
    said = capsys.readouterr()
    assert "desk-01" in said.out
    assert "no reports: the qube sys-pxe is off" in said.err


def test_no_qube_says_how_to_make_one(dom0: Dom0, capsys: Capture) -> None:
    dom0.app.domains.clear()
    assert dom0.run("status") == 1
    said = capsys.readouterr().err
    assert "there is no qube named sys-pxe" in said
    assert "hint: make it with the formula: sudo qubesctl" in said


@pytest.mark.parametrize(
    "reason",
    [
        "PCI device dom0:00_1f.6 is used by qube sys-net",
        "Not enough memory to start domain 'sys-pxe'",
        "\x1b[2JStart failed: internal error",
    ],
)
def test_a_qube_that_does_not_start_says_why(
    dom0: Dom0, capsys: Capture, reason: str
) -> None:
    dom0.qube.state = "Halted"
    dom0.qube.start_error = QubesException("%s", reason)
    assert dom0.run("status") == 1
    said = capsys.readouterr().err
    shown = reason.replace("\x1b", "?")
    assert f"the qube sys-pxe does not start: {shown}\n" in said
    assert "hint: 'qvm-pci list'" in said
    assert dom0.qube.calls == []


@pytest.mark.parametrize(
    "state", ["Transient", "Halting", "Dying", "Crashed", "\x1b[2J"]
)
def test_a_qube_that_is_neither_off_nor_on_is_named_so(
    dom0: Dom0, capsys: Capture, state: str
) -> None:
    dom0.qube.state = state
    assert dom0.run("status") == 1
    said = capsys.readouterr().err
    assert f"it is {state}".replace("\x1b", "?") in said
    assert dom0.qube.calls == []


def test_a_paused_qube_is_left_as_it_is(dom0: Dom0, capsys: Capture) -> None:
    dom0.qube.state = "Paused"
    assert dom0.run("status") == 1
    assert "qvm-unpause sys-pxe" in capsys.readouterr().err
    assert dom0.qube.started == 0


def test_a_user_who_may_not_talk_to_qubesd_is_told_so(
    dom0: Dom0, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = qubesadmin_double.Unreachable()
    monkeypatch.setattr(dom0.app, "domains", unreachable)
    assert dom0.run("status") == 1
    said = capsys.readouterr().err
    assert "Failed to connect to qubesd service" in said
    assert "sudo" in said


def test_a_missing_qrexec_client_is_an_error_of_ours(
    dom0: Dom0, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file", "/usr/lib/qubes/qrexec-cli")

    monkeypatch.setattr(dom0.qube, "run_service", gone)
    assert dom0.run("status") == 1
    assert "dom0 cannot call the qube sys-pxe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (125, "qrexec could not run syspxe.Status"),
        (126, "no policy binds dom0"),
        (127, "does not have the service syspxe.Status"),
    ],
)
def test_what_qrexec_says_in_dom0(
    dom0: Dom0, capsys: Capture, status: int, text: str
) -> None:
    dom0.qube.exit_codes = [status]
    assert dom0.run("status") == 1
    said = capsys.readouterr().err
    assert text in said
    assert f"(exit status {status})" in said
    assert "\nhint: " in said


def test_without_qubesadmin_the_right_program_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "qubesadmin", None)
    near = QubesTransport("sys-pxe", print)
    with pytest.raises(SysPxeError, match="no qubesadmin") as caught:
        near.call("syspxe.Status")
    assert "/usr/bin/sys-pxe" in caught.value.hint


# an admin qube


def refused(admin: AdminQube, capsys: Capture, *words: str) -> str:
    assert admin.run(*words) == 1
    said = capsys.readouterr().err
    assert "dom0 refused to let this qube call" in said
    assert "Request refused" in said
    return said


def test_a_qube_without_the_tag_is_told_which_one(
    admin: AdminQube, capsys: Capture
) -> None:
    admin.dom0.say()
    said = refused(admin, capsys, "status")
    assert "qvm-tags THIS-QUBE add sys-pxe-admin" in said
    assert admin.dom0.calls() == ["sys-pxe syspxe.Status"]


def test_a_viewer_reads_and_does_not_push(
    admin: AdminQube, capsys: Capture
) -> None:
    admin.dom0.say("sys-pxe-viewer")
    admin.keep_release("r1")
    assert admin.run("status") == 0
    assert admin.run("release", "list", "--remote") == 0
    refused(admin, capsys, "release", "push", "r1")
    refused(admin, capsys, "release", "prune")
    assert admin.chunks() == set()


def test_a_viewer_does_not_start_the_qube_and_an_admin_does(
    admin: AdminQube, capsys: Capture
) -> None:
    admin.dom0.say("sys-pxe-viewer", running=False)
    assert "while sys-pxe runs" in refused(admin, capsys, "status")
    admin.dom0.say("sys-pxe-admin", running=False)
    assert admin.run("status") == 0


@pytest.mark.parametrize("fault", ["exists", "starts"])
def test_a_qube_that_is_missing_or_does_not_start(
    admin: AdminQube, capsys: Capture, fault: str
) -> None:
    admin.dom0.say("sys-pxe-admin", running=False, **{fault: False})
    said = refused(admin, capsys, "status")
    assert "qvm-start sys-pxe" in said


def test_a_syntax_error_in_another_packages_policy_stops_every_call(
    admin: AdminQube, capsys: Capture
) -> None:
    assert admin.run("status") == 0
    admin.dom0.policy("75-other.policy", "other.Service * @anyvm allow\n")
    said = refused(admin, capsys, "status")
    assert "qubes-policy-lint /etc/qubes/policy.d/*.policy" in said


def test_what_needs_the_key_is_for_dom0(
    admin: AdminQube, capsys: Capture
) -> None:
    """A release that dom0 signed can be pushed from a qube without a key."""
    admin.keep_release("r1")
    assert admin.run("release", "push", "r1") == 0
    assert admin.run("release", "list", "--remote") == 0
    assert admin.run("release", "prune") == 0
    capsys.readouterr()
    for words in (
        ("site", "push"),
        ("channel", "set", "stable", "r1"),
        ("channel", "rollback", "stable", "r1"),
    ):
        assert admin.run(*words) == 1
        said = capsys.readouterr().err
        assert "there is no signing key at" in said
        assert "hint: only dom0 signs: run this command there" in said
    serials = admin.state.root / "serials"
    assert {p.name for p in serials.iterdir()} == {"release"}


def test_a_release_that_was_changed_on_its_way_is_not_sent(
    admin: AdminQube, capsys: Capture
) -> None:
    admin.keep_release("r1")
    path = admin.state.release_folder("r1") / "manifest"
    path.write_bytes(path.read_bytes().replace(b"r1", b"r2"))
    assert admin.run("release", "push", "r1") == 4
    assert admin.dom0.calls() == []


def test_without_any_key_the_hint_names_dom0s_public_one(
    admin: AdminQube, capsys: Capture
) -> None:
    admin.keep_release("r1")
    files.remove(admin.state.public_key)
    assert admin.run("release", "push", "r1") == 1
    assert "dom0's key/public.pem" in capsys.readouterr().err


@pytest.mark.parametrize("reasons", [qrexec._IN_DOM0, qrexec._IN_QUBE])
@pytest.mark.parametrize("status", [125, 126, 127])
def test_a_message_that_comes_with_it_cannot_drive_the_terminal(
    reasons: dict[int, tuple[str, str]], status: int
) -> None:
    error = qrexec.explained(
        *("sys-pxe", "syspxe.Status", status),
        b"\x1b[2J\xff\n" + b"x" * 5000,
        reasons,
    )
    assert all(" " <= c <= "~" for c in error.message + error.hint)
    assert len(error.message) < 600
    assert error.hint
