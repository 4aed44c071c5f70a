"""Each fault is found and named; a room without one has no findings."""

from dataclasses import replace

import pytest

from sys_pxe import names, site
from sys_pxe.dom0 import diagnose
from sys_pxe.dom0.answer_status import (
    TIME_MAX,
    RemoteAsked,
    RemoteBootFile,
    RemoteChannel,
    RemoteClient,
    RemoteDhcp,
    RemoteLoader,
    RemotePort,
    RemoteServer,
    RemoteService,
    Status,
)
from sys_pxe.dom0.answers import RemoteRelease
from sys_pxe.dom0.findings import NOTE, Facts, Finding
from sys_pxe.pointer import Pointer
from tests.agent_world import site_data

DAY = 86_400
NOW = 1_900_000_000
MAC = "52:54:00:00:00:01"
RELEASE = RemoteRelease(
    "r1", 1, NOW - DAY, NOW + 90 * DAY, 1000, True, 0, ("stable",)
)
CLIENT = RemoteClient(
    "desk-01", MAC, "r1", "handover", 5, 5, 30, "", NOW - 9 * DAY, mtu=1500
)
LOADERS = (
    RemoteLoader("undionly.kpxe", "/x", "ipxe 1.0.0+git-20190125.36a4c85-5.1"),
    RemoteLoader("ipxe.pxe", None, None),
    RemoteLoader("snponly.efi", "/x", "ipxe 1.0.0+git-20190125.36a4c85-5.1"),
    RemoteLoader("ipxe.efi", "a release, signed", "iPXE 1.21.1+ (g8f1514a00)"),
)
DHCP = RemoteDhcp("server", 3, None, ())
STATUS = Status(
    site_serial=4,
    channels={"stable": RemoteChannel("r1", 1, False), "testing": None},
    services={
        "dnsmasq": RemoteService(True, 0),
        "nginx": RemoteService(True, 0),
    },
    clients=(CLIENT,),
    free=1,
    chunks=1,
    loaders=LOADERS,
    time=NOW - 2,
    mtu=1500,
    ports=(RemotePort("udp", 67, True), RemotePort("tcp", 80, True)),
    dhcp=DHCP,
    boot_files=(RemoteBootFile("r1", "xen", "good"),),
)
POINTER = Pointer("stable", 1, NOW - DAY, "r1", 1, False)
FACTS = Facts(
    now=NOW,
    status=STATUS,
    releases=(RELEASE,),
    site=site.parse(site_data(), "site"),
    pointers={"stable": POINTER},
    secure_boot=True,
)


def check(name: str, facts: Facts = FACTS, **status: object) -> list[Finding]:
    """Return what a check finds when the status has these values."""
    changed = replace(facts.status, **status)  # type: ignore[arg-type]
    return list(diagnose.CHECKS[name](replace(facts, status=changed)))


def one(name: str, facts: Facts = FACTS, **status: object) -> str:
    """Return the one thing that a check finds, in a line."""
    (found,) = check(name, facts, **status)
    return f"{found.what}: {found.why}. Next: {found.next_step}"


def client(**changes: object) -> tuple[RemoteClient, ...]:
    return (replace(CLIENT, **changes),)  # type: ignore[arg-type]


def others(mode: str, *found: tuple[str, bool]) -> RemoteDhcp:
    rows = tuple(RemoteServer(address, proxy) for address, proxy in found)
    return RemoteDhcp(mode, 3, None, rows)


def test_a_room_without_a_fault_has_no_findings() -> None:
    found = diagnose.diagnose(FACTS)
    assert [row for rows in found.values() for row in rows] == []
    assert list(found) == list(diagnose.CHECKS)


def test_what_is_not_known_is_not_wrong() -> None:
    nothing = Status(4, {}, {}, (), 0, 0)
    found = diagnose.diagnose(Facts(NOW, nothing))
    assert [row for rows in found.values() for row in rows] == []


def test_a_service_that_does_not_run_is_named() -> None:
    services = {**STATUS.services, "nginx": RemoteService(False, 3)}
    assert "nginx does not run" in one("services", services=services)
    assert "no site" in one("services", services=services, site_serial=None)


def test_a_second_dhcp_server_is_named() -> None:
    said = one("dhcp", dhcp=others("server", ("192.0.2.254", False)))
    assert said.startswith("192.0.2.254 is a second DHCP server")
    two = others("server", ("192.0.2.254", False), ("192.0.2.9", False))
    assert len(check("dhcp", dhcp=two)) == 2


def test_beside_another_server_one_is_right() -> None:
    assert check("dhcp", dhcp=others("proxy", ("192.0.2.254", False))) == []
    assert "no DHCP server answers" in one("dhcp", dhcp=others("proxy"))
    two = others("proxy", ("192.0.2.9", False), ("192.0.2.254", False))
    assert "192.0.2.9, 192.0.2.254" in one("dhcp", dhcp=two)


@pytest.mark.parametrize("mode", ["server", "proxy"])
def test_another_proxy_is_named(mode: str) -> None:
    rows = [("192.0.2.253", True)]
    if mode == "proxy":
        rows.append(("192.0.2.254", False))
    said = one("dhcp", dhcp=others(mode, *rows))
    assert said.startswith("192.0.2.253 is another boot server")


def test_a_lan_that_was_not_asked_is_a_note() -> None:
    for found in (
        replace(DHCP, age=None),
        replace(DHCP, error="Address already in use"),
    ):
        (note,) = check("dhcp", dhcp=found)
        assert note.severity == NOTE
    assert "Address already in use" in one("dhcp", dhcp=found)
    assert check("dhcp", dhcp=RemoteDhcp(None, None, None, ())) == []


@pytest.mark.parametrize(
    ("state", "next_step"),
    [
        ("missing", "sys-pxe release push r1"),
        ("damaged", "sys-pxe release push r1"),
        ("stale", "sys-pxe site push"),
    ],
)
def test_a_boot_file_that_is_not_right_is_named(
    state: str, next_step: str
) -> None:
    rows = (RemoteBootFile("r1", "xen", state),)
    said = one("boot-files", boot_files=rows)
    assert said.startswith(f"boot file xen of release r1 is {state}")
    assert next_step in said


def test_a_release_that_is_not_whole_is_named() -> None:
    facts = replace(FACTS, releases=(replace(RELEASE, missing=7),))
    assert "release r1 lacks 7 chunks" in one("boot-files", facts)
    # one that no channel names harms nobody
    other = replace(RELEASE, release="r2", missing=7)
    facts = replace(FACTS, releases=(RELEASE, other))
    assert check("boot-files", facts) == []


def test_a_missing_loader_counts_if_pcs_are_sent_to_it() -> None:
    lost = tuple(replace(row, path=None) for row in LOADERS)
    found = check("boot-files", loaders=lost)
    said = [row.what for row in found]
    assert said == [
        "the loader undionly.kpxe is missing",
        "the loader snponly.efi is missing",
    ]
    full = {"mac": MAC, "profile": "base", "loader": {"bios": "ipxe"}}
    wants = site.parse(site_data(clients={"desk-01": full}), "site")
    line = one("boot-files", replace(FACTS, site=wants))
    assert line.startswith("the loader ipxe.pxe is missing")
    strangers = site.parse(
        site_data(clients={}, unknown_clients="base"), "site"
    )
    facts = replace(FACTS, site=strangers)
    assert len(check("boot-files", facts, loaders=lost)) == 2


def test_a_channel_that_names_another_release_is_named() -> None:
    facts = replace(FACTS, pointers={"stable": replace(POINTER, release="r2")})
    said = one("served", facts)
    assert "channel stable names release r1 in the sys-pxe qube" in said
    assert "sys-pxe channel set stable r2" in said
    said = one("served", channels={})
    assert "channel stable names nothing" in said


def test_what_keeps_the_last_state_from_clients_is_told() -> None:
    assert "lan does not have" in one("served", trouble="lan does not have")


@pytest.mark.parametrize(
    ("file", "version", "bad"),
    [
        ("snponly.efi", "ipxe 1.0.0+git-20161027.b991c67-1", True),
        ("ipxe.efi", "ipxe-bootimgs-x86 20170123-1.git4e85b27.el7", True),
        ("ipxe.efi", "ipxe-bootimgs-x86 20180220-1.fc28", False),
        ("snponly.efi", "ipxe-bootimgs-x86 20240119-2.gitde8a0821.fc41", False),
        ("snponly.efi", "iPXE 1.21.1+git-20250501.7e64e9b", False),
        # no UEFI; no date; not a date; nothing
        ("undionly.kpxe", "ipxe 1.0.0+git-20161027.b991c67-1", False),
        ("snponly.efi", "iPXE 1.0.0+ (3fe68)", False),
        ("snponly.efi", "x 1201610271", False),
        ("snponly.efi", None, False),
    ],
)
def test_a_loader_that_is_too_old_is_named(
    file: str, version: str | None, bad: bool
) -> None:
    found = check("loaders", loaders=(RemoteLoader(file, "/x", version),))
    assert len(found) == int(bad)
    if bad:
        assert f"the loader {file} is too old" in found[0].what
        assert "2018-02-20" in found[0].next_step


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (NOW + 61, "1 min 1 s ahead of"),
        (NOW - 3 * DAY, "3 days behind"),
        (NOW + 60, None),
        (NOW - 60, None),
        (None, None),
        (0, "days behind"),
        (TIME_MAX, "days ahead of"),
    ],
)
def test_a_clock_that_is_off_is_named(
    time: int | None, words: str | None
) -> None:
    found = check("clocks", time=time)
    assert len(found) == (words is not None)
    assert words is None or words in found[0].what


def test_a_release_from_the_future_is_a_matter_of_dom0s_clock() -> None:
    facts = replace(FACTS, now=RELEASE.created - 1)
    said = one("clocks", facts, time=facts.now)
    assert "release r1 (channel stable) is from the future" in said


@pytest.mark.parametrize(
    "message",
    [
        "the clock says 2001-01-01T00:00:00Z, but release r1 was made at x",
        "release r1 expired at x, the clock says y",
    ],
)
def test_a_client_with_a_wrong_clock_is_named(message: str) -> None:
    clients = client(stage="failed", message=message)
    said = one("clocks", clients=clients)
    assert said.startswith("the clock of client desk-01 may be wrong")
    assert check("stuck", clients=clients) == []


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (14 * DAY + 1, None),
        (14 * DAY, "expires in 14 days"),
        (1, "expires in 1 s"),
        (0, "has expired"),
        (-DAY, "has expired"),
    ],
)
def test_a_release_that_ends_is_named(left: int, words: str | None) -> None:
    facts = replace(FACTS, releases=(replace(RELEASE, expires=NOW + left),))
    found = check("expiry", facts)
    assert len(found) == (words is not None)
    if words is not None:
        assert found[0].what == f"release r1 (channel stable) {words}"
        assert names.format_time(NOW + left) in found[0].why
    # what no channel names may end
    assert check("expiry", facts, channels={}) == []


def test_a_blocked_port_is_named_and_one_that_is_not_known_is_a_note() -> None:
    blocked = (RemotePort("udp", 69, False), RemotePort("tcp", 80, True))
    assert "blocks udp port 69" in one("firewall", ports=blocked)
    unknown = tuple(replace(row, open=None) for row in blocked)
    (note,) = check("firewall", ports=unknown)
    assert note.severity == NOTE
    assert "udp 69, tcp 80" in note.what


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [(1500, 9000, 1), (9000, 1500, 1), (1500, 1500, 0), (None, 9000, 0),
     (9000, None, 0)],
)  # fmt: skip
def test_another_mtu_is_named(
    ours: int | None, theirs: int | None, found: int
) -> None:
    rows = check("mtu", mtu=ours, clients=client(mtu=theirs))
    assert len(rows) == found
    assert all("client desk-01" in row.what for row in rows)


def asked(age: int, name: str | None = "desk-01") -> Facts:
    row = RemoteAsked(name, MAC, "uefi", NOW - 2 - age)
    return replace(FACTS, offered=(row,))


def test_a_client_that_was_offered_only_is_named() -> None:
    said = one("offered", asked(300))
    assert said.startswith(
        "client desk-01 (uefi) was offered a loader 5 min 0 s ago"
    )
    assert "Secure Boot" in said
    # it may be on its way
    assert check("offered", asked(180)) == []
    # a clock that jumped
    assert check("offered", asked(-DAY)) == []


def test_a_client_that_stands_still_is_named() -> None:
    def stage(name: str | None, age: int, **more: object) -> list[Finding]:
        seen = NOW - 2 - age
        return check("stuck", clients=client(stage=name, seen=seen, **more))

    (found,) = stage("fetch", 301, message="the server is silent")
    assert (
        found.what == "client desk-01 is stuck at stage fetch since 5 min 1 s"
    )
    assert found.why == "the server is silent"
    assert stage("fetch", 300) == []
    assert stage("fetch", -DAY) == []
    for arrived in ("handover", None):
        assert stage(arrived, 9 * DAY) == []
    (found,) = stage("failed", 60, message="no room", client=None)
    assert found.what == f"client {MAC} failed 1 min 0 s ago"
    assert found.why == "no room"


def test_a_client_that_was_started_again_is_not_stuck() -> None:
    clients = client(stage="failed", message="no room")
    assert check("stuck", clients=clients)
    assert check("stuck", asked(300), clients=clients) == []


def test_plain_pxe_is_said_in_as_many_words() -> None:
    (note,) = check("plain-pxe", replace(FACTS, secure_boot=False))
    assert note.severity == NOTE
    assert "nothing checks the boot files" in note.what
    assert "plain PXE" in note.why
    no_clients = site.parse(site_data(clients={}), "site")
    for facts in (
        replace(FACTS, secure_boot=None),
        replace(FACTS, secure_boot=False, site=None),
        replace(FACTS, secure_boot=False, site=no_clients),
    ):
        assert check("plain-pxe", facts) == []


def everything_wrong() -> Facts:
    row = RemoteAsked(None, MAC, "uefi", 0)
    status = replace(
        STATUS,
        site_serial=None,
        clients=client(stage="fetch", seen=0, mtu=9000),
        loaders=(replace(LOADERS[2], version="ipxe 20100101"),),
        ports=(RemotePort("udp", 67, False),),
        boot_files=(RemoteBootFile("r1", "xen", "missing"),),
        dhcp=others("server", ("192.0.2.9", False)),
        trouble="x",
        time=0,
    )
    return Facts(
        NOW, status, (replace(RELEASE, expires=0),), (row,),
        FACTS.site, {}, False,
    )  # fmt: skip


@pytest.mark.parametrize("name", [n for n in diagnose.CHECKS if n != "stuck"])
def test_one_fault_does_not_hide_another(name: str) -> None:
    facts = everything_wrong()
    late = replace(facts, status=replace(facts.status, time=NOW))
    assert check(name, late) or check(name, facts)


@pytest.mark.parametrize("name", diagnose.CHECKS)
def test_findings_are_whole_sentences_on_one_line(name: str) -> None:
    for found in check(name, everything_wrong()):
        for text in (found.what, found.why, found.next_step):
            assert text
            assert "\n" not in text
            assert not text.endswith(".")
