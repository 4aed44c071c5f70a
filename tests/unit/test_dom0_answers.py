"""Answers of the services: strict, bounded, free of control characters."""

import base64
import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe.dom0 import answer_status, answers
from sys_pxe.errors import InvalidInput

DIGEST = "ab" * 32
PUSH = {"release": "r1", "complete": False, "missing": [DIGEST], "stored": 0}
CLIENT = {
    "client": None,
    "mac": "52:54:00:00:00:01",
    "release": "r1",
    "stage": None,
    "bytes": 0,
    "total": 0,
    "seconds": 0,
    "message": "",
    "seen": 0,
}
STATUS = {
    "site_serial": None,
    "channels": {"stable": None},
    "services": {"nginx": {"running": True, "restarts": 0}},
    "clients": [CLIENT],
    "disk": {"free": 0, "chunks": 0},
}


def text(value: object) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def test_good_answers_are_read() -> None:
    found = answers.push(text(PUSH), "r1")
    assert found == answers.PushAnswer(False, (DIGEST,), 0)
    status = answer_status.parse(text(STATUS))
    assert status.channels == {"stable": None}
    assert status.clients[0].client is None


def test_a_clients_ram_is_known_or_not() -> None:
    for told, want in (
        ({}, (None, None)),
        ({"dom0_mib": None, "pc_mib": None}, (None, None)),
        ({"dom0_mib": 1397, "pc_mib": 2048}, (1397, 2048)),
    ):
        rows = [{**CLIENT, **told}]
        (found,) = answer_status.parse(
            text({**STATUS, "clients": rows})
        ).clients
        assert (found.dom0_mib, found.pc_mib) == want


def test_a_quote_has_the_form_of_one() -> None:
    good = base64.b64encode(bytes(433)).decode()
    for told, want in ((None, None), (good, good)):
        rows = [{**CLIENT, "quote": told}]
        (found,) = answer_status.parse(
            text({**STATUS, "clients": rows})
        ).clients
        assert found.quote == want
    for wrong in ("", "AAAA", "\x1b[31m", 5, good[:-1]):
        rows = [{**CLIENT, "quote": wrong}]
        with pytest.raises(InvalidInput, match="quote"):
            answer_status.parse(text({**STATUS, "clients": rows}))


HEALTH: dict[str, object] = {
    "time": 1_900_000_000,
    "trouble": None,
    "mtu": 1500,
    "ports": [{"protocol": "udp", "port": 67, "open": None}],
    "dhcp": {
        "mode": "server",
        "age": 3,
        "error": None,
        "others": [{"address": "192.0.2.254", "proxy": True}],
    },
    "boot_files": [{"release": "r1", "file": "xen", "state": "good"}],
}


def test_what_the_agent_sees_of_itself_is_read() -> None:
    found = answer_status.parse(text({**STATUS, **HEALTH}))
    other = answer_status.RemoteServer("192.0.2.254", proxy=True)
    want = answer_status.RemoteDhcp("server", 3, None, (other,))
    assert found.dhcp == want
    assert [asdict(one) for one in found.ports] == HEALTH["ports"]
    assert [asdict(one) for one in found.boot_files] == HEALTH["boot_files"]
    assert (found.time, found.mtu) == (1_900_000_000, 1500)
    # an agent of before says nothing of it
    before = answer_status.parse(text(STATUS))
    assert (before.time, before.dhcp, before.ports) == (None, None, ())


@pytest.mark.parametrize(
    "change",
    [
        {"time": -1},
        {"mtu": 0},
        {"mtu": 1 << 17},
        {"ports": [{"protocol": "icmp", "port": 67, "open": True}]},
        {"ports": [{"protocol": "udp", "port": 65536, "open": True}]},
        {"ports": [{"protocol": "udp", "port": 67, "open": 1}]},
        {"dhcp": {"mode": "relay"}},
        {"dhcp": {"mode": None, "age": -1}},
        {"dhcp": {"others": [{"address": "192.0.2.256", "proxy": False}]}},
        {"dhcp": {"others": [{"address": "192.0.2.9", "proxy": None}]}},
        {"dhcp": {"others": [{"address": "192.0.2.9", "proxy": True, "x": 1}]}},
        {"dhcp": {"more": 1}},
        {"boot_files": [{"release": "r1", "file": "xen", "state": "fine"}]},
        {"boot_files": [{"release": "r1", "file": "../x", "state": "good"}]},
    ],
)
def test_what_the_agent_sees_is_read_strictly(
    change: dict[str, object],
) -> None:
    with pytest.raises(InvalidInput, match=r"syspxe\.Status"):
        answer_status.parse(text({**STATUS, **HEALTH, **change}))


LOADER = {"file": "ipxe.efi", "path": "/x/ipxe.efi", "version": "ipxe 1"}


def test_loaders_are_there_or_not_and_can_be_shown() -> None:
    rows = [LOADER, {"file": "ipxe.pxe", "path": None, "version": None}]
    found = answer_status.parse(text({**STATUS, "loaders": rows})).loaders
    assert found[0] == answer_status.RemoteLoader(*LOADER.values())
    assert (found[1].path, found[1].version) == (None, None)
    loud = {**LOADER, "version": "\x1b[2J" + "x" * 999}
    (shown,) = answer_status.parse(text({**STATUS, "loaders": [loud]})).loaders
    assert shown.version == "?[2J" + "x" * 196
    # what an older agent says
    assert answer_status.parse(text(STATUS)).loaders == ()


ASKED = {
    "client": None,
    "mac": "52:54:00:00:00:77",
    "firmware": "uefi-http",
    "seen": 5,
}


def test_who_asked_is_read() -> None:
    rows = [ASKED, {**ASKED, "client": "desk-01"}]
    found = answer_status.parse(text({**STATUS, "asked": rows})).asked
    assert found[0] == answer_status.RemoteAsked(*ASKED.values())  # type: ignore[arg-type]
    assert found[1].client == "desk-01"
    # what an older agent says
    assert answer_status.parse(text(STATUS)).asked == ()


def test_what_strangers_get_is_read() -> None:
    for told, want in (({}, None), ({"unknown_clients": None}, None),
                       ({"unknown_clients": "base"}, "base")):  # fmt: skip
        found = answer_status.parse(text({**STATUS, **told}))
        assert found.unknown_clients == want
    for wrong in ("../x", "", 1, "\x1b[2J"):
        with pytest.raises(InvalidInput, match="unknown_clients"):
            answer_status.parse(text({**STATUS, "unknown_clients": wrong}))


@pytest.mark.parametrize(
    "change",
    [
        {"mac": "ff:ff:ff:ff:ff:ff"},
        {"mac": "52:54:00:00:00:77\n"},
        {"firmware": "\x1b[2J"},
        {"firmware": None},
        {"client": "../x"},
        {"seen": -1},
        {"more": 1},
    ],
)
def test_one_who_asked_with_a_wrong_value_is_refused(
    change: dict[str, object],
) -> None:
    with pytest.raises(InvalidInput, match=r"asked\[0\]"):
        answer_status.parse(text({**STATUS, "asked": [{**ASKED, **change}]}))


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../ipxe.efi"},
        {"file": None},
        {"path": 1},
        {"version": ["1"]},
        {"more": 1},
    ],
)
def test_a_loader_with_a_wrong_value_is_refused(
    change: dict[str, object],
) -> None:
    with pytest.raises(InvalidInput, match=r"loaders\[0\]"):
        answer_status.parse(text({**STATUS, "loaders": [{**LOADER, **change}]}))


@pytest.mark.parametrize(
    "untrusted",
    [
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b'{"release": "r1"',
        b'{"release": "r1"}\n{}\n',
        b'{"release": "r1",\n "complete": true}\n',
        b'{"a": "\x1b[2J"}\n',
        b'{"a": "\xff"}\n',
        '{"a": "é"}\n'.encode(),
        b'{"a": 1, "a": 1}\n',
        b"[" * 200_000,
        b'{"a":' * 200_000,
    ],
)
def test_what_is_not_one_line_of_ascii_json_is_refused(
    untrusted: bytes,
) -> None:
    with pytest.raises(InvalidInput):
        answers.push(untrusted, "r1")


@pytest.mark.parametrize(
    "change",
    [
        {"release": "r2"},
        {"release": None},
        {"complete": 1},
        {"complete": "yes"},
        {"complete": True},
        {"missing": "x"},
        {"missing": [1]},
        {"missing": ["../../etc/passwd"]},
        {"missing": [DIGEST.upper()]},
        {"stored": -1},
        {"stored": 1.5},
        {"stored": True},
        {"stored": 1 << 40},
        {"extra": 1},
    ],
)
def test_a_push_answer_with_a_wrong_value_is_refused(
    change: dict[str, object],
) -> None:
    with pytest.raises(InvalidInput, match=r"syspxe\.Push"):
        answers.push(text({**PUSH, **change}), "r1")


@pytest.mark.parametrize("key", sorted(PUSH))
def test_a_push_answer_lacks_nothing(key: str) -> None:
    short = {k: v for k, v in PUSH.items() if k != key}
    if key == "missing":
        assert answers.push(text(short), "r1").missing == ()
        return
    with pytest.raises(InvalidInput, match=key):
        answers.push(text(short), "r1")


@pytest.mark.parametrize(
    "change",
    [
        {"mac": "x"},
        {"mac": None},
        {"client": "A B"},
        {"release": "../x"},
        {"stage": "owned"},
        {"bytes": -1},
        {"seen": 1 << 60},
        {"dom0_mib": 0},
        {"dom0_mib": "1"},
        {"pc_mib": 1 << 40},
        {"message": None},
        {"more": 1},
    ],
)
def test_a_client_with_a_wrong_value_is_refused(
    change: dict[str, object],
) -> None:
    with pytest.raises(InvalidInput, match=r"clients\[0\]"):
        answer_status.parse(text({**STATUS, "clients": [{**CLIENT, **change}]}))


def test_a_clients_message_is_made_printable_and_bounded() -> None:
    loud = {**CLIENT, "message": "\x1b[2J\u202e" + "x" * 5000}
    status = answer_status.parse(text({**STATUS, "clients": [loud]}))
    message = status.clients[0].message
    assert message.startswith("?[2J?xxx")
    assert len(message) == answer_status.MESSAGE_MAX


@pytest.mark.parametrize(
    "read",
    [
        lambda b: answers.activate(b, "stable", "r1"),
        lambda b: answers.site(b, 1),
        answers.prune,
        answers.releases,
        answer_status.parse,
    ],
)
@given(
    untrusted=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
            lambda inner: st.one_of(
                st.lists(inner),
                st.dictionaries(
                    st.sampled_from(
                        ["channel", "old", "new", "serial", "releases", "disk"]
                    ),
                    inner,
                ),
            ),
        ).map(text),
    )
)
def test_nonsense_is_refused_and_never_breaks_the_reader(
    read: Callable[[bytes], object], untrusted: bytes
) -> None:
    try:
        read(untrusted)
    except InvalidInput as error:
        assert all(c == "\n" or " " <= c <= "~" for c in error.explain())


@pytest.mark.parametrize(
    ("channel", "release"), [("testing", "r1"), ("stable", "r2")]
)
def test_an_activation_of_something_else_is_refused(
    channel: str, release: str
) -> None:
    answer = text({"channel": "stable", "old": None, "new": "r1"})
    assert answers.activate(answer, "stable", "r1").old is None
    with pytest.raises(InvalidInput):
        answers.activate(answer, channel, release)
