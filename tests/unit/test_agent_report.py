"""Reports: strict on the wire, bounded on the disk."""

import base64
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe.agent import endpoint, report
from sys_pxe.agent.report import Reports
from sys_pxe.errors import InvalidInput

MAC = "52:54:00:00:00:01"
QUOTE = base64.b64encode(bytes(range(256)) + bytes(177)).decode()


def wire(**values: object) -> bytes:
    return json.dumps({"mac": MAC, **values}).encode()


def request(body: bytes, head: bytes = b"POST /report HTTP/1.0") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return head + b"\r\n" + length + b"\r\n\r\n" + body


def test_a_full_report_is_read() -> None:
    found = report.parse(
        wire(client="desk-01", release="r1", stage="fetch", bytes=5,
             total=10, seconds=1.6, message="half", dom0_mib=1397,
             pc_mib=2048, mtu=1500, quote=QUOTE)
    )  # fmt: skip
    assert found == report.Report(
        MAC, "desk-01", "r1", "fetch", 5, 10, 2, "half", 1397, 2048, 1500, QUOTE
    )


def test_only_the_mac_is_needed() -> None:
    assert report.parse(wire()) == report.Report(
        MAC, "", "", "", 0, 0, 0, "", 0, 0, 0, ""
    )


def test_a_message_is_cut_and_made_printable() -> None:
    found = report.parse(wire(message="\x1b[31mé" + "x" * 400))
    assert found.message.startswith("?[31m?xxx")
    assert len(found.message) == report.MESSAGE_MAX


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"{" * 2000,
        b'{"mac": 1}',
        b'{"mac": "52:54:00:00:00:0"}',
        b'{"mac": "ff:ff:ff:ff:ff:ff"}',
        b'{"mac": "' + MAC.encode() + b'", "mac": "' + MAC.encode() + b'"}',
        wire(stage="done"),
        wire(stage=1),
        wire(bytes=-1),
        wire(bytes=True),
        wire(bytes=1 << 60),
        wire(seconds=-0.5),
        wire(seconds=1e300),
        wire(seconds=float("nan")),
        wire(seconds="1"),
        wire(dom0_mib=-1),
        wire(dom0_mib=1.5),
        wire(pc_mib=1 << 40),
        wire(pc_mib="2GiB"),
        wire(mtu=-1),
        wire(mtu=1 << 17),
        wire(quote=1),
        wire(quote="AAAA"),
        wire(quote="?" * 600),
        wire(quote="A" * 1028),
        wire(client="../x"),
        wire(release="R 1"),
        wire(message=["x"]),
        wire(other=1),
        wire(message="x" * 5000),
    ],
)
def test_a_wrong_report_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        report.parse(body)


@given(st.binary(max_size=500))
def test_no_body_ends_in_anything_but_a_refusal(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        report.parse(body)


def test_a_request_is_read_as_it_arrives() -> None:
    whole = request(b"12345")
    for length in range(len(whole)):
        assert endpoint.body_of(whole[:length]) is None
    assert endpoint.body_of(whole) == b"12345"


@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        (404, request(b"x", b"POST /other HTTP/1.0")),
        (405, request(b"x", b"GET /report HTTP/1.0")),
        (400, request(b"x", b"POST /report")),
        (400, request(b"x", b"POST  /report HTTP/1.0")),
        (400, request(b"x") + b"more"),
        (411, b"POST /report HTTP/1.0\r\nA: b\r\n\r\n"),
        (400, b"POST /report HTTP/1.0\r\nContent-Length: -1\r\n\r\n"),
        (400, b"POST /report HTTP/1.0\r\nContent-Length: 1\r\n"
              b"Content-Length: 2\r\n\r\n"),
        (400, b"POST /report HTTP/1.0\r\nContent-Length: 1\r\n"
              b"Transfer-Encoding: chunked\r\n\r\n"),
        (400, b"POST /report HTTP/1.0\r\nno colon\r\n\r\n"),
        (413, b"POST /report HTTP/1.0\r\nContent-Length: 4097\r\n\r\n"),
        (413, b"P" * 9000),
    ],
)  # fmt: skip
def test_any_other_request_is_refused(status: int, wrong: bytes) -> None:
    with pytest.raises(endpoint.RefusedError) as caught:
        endpoint.body_of(wrong)
    assert caught.value.status == status
    text = endpoint.answer(status)
    assert text.startswith(b"HTTP/1.1 %d " % status)


@given(st.binary(max_size=300))
def test_no_request_breaks_the_endpoint(untrusted: bytes) -> None:
    try:
        assert endpoint.body_of(untrusted) is None
    except endpoint.RefusedError as refused:
        assert refused.status >= 400


def add(reports: Reports, when: int, name: str | None = "desk-01",
        mac: str = MAC, **values: object) -> None:  # fmt: skip
    text = json.dumps({"mac": mac, **values}).encode()
    reports.add(report.parse(text), name, when)


def test_the_last_state_counts_and_steps_are_events(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    reports = Reports(path)
    for when, done in enumerate((1, 2, 3), start=100):
        add(reports, when, stage="fetch", bytes=done)
    add(reports, 200, stage="failed", message="no room")
    (state,) = report.read_states(path)
    assert (state.stage, state.seen, state.client) == (
        "failed", 200, "desk-01",
    )  # fmt: skip
    events = report.read_events(path)
    assert [e.stage for e in events] == ["fetch", "failed"]
    assert [e.time for e in events] == [100, 200]
    reports.close()
    assert len(report.read_states(path)) == 1


def test_the_name_is_the_sites_and_not_the_reports(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    reports = Reports(path)
    add(reports, 1, "desk-01", client="desk-02")
    add(reports, 1, None, "52:54:00:00:00:99", client="desk-02")
    assert [s.client for s in report.read_states(path)] == ["desk-01", ""]


def test_unknown_macs_cannot_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "UNKNOWN_MAX", 10)
    monkeypatch.setattr(report, "EVENTS_MAX", 20)
    path = tmp_path / "state.sqlite"
    reports = Reports(path)
    add(reports, 0)
    for number in range(60):
        add(reports, number + 1, None, f"02:00:00:00:00:{number:02x}")
    states = report.read_states(path)
    assert [s.client for s in states] == ["desk-01"] + [""] * 10
    assert min(s.seen for s in states[1:]) == 51
    assert len(report.read_events(path)) == 20
    assert report.read_events(path)[-1].time == 60


def test_a_client_that_left_the_site_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    reports = Reports(path)
    add(reports, 1)
    add(reports, 1, "desk-02", "52:54:00:00:00:02")
    reports.keep_known({MAC})
    assert [s.client for s in report.read_states(path)] == ["desk-01"]


def test_readers_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    Reports(path).close()
    with (
        report._reader(path) as database,
        pytest.raises(sqlite3.OperationalError),
    ):
        database.execute("DELETE FROM clients")


def test_a_database_of_an_older_agent_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    reports = Reports(path)
    add(reports, 100, "desk-07", "52:54:00:00:00:07", mtu=1500)
    reports.close()
    with sqlite3.connect(path) as database:
        for column in ("mtu", "quote"):
            database.execute(f"ALTER TABLE clients DROP COLUMN {column}")
    database.close()
    reports = Reports(path)
    more = {"mtu": 9000, "quote": QUOTE}
    add(reports, 200, "desk-08", "52:54:00:00:00:08", **more)
    reports.close()
    found = [(s.mtu, s.quote) for s in report.read_states(path)]
    assert found == [(0, ""), (9000, QUOTE)]


def test_a_quote_is_that_of_the_boot_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    reports = Reports(path)
    add(reports, 100, "desk-01", MAC, stage="handover", quote=QUOTE)
    # the next boot has not measured anything yet
    add(reports, 200, "desk-01", MAC, stage="network")
    reports.close()
    (state,) = report.read_states(path)
    assert state.quote == ""


def test_the_ram_of_a_client_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    reports = Reports(path)
    mac = "52:54:00:00:00:07"
    add(reports, 200, "desk-07", mac, dom0_mib=1397, pc_mib=2048)
    reports.close()
    (state,) = report.read_states(path)
    assert (state.dom0_mib, state.pc_mib, state.seen) == (1397, 2048, 200)
