"""The services as their callers see them."""

import json
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sys_pxe import run
from sys_pxe.agent import overview, report, rpc
from sys_pxe.agent.store import SIGNED_MAX
from sys_pxe.errors import SysPxeError
from tests.agent_world import REPOSITORY, World

READING = ("syspxe.Releases", "syspxe.Status", "syspxe.Events")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def ask(world: World, *words: str, stdin: bytes = b"") -> dict[str, object]:
    answer = rpc.handle(world.root, list(words), BytesIO(stdin), world.now)
    assert answer.endswith(b"\n")
    assert all(0x20 <= byte <= 0x7E for byte in answer[:-1])
    found = json.loads(answer)
    assert isinstance(found, dict)
    return found


def refused(world: World, *words: str, stdin: bytes = b"") -> int:
    with pytest.raises(SysPxeError) as caught:
        rpc.handle(world.root, list(words), BytesIO(stdin), world.now)
    return caught.value.exit_code


def test_the_whole_story(world: World) -> None:
    release = world.release()
    site = ask(world, "syspxe.Site", stdin=world.signed_site(4))
    assert site == {"serial": 4, "clients": 1, "profiles": 1}
    push = ask(world, "syspxe.Push", "r1", stdin=release.frames())
    count = len(release.chunks)
    assert push == {
        "release": "r1", "complete": True, "missing": [], "stored": count,
    }  # fmt: skip
    signed = world.pointer(1, release)
    done = ask(world, "syspxe.Activate", "stable", stdin=signed)
    assert done == {"channel": "stable", "old": None, "new": "r1"}
    rows = ask(world, "syspxe.Releases")["releases"]
    assert isinstance(rows, list)
    assert rows[0]["channels"] == ["stable"]
    assert rows[0]["complete"] is True
    status = ask(world, "syspxe.Status")
    assert status["site_serial"] == 4
    assert status["unknown_clients"] is None
    assert status["channels"] == {
        "testing": None,
        "stable": {"release": "r1", "serial": 1, "rollback": False},
    }
    assert status["services"] == {
        "dnsmasq": {"running": False, "restarts": 0},
        "nginx": {"running": False, "restarts": 0},
    }
    assert ask(world, "syspxe.Prune") == {
        "releases": [], "chunks": 0, "bytes": 0,
    }  # fmt: skip
    assert ask(world, "syspxe.Events") == {"events": []}


def test_the_status_says_what_strangers_get(world: World) -> None:
    assert ask(world, "syspxe.Status")["unknown_clients"] is None
    signed = world.signed_site(4, unknown_clients="base")
    ask(world, "syspxe.Site", stdin=signed)
    assert ask(world, "syspxe.Status")["unknown_clients"] == "base"


def test_what_a_client_did_not_tell_is_null(world: World) -> None:
    reports = report.Reports(world.store.database)
    for number, ram in ((1, {"dom0_mib": 1397, "pc_mib": 2048}), (2, {})):
        text = json.dumps({"mac": f"52:54:00:00:00:0{number}", **ram})
        reports.add(report.parse(text.encode()), None, number)
    reports.close()
    rows = ask(world, "syspxe.Status")["clients"]
    assert isinstance(rows, list)
    assert [(r["dom0_mib"], r["pc_mib"]) for r in rows] == [
        (1397, 2048),
        (None, None),
    ]
    assert rows[0]["client"] is rows[0]["release"] is None
    events = ask(world, "syspxe.Events")["events"]
    assert isinstance(events, list)
    assert "pc_mib" not in events[0]


def test_a_release_under_way_is_listed_with_what_it_lacks(
    world: World,
) -> None:
    release = world.release()
    world.push(release, release.frames(only=tuple(release.chunks)[:2]))
    rows = overview.releases(world.store)["releases"]
    assert isinstance(rows, list)
    assert rows[0]["complete"] is False
    assert rows[0]["missing"] == len(release.chunks) - 2


@pytest.mark.parametrize("service", READING)
def test_reading_works_in_an_empty_store(world: World, service: str) -> None:
    assert ask(world, service)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("",),
        ("syspxe.Reboot",),
        ("syspxe.push", "r1"),
        ("syspxe.Push",),
        ("syspxe.Push", "r1", "r2"),
        ("syspxe.Status", "r1"),
        ("syspxe.Site", "r1"),
        ("syspxe.Prune", "all"),
    ],
)
def test_a_wrong_call_is_a_usage_error(
    world: World, words: tuple[str, ...]
) -> None:
    assert refused(world, *words) == 2


@pytest.mark.parametrize(
    "argument", ["../r1", "R1", "r1\n", "a" * 49, "r 1", "é", ".r", "a..b"]
)
@pytest.mark.parametrize("service", ["syspxe.Push", "syspxe.Activate"])
def test_an_argument_that_is_no_name_is_refused(
    world: World, service: str, argument: str
) -> None:
    assert refused(world, service, argument) == 3


@pytest.mark.parametrize("service", [*READING, "syspxe.Prune"])
def test_a_service_without_payload_refuses_one(
    world: World, service: str
) -> None:
    assert refused(world, service, stdin=b"x") == 3


@pytest.mark.parametrize(
    "words", [("syspxe.Site",), ("syspxe.Activate", "stable")]
)
def test_a_payload_that_is_too_large_is_refused_unread(
    world: World, words: tuple[str, ...]
) -> None:
    stream = BytesIO(bytes(3 * SIGNED_MAX))
    with pytest.raises(SysPxeError, match="more than"):
        rpc.handle(world.root, list(words), stream, world.now)
    assert stream.tell() == SIGNED_MAX + 1


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    words=st.lists(
        st.one_of(st.sampled_from(list(rpc.SERVICES)), st.text(max_size=60)),
        max_size=3,
    ),
    stdin=st.binary(max_size=200),
)
def test_no_call_ends_in_anything_but_an_answer_or_our_errors(
    world: World, words: list[str], stdin: bytes
) -> None:
    try:
        rpc.handle(world.root, words, BytesIO(stdin), world.now)
    except SysPxeError as error:
        text = rpc.say(error)
        assert all(c == "\n" or " " <= c <= "~" for c in text)
        assert 1 <= text.count("\n") <= 2


def test_the_caller_gets_message_hint_and_exit_status(world: World) -> None:
    got = world.rpc("syspxe.Activate", "stable", stdin=b"junk")
    assert (got.status, got.stdout) == (4, b"")
    message, hint = got.stderr.decode().splitlines()
    assert message.startswith("the pointer of channel stable does not")
    assert hint.startswith("hint: ")


def test_an_inner_failure_tells_the_caller_nothing(world: World) -> None:
    world.store.chunks.rmdir()
    world.store.chunks.write_text("in the way")
    got = world.rpc("syspxe.Prune")
    assert got.status == 1
    assert got.stderr == b"internal error, see the journal of sys-pxe\n"


def test_a_missing_key_is_explained(world: World) -> None:
    world.store.key.unlink()
    got = world.rpc("syspxe.Push", "r1", stdin=world.release().frames())
    assert got.status == 1
    assert b"key.pem is missing" in got.stderr


@pytest.mark.parametrize("service", list(rpc.SERVICES))
def test_each_service_has_a_shim_that_runs_it(
    world: World, tmp_path: Path, service: str
) -> None:
    shim = REPOSITORY / "qubes-rpc" / service
    assert shim.stat().st_mode & 0o111 == 0o111
    moved = tmp_path / service
    text = shim.read_text()
    assert len(text.splitlines()) <= 3
    text = text.replace("/usr/lib/sys-pxe", str(REPOSITORY))
    moved.write_text(text.replace("/var/lib/sys-pxe", str(world.root)))
    moved.chmod(0o755)
    got = run.run([str(moved), ""], check=False, timeout=60)
    needs = rpc.SERVICES[service].takes_argument
    if needs:
        assert got.status == 2
        got = run.run([str(moved), "r1"], check=False, timeout=60)
        assert got.status in (3, 4)
        assert got.stderr
    elif service == "syspxe.Site":
        assert got.status == 4
    else:
        assert got.status == 0
        assert json.loads(got.stdout)


def test_there_is_no_shim_without_a_service() -> None:
    folder = REPOSITORY / "qubes-rpc"
    shims = {p.name for p in folder.iterdir() if p.is_file()}
    assert shims == set(rpc.SERVICES)
    configs = {p.name for p in (folder / "config").iterdir()}
    assert configs == set(rpc.SERVICES)
