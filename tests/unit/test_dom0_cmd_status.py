"""``sys-pxe status --idle``: may the server go away now?"""

import json
import time
from dataclasses import asdict, replace

import pytest

from sys_pxe.dom0 import cli, cmd_status, transports
from sys_pxe.dom0.answer_status import (
    RemoteAsked,
    RemoteClient,
    RemoteLoader,
    Status,
)
from sys_pxe.dom0.transport import NotRunning

NOW = 1_800_000_000
CLIENT = RemoteClient(
    client="desk-01",
    mac="52:54:00:00:00:01",
    release="r1",
    stage="fetch",
    bytes=1,
    total=4,
    seconds=9,
    message="",
    seen=NOW - 5,
)


def booting(**changes: object) -> list[str]:
    client = replace(CLIENT, **changes)  # type: ignore[arg-type]
    found = Status(1, {}, {}, (client,), free=1, chunks=1)
    return cmd_status.booting(found, NOW)


@pytest.mark.parametrize(
    "stage", ["network", "manifest", "ram", "fetch", "root"]
)
def test_a_client_on_its_way_counts(stage: str) -> None:
    assert booting(stage=stage) == [f"desk-01 ({stage})"]


def test_a_client_without_a_name_is_named_by_its_mac() -> None:
    assert booting(client=None) == ["52:54:00:00:00:01 (fetch)"]


@pytest.mark.parametrize("stage", ["handover", "failed", None])
def test_a_client_that_has_arrived_or_given_up_does_not(
    stage: str | None,
) -> None:
    assert booting(stage=stage) == []


class Qube:
    """A transport whose qube says that a client boots, or is off."""

    def __init__(self, off: bool) -> None:
        self.off = off

    def call(self, service: str, *_: object) -> bytes:
        assert service == "syspxe.Status"
        if self.off:
            raise NotRunning("the qube sys-pxe is off")
        row = {**asdict(CLIENT), "seen": int(time.time())}
        return json.dumps(
            {
                "site_serial": None,
                "channels": {},
                "services": {},
                "clients": [row],
                "disk": {"free": 1, "chunks": 1},
            }
        ).encode()


@pytest.mark.parametrize(("off", "code"), [(False, 5), (True, 0)])
def test_idle_is_busy_while_a_client_boots_and_starts_no_qube(
    off: bool,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def choose(spec: object, say: object, *, start: bool) -> Qube:
        assert start is False
        return Qube(off)

    monkeypatch.setattr(transports, "choose", choose)
    assert cli.main(["status", "--idle"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert ("desk-01 (fetch)" in said.err) == (code == 5)


def test_a_client_that_has_been_silent_does_not() -> None:
    seen = NOW - cmd_status.BOOTING_SECONDS
    assert booting(seen=seen) == []
    assert booting(seen=seen + 1) == ["desk-01 (fetch)"]


def test_a_qube_whose_clock_is_a_year_ahead_cannot_block_for_ever() -> None:
    assert booting(seen=NOW + 365 * 86_400) == []


@pytest.mark.parametrize(
    ("asked", "named", "seen"),
    [
        # its firmware asked again, and nothing came of it
        (NOW - 4, "desk-01", True),
        (NOW - 5, "desk-01", False),
        (NOW - 6, "desk-01", False),
        # a stranger is refused, and has its place in 'client list'
        (NOW - 4, None, False),
    ],
)
def test_a_client_that_asked_after_its_last_report_was_offered_only(
    asked: int, named: str | None, seen: bool
) -> None:
    one = RemoteAsked(named, CLIENT.mac, "uefi", asked)
    found = Status(1, {}, {}, (CLIENT,), free=1, chunks=1, asked=(one,))
    assert cmd_status.offered(found) == ([one] if seen else [])


def test_a_client_that_never_reported_was_offered() -> None:
    one = RemoteAsked("desk-02", "52:54:00:00:00:02", "bios", NOW)
    found = Status(1, {}, {}, (CLIENT,), free=1, chunks=1, asked=(one,))
    assert cmd_status.offered(found) == [one]


def test_a_stranger_was_offered_where_the_site_serves_strangers() -> None:
    mac = "52:54:00:00:00:77"
    one = RemoteAsked(None, mac, "uefi-http", NOW)
    found = Status(1, {}, {}, (CLIENT,), free=1, chunks=1, asked=(one,))
    assert cmd_status.offered(found) == []
    open_to_all = replace(found, unknown_clients="base")
    assert cmd_status.offered(open_to_all) == [one]
    started = replace(CLIENT, client=None, mac=mac, seen=NOW)
    later = replace(open_to_all, clients=(CLIENT, started))
    assert cmd_status.offered(later) == []


@pytest.mark.parametrize("profile", ["base", None])
def test_status_shows_a_stranger_by_its_mac_if_it_is_served(
    profile: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = RemoteAsked(None, "52:54:00:00:00:77", "uefi", NOW)
    found = replace(
        Status(1, {}, {}, (), free=1, chunks=1),
        asked=(one,),
        unknown_clients=profile,
    )
    monkeypatch.setattr(cmd_status, "fetch", lambda *_, **__: found)
    assert cli.main(["--transport", "local:/nowhere", "status"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = [row[:3] for row in rows if one.mac in row]
    assert shown == ([["-", one.mac, "uefi"]] if profile else [])


def test_status_shows_the_loaders_and_their_versions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = "/usr/lib/ipxe/snponly.efi"
    rows = (
        RemoteLoader("snponly.efi", package, "ipxe 1.21.1"),
        RemoteLoader("ipxe.pxe", None, None),
    )
    found = Status(1, {}, {}, (), free=1, chunks=1, loaders=rows)
    monkeypatch.setattr(cmd_status, "fetch", lambda *_, **__: found)
    assert cli.main(["--transport", "local:/nowhere", "status"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    at = lines.index(["LOADER", "VERSION", "FROM"])
    assert lines[at + 1 : at + 3] == [
        ["snponly.efi", "ipxe", "1.21.1", package],
        ["ipxe.pxe", "NOT", "FOUND", "-"],
    ]


def test_status_shows_who_was_offered_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = RemoteAsked("desk-02", "52:54:00:00:00:02", "bios", NOW)
    found = Status(1, {}, {}, (CLIENT,), free=1, chunks=1, asked=(one,))
    monkeypatch.setattr(cmd_status, "fetch", lambda *_, **__: found)
    assert cli.main(["--transport", "local:/nowhere", "status"]) == 0
    said = capsys.readouterr().out
    head = next(x for x in said.splitlines() if x.startswith("OFFERED, NOT"))
    row = said.splitlines()[said.splitlines().index(head) + 1]
    assert row.split()[:3] == ["desk-02", "52:54:00:00:00:02", "bios"]
    words = ["--transport", "local:/nowhere", "status", "--json"]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["offered"] == [asdict(one)]
