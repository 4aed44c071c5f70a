"""``sys-pxe doctor``: what is printed, in which form, with which exit code."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.dom0 import (
    channels,
    cli,
    cmd_doctor,
    context,
    securekeys,
    transports,
)
from sys_pxe.dom0.state import State
from sys_pxe.dom0.transport import NotRunning
from sys_pxe.errors import SysPxeError
from tests.dom0_world import NOW, SITE, Store, keep_release, new_state

Capture = pytest.CaptureFixture[str]
Run = Callable[..., int]
ROUTER = {"address": "192.0.2.254", "proxy": False}


class Room(Store):
    """A store whose services run and whose client has arrived."""

    def __init__(self, public_key: Path) -> None:
        super().__init__(public_key)
        self.slept: list[float] = []
        self.off = False
        self.changes: dict[str, object] = {}

    def _status(
        self, argument: str | None, content: bytes
    ) -> dict[str, object]:
        if self.off:
            raise NotRunning("the qube sys-pxe is off")
        found = super()._status(argument, content)
        running = {"running": True, "restarts": 0}
        return {
            **found,
            "services": {"dnsmasq": running, "nginx": running},
            "clients": [],
            **self.changes,
        }

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.health["dhcp"] = {"mode": "server", "age": 1, "others": [ROUTER]}


@pytest.fixture
def state(tmp_path: Path) -> State:
    return new_state(tmp_path / "state")


@pytest.fixture
def room(state: State, monkeypatch: pytest.MonkeyPatch) -> Room:
    found = Room(state.public_key)

    def choose(spec: object, say: object, *, start: bool) -> Room:
        assert start is False
        return found

    monkeypatch.setattr(transports, "choose", choose)
    monkeypatch.setattr(context.Context, "now", lambda _: NOW)
    made = cli._context
    monkeypatch.setattr(
        cli, "_context", lambda args: replace(made(args), sleep=found.sleep)
    )
    found.site_serial = 1
    files.make_folder(securekeys.folder(state))
    return found


@pytest.fixture
def run(state: State, tmp_path: Path) -> Run:
    path = tmp_path / "site.yaml"
    files.write(path, SITE.encode())

    def call(*words: str) -> int:
        places = ("--state", str(state.root), "--site", str(path))
        return cli.main([*places, "--quiet", "doctor", *words])

    return call


def test_where_nothing_is_wrong_it_says_what_was_looked_at(
    run: Run, room: Room, capsys: Capture
) -> None:
    assert run() == 0
    said = capsys.readouterr()
    assert said.err == ""
    (line,) = said.out.splitlines()
    assert line.startswith("checked, nothing wrong: site, services, dhcp, ")
    assert room.slept == []
    assert run("--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_fault_is_one_line_and_exit_code_1(
    run: Run, room: Room, capsys: Capture
) -> None:
    room.health["mtu"] = 1500
    room.health["ports"] = [{"protocol": "udp", "port": 69, "open": False}]
    assert run() == 1
    said = capsys.readouterr()
    first, rest = said.out.splitlines()
    assert first == (
        "the firewall of the sys-pxe qube blocks udp port 69: PCs that boot "
        "need it. Next: run 'systemctl restart sys-pxe-network' in the qube; "
        "if that does not help, look at its nft rules"
    )
    assert "firewall" not in rest
    assert said.err == "sys-pxe: error: 1 problem was found\n"
    assert run("--json") == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert set(row) == {"check", "what", "why", "next_step", "severity"}
    assert (row["check"], row["severity"]) == ("firewall", "problem")


def test_a_stranger_that_started_nothing_is_named_where_it_is_served(
    run: Run, room: Room, capsys: Capture
) -> None:
    late = {"client": None, "mac": "52:54:00:00:00:77", "firmware": "uefi",
            "seen": NOW - 300}  # fmt: skip
    room.changes = {"asked": [late], "unknown_clients": None}
    assert run() == 0
    capsys.readouterr()
    room.changes["unknown_clients"] = "base"
    assert run() == 1
    assert capsys.readouterr().out.startswith(
        "client 52:54:00:00:00:77 (uefi) was offered a loader 5 min 0 s ago"
    )


def test_a_note_alone_is_no_fault(
    run: Run, room: Room, state: State, capsys: Capture
) -> None:
    files.remove(securekeys.folder(state))
    assert run() == 0
    assert capsys.readouterr().out.startswith("note: nothing checks the boot")


def test_the_lan_is_asked_when_the_answer_is_old(
    run: Run, room: Room, capsys: Capture
) -> None:
    for age in (None, cmd_doctor.FRESH + 1):
        room.slept.clear()
        room.health["dhcp"] = {"mode": "server", "age": age}
        assert run() == 1
        said = capsys.readouterr().out
        assert said.startswith("192.0.2.254 is a second DHCP server")
        assert room.slept == [cmd_doctor.LAN_SECONDS]


def test_a_release_that_another_one_has_replaced_is_seen(
    run: Run, room: Room, state: State, capsys: Capture
) -> None:
    for name in ("r1", "r2"):
        room.releases[name] = keep_release(state, name)
        channels.activate(state, "stable", name, room, NOW)
    room.channels["stable"] = replace(
        room.channels["stable"], release="r1", release_serial=1
    )
    assert run() == 1
    said = capsys.readouterr().out
    assert "channel stable names release r1 in the sys-pxe qube" in said
    # they end tomorrow
    assert "release r1 (channel stable) expires in 24 h 0 min" in said


def test_a_qube_that_is_off_is_a_finding(
    run: Run, room: Room, capsys: Capture
) -> None:
    room.off = True
    assert run() == 1
    assert capsys.readouterr().out.startswith("the qube sys-pxe is off: no PC")


def test_a_qube_that_cannot_be_reached_is_the_usual_error(
    run: Run, room: Room, capsys: Capture
) -> None:
    room.forced["syspxe.Status"] = SysPxeError("dom0 refused", "a tag")
    assert run() == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "sys-pxe: error: dom0 refused\nhint: a tag\n"
    room.forced["syspxe.Status"] = b"<html>\n"
    assert run() == 3


def test_a_wrong_site_file_does_not_hide_the_rest(
    run: Run, room: Room, tmp_path: Path, capsys: Capture
) -> None:
    files.write(tmp_path / "site.yaml", b"network: 7\n")
    room.health["trouble"] = "nginx does not start"
    assert run() == 1
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("the site file is wrong: site.yaml: network")
    assert "nginx does not start" in second
    files.remove(tmp_path / "site.yaml")
    assert run() == 1
    assert "the site file" not in capsys.readouterr().out


def test_a_flood_of_one_kind_is_cut_and_harmless(
    run: Run, room: Room, capsys: Capture
) -> None:
    loud = "\x1b[2J" * 20
    rows = [
        {
            "client": None, "mac": f"52:54:00:00:{n // 256:02x}:{n % 256:02x}",
            "release": None, "stage": "failed", "bytes": 0, "total": 0,
            "seconds": 0, "message": loud, "seen": NOW - 1,
        }
        for n in range(2000)
    ]  # fmt: skip
    room.changes = {"clients": rows, "trouble": loud}
    assert run() == 1
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert len(lines) == 1 + cmd_doctor.SHOWN_MAX + 2
    more = 2000 - cmd_doctor.SHOWN_MAX
    assert lines[-2] == f"and {more} more of this kind (stuck), see --json"
    assert all(c == "\n" or " " <= c <= "~" for c in said)
    assert run("--json") == 1
    assert len(json.loads(capsys.readouterr().out)) == 2001
