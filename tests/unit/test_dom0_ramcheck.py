"""What site check and site push warn of, without failing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sys_pxe import files, plan, site
from sys_pxe.dom0 import (
    build,
    channels,
    cli,
    mounts,
    ramcheck,
    sitefile,
    transports,
)
from sys_pxe.dom0.answer_status import RemoteClient
from sys_pxe.dom0.state import State
from sys_pxe.dom0.transport import NotRunning
from sys_pxe.errors import SysPxeError
from sys_pxe.site import Site
from tests import documents
from tests.dom0_world import NOW, SITE, Store, keep_release, new_state

Run = Callable[..., int]
SMALL = SITE.replace("2GiB", "512MiB")
WARNING = (
    "release r1 needs 577 MiB of RAM in dom0 (320 running system, 1 dom0-root,"
    " 256 overlay), profile office gives it 387 MiB; set ram.dom0 in the "
    "profile to 707MiB or more"
)


def a_site(text: str) -> Site:
    return site.parse(sitefile.parse(text.encode(), "site.yaml"))


def test_a_profile_that_is_too_small_is_named_with_both_numbers() -> None:
    active = {"stable": documents.release()}
    assert ramcheck.warnings(a_site(SMALL), active) == [WARNING]
    assert ramcheck.warnings(a_site(SITE), active) == []


def test_a_channel_without_a_release_has_no_plan() -> None:
    active = {"testing": documents.release()}
    assert ramcheck.plans(a_site(SMALL), active) == {}


def test_what_cannot_be_planned_is_left_to_who_uses_it() -> None:
    rootless = replace(documents.release(), artifacts=())
    assert ramcheck.plans(a_site(SITE), {"stable": rootless}) == {}
    bare = SITE.replace("clients:", "  bare: {qubes: [x]}\nclients:", 1)
    bare = bare.replace("unknown_clients: refuse", "unknown_clients: bare")
    active = {"stable": documents.release()}
    assert set(ramcheck.plans(a_site(bare), active)) == {"office"}


def test_only_profiles_that_a_pc_can_get_count() -> None:
    active = {"stable": documents.release()}
    assert set(ramcheck.plans(a_site(SITE), active)) == {"office"}
    for_all = SITE.replace("unknown_clients: refuse", "unknown_clients: base")
    assert set(ramcheck.plans(a_site(for_all), active)) == {"base", "office"}


def a_report(
    dom0_mib: int | None = None,
    pc_mib: int | None = None,
    mac: str = "52:54:00:00:00:01",
) -> RemoteClient:
    return RemoteClient(
        None, mac, "r1", "handover", 1, 1, 1, "", NOW, dom0_mib, pc_mib
    )


def told(*reports: RemoteClient, text: str = SITE) -> list[str]:
    active = {"stable": documents.release()}
    return ramcheck.warnings(a_site(text), active, reports)


def test_a_pc_that_is_too_small_for_its_profile_is_named() -> None:
    assert told(a_report(1900, 2211)) == []
    (line,) = told(a_report(1900, 2210))
    assert line.startswith(
        "desk-01: profile office needs a PC with 2211 MiB of RAM (2048 dom0, "
        "163 Xen), this one has 2210 MiB; "
    )


def test_what_dom0_had_counts_where_the_pc_is_not_known() -> None:
    assert told(a_report(577)) == []
    assert told(a_report(576, 2211)) == []
    assert told(a_report()) == []
    (line,) = told(a_report(576))
    assert line.startswith("desk-01: release r1 needs 577 MiB of RAM in dom0 ")
    assert "gives it 576 MiB; so it was at its last boot" in line


def test_a_profile_that_is_too_small_is_told_once_and_not_per_client() -> None:
    assert told(a_report(270, 1024), text=SMALL) == [WARNING]


def test_a_stranger_counts_where_strangers_have_a_profile() -> None:
    stranger = a_report(pc_mib=512, mac="52:54:00:00:00:99")
    assert told(stranger) == []
    for_all = SITE.replace("unknown_clients: refuse", "unknown_clients: base")
    (line,) = told(stranger, text=for_all)
    assert line.startswith("52:54:00:00:00:99: profile base needs a PC with ")


def test_a_room_of_small_pcs_does_not_flood_the_terminal() -> None:
    for_all = SITE.replace("unknown_clients: refuse", "unknown_clients: base")
    many = [a_report(pc_mib=512, mac=f"52:54:00:00:01:{n:02x}")
            for n in range(30)]  # fmt: skip
    lines = told(*many, text=for_all)
    assert len(lines) == ramcheck.CLIENTS_SHOWN + 1
    assert lines[-1] == "and 10 more clients have too little"


@pytest.fixture
def state(tmp_path: Path) -> State:
    found = new_state(tmp_path / "state")
    keep_release(found, "r1")
    return found


@pytest.fixture
def store(state: State, monkeypatch: pytest.MonkeyPatch) -> Store:
    found = Store(state.public_key)
    found.releases["r1"] = state.release("r1")
    channels.activate(state, "stable", "r1", found, NOW)
    monkeypatch.setattr(
        transports, "choose", lambda spec, say, *, start=True: found
    )
    return found


@pytest.fixture
def run(state: State, tmp_path: Path) -> Run:
    path = tmp_path / "site.yaml"
    files.write(path, SMALL.encode())
    base = ["--state", str(state.root), "--site", str(path)]
    return lambda *words: cli.main([*base, "--transport", "x", *words])


def test_a_site_is_checked_and_pushed_all_the_same(
    run: Run, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["site", "check"], ["--quiet", "site", "push"]):
        assert run(*words) == 0
        said = capsys.readouterr()
        assert said.err == f"sys-pxe: warning: {WARNING}\n"
    assert store.site_serial == 1
    assert run("site", "check", "--json") == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == [WARNING]


@pytest.mark.usefixtures("store")
def test_who_cannot_read_a_release_can_check_a_site(
    run: Run, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(state.release_folder("r1") / "manifest", b"nonsense\n")
    assert run("site", "check") == 0
    assert "warning: RAM was not checked: " in capsys.readouterr().err


def test_site_push_warns_by_the_last_report_and_check_too(
    run: Run, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(tmp_path / "site.yaml", SITE.encode())
    store.client_ram = {"dom0_mib": 900, "pc_mib": 1024}
    for verb in ("push", "check"):
        assert run("site", verb) == 0
        said = capsys.readouterr().err
        assert said.startswith("sys-pxe: warning: desk-01: profile office ")
        assert "2211 MiB" in said
        assert "1024 MiB" in said
    store.client_ram = {"dom0_mib": 1900, "pc_mib": 4096}
    assert run("site", "push") == 0
    assert capsys.readouterr().err == ""


def test_site_push_warns_before_anything_is_sent(
    run: Run, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(tmp_path / "site.yaml", SITE.encode())
    store.client_ram = {"dom0_mib": 900, "pc_mib": 1024}
    store.forced["syspxe.Site"] = SysPxeError("the cable was pulled")
    assert run("site", "push") == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("sys-pxe: warning: desk-01: profile office ")
    assert "the cable was pulled" in error
    assert store.calls[-2:] == [("syspxe.Status", None), ("syspxe.Site", None)]


def test_site_push_starts_the_qube_for_its_reports(
    run: Run,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def choose(spec: object, say: object, *, start: bool = True) -> Store:
        if not start:
            raise NotRunning("the qube sys-pxe is off")
        return store

    monkeypatch.setattr(transports, "choose", choose)
    files.write(tmp_path / "site.yaml", SITE.encode())
    store.client_ram = {"dom0_mib": 900, "pc_mib": 1024}
    assert run("site", "push") == 0
    assert "warning: desk-01: profile office " in capsys.readouterr().err
    # a check alone starts nothing
    assert run("site", "check") == 0
    assert "no reports: the qube sys-pxe is off" in capsys.readouterr().err


def test_a_site_is_pushed_and_checked_without_reports(
    run: Run, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(tmp_path / "site.yaml", SITE.encode())
    store.forced["syspxe.Status"] = SysPxeError("no answer")
    for verb in ("push", "check"):
        assert run("site", verb) == 0
        assert capsys.readouterr().err == "sys-pxe: no reports: no answer\n"


@pytest.mark.parametrize("verb", ["set", "rollback"])
def test_a_channel_is_set_all_the_same(
    run: Run, store: Store, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert run("channel", verb, "stable", "r1") == 0
    assert capsys.readouterr().err == f"sys-pxe: warning: {WARNING}\n"
    assert run("channel", verb, "testing", "r1") == 0
    assert capsys.readouterr().err == ""
    assert set(store.channels) == {"stable", "testing"}


@pytest.mark.parametrize(
    ("text", "told"), [(SMALL, f"sys-pxe: warning: {WARNING}\n"), (None, "")]
)
def test_a_built_release_is_held_against_the_site_if_there_is_one(
    run: Run,
    state: State,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    told: str,
) -> None:
    files.remove(tmp_path / "site.yaml")
    if text is not None:
        files.write(tmp_path / "site.yaml", text.encode())
    made = state.release("r1")
    monkeypatch.setattr(mounts, "private", lambda: None)
    monkeypatch.setattr(build, "check_root", lambda: None)
    monkeypatch.setattr(build, "build", lambda *_: made)
    assert run("release", "build", "r1", "--from", "/nowhere") == 0
    said = capsys.readouterr()
    assert said.out.startswith("release r1 built: ")
    assert said.err == told


def test_a_site_that_is_broken_is_no_reason_to_build_without_qubes(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files.write(tmp_path / "site.yaml", b"network: {}\n")
    monkeypatch.setattr(mounts, "private", lambda: None)
    assert run("release", "build", "r2", "--from", "/nowhere") == 3
    assert "site.yaml" in capsys.readouterr().err


def test_a_profile_whose_qubes_the_release_lacks_is_named() -> None:
    with_qubes = SITE.replace(
        "{inherits: base}", "{inherits: base, qubes: [work]}"
    )
    lacking = {"stable": documents.release()}
    (line,) = ramcheck.warnings(a_site(with_qubes), lacking)
    assert "no set of the qubes of profile office: work" in line
    assert "build a release" in line
    fine = {"stable": documents.with_set(documents.release(), ("work",))}
    assert not ramcheck.lacking_sets(a_site(with_qubes), fine)


def test_options_that_changed_since_the_build_are_named() -> None:
    found = a_site(SITE)
    digest = plan.options_digest(plan.settings(found, "office"))
    fine = documents.with_image(documents.release(), digest)
    assert ramcheck.lacking_sets(found, {"stable": fine}) == []
    old = documents.with_image(documents.release(), documents.sha("old"))
    (line,) = ramcheck.lacking_sets(found, {"stable": old})
    assert "no unified image with the options of profile office" in line
    # a release that was built for BIOS alone does not warn at every call
    assert ramcheck.lacking_sets(found, {"stable": documents.release()}) == []
