"""A sys-pxe that was taken over: what dom0 shows of any answer it gives.

Each command that reads an answer gets each hostile one, and each message on
the error channel. It ends with an exit code that is defined, and what it
prints is a bounded number of printable characters.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.dom0 import answers, cli, transports
from sys_pxe.dom0.state import State
from sys_pxe.dom0.transport import ANSWER_MAX, ProgramTransport
from tests.dom0_world import SITE, keep_release, new_state
from tests.unit.test_dom0_answers import CLIENT, HEALTH, STATUS

Capture = pytest.CaptureFixture[str]
SHOWN_MAX = 20_000
ESC = "\x1b[2J\x1b]0;owned\x07\u202e\x9b\u00e9"

COMMANDS: dict[str, tuple[str, ...]] = {
    "syspxe.Push": ("release", "push", "r1"),
    "syspxe.Activate": ("channel", "set", "stable", "r1"),
    "syspxe.Site": ("site", "push"),
    "syspxe.Releases": ("release", "list", "--remote"),
    "syspxe.Status": ("status",),
    "syspxe.Prune": ("release", "prune"),
}
RELEASE = {
    "release": "r1",
    "serial": 1,
    "created": "2026-01-01T00:00:00Z",
    "expires": "2027-01-01T00:00:00Z",
    "bytes": 1,
    "complete": True,
    "missing": 0,
    "channels": ["stable"],
}
# answers as an honest store gives them
GOOD: dict[str, dict[str, object]] = {
    "syspxe.Push": {
        "release": "r1", "complete": True, "missing": [], "stored": 0,
    },
    "syspxe.Activate": {"channel": "stable", "old": None, "new": "r1"},
    "syspxe.Site": {"serial": 1, "clients": 1, "profiles": 2},
    "syspxe.Releases": {"releases": [RELEASE]},
    "syspxe.Status": {**STATUS, **HEALTH},
    "syspxe.Prune": {"releases": ["old"], "chunks": 2, "bytes": 3},
}  # fmt: skip

RAW = {
    "nothing": b"",
    "escape sequences": ESC.encode() + b"\n",
    "invalid UTF-8": b'{"release": "\xff\xfe\xc0\x80"}\n',
    "nested lists": b"[" * 500_000 + b"\n",
    "nested tables": b'{"a":' * 150_000 + b"\n",
    "nested and closed": b"[" * 100_000 + b"]" * 100_000 + b"\n",
    "two lines": b"{}\n{}\n",
    "not JSON": b"<html>\n",
    "no number": b'{"bytes": NaN, "serial": Infinity}\n',
    "a long number": b'{"bytes": ' + b"9" * 100_000 + b"}\n",
    "a long key": b'{"' + b"k" * 900_000 + b'": 1}\n',
    "not a table": b'["r1"]\n',
    "null": b"null\n",
}
VALUES: tuple[object, ...] = (
    *(None, True, -1, 1 << 70, 1.5, "", ESC, "../x", "x" * 100_000, "NaN"),
    *([], [[]], [None], [ESC], ["r1", 1], {}, {ESC: ESC}, [{}], {"a": {}}),
)


class Canned(ProgramTransport):
    """Its far end is a few lines of sh."""

    def __init__(self, script: Path) -> None:
        super().__init__()
        self._script = script

    def argv(self, service: str, argument: str | None) -> list[str]:
        return ["/bin/sh", str(self._script), service]


class Victim:
    """dom0 with a release, and a qube that says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = new_state(folder / "state")
        self.site = folder / "site.yaml"
        files.write(self.site, SITE.encode())
        keep_release(self.state, "r1")

    def says(self, script: str) -> None:
        files.write(self.folder / "script", script.encode())

    def answers(self, answer: bytes) -> None:
        files.write(self.folder / "answer", answer)
        self.says(f"cat >/dev/null; cat {self.folder}/answer")

    def run(self, *words: str) -> int:
        # a serial is never used twice; the good answer knows the first
        files.remove(self.state.root / "serials/site")
        places = ("--state", str(self.state.root), "--site", str(self.site))
        return cli.main([*places, "--quiet", *words])


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Victim]:
    found = Victim(tmp_path)
    near = Canned(tmp_path / "script")
    monkeypatch.setattr(
        transports, "choose", lambda spec, say, *, start=True: near
    )
    yield found


def harmless(capsys: Capture) -> str:
    """Return what was printed, once it is known to be harmless."""
    said = capsys.readouterr()
    text = said.out + said.err
    assert all(c == "\n" or " " <= c <= "~" for c in text)
    assert len(text) <= SHOWN_MAX
    assert "unexpected" not in text
    assert "Traceback" not in text
    return text


services = pytest.mark.parametrize("service", COMMANDS)


@services
def test_the_honest_answer_is_taken(
    victim: Victim, capsys: Capture, service: str
) -> None:
    victim.answers(json.dumps(GOOD[service]).encode() + b"\n")
    assert victim.run(*COMMANDS[service]) == 0
    assert harmless(capsys)


@services
@pytest.mark.parametrize("answer", RAW.values(), ids=list(RAW))
def test_what_is_no_answer_is_refused(
    victim: Victim, capsys: Capture, service: str, answer: bytes
) -> None:
    victim.answers(answer)
    assert victim.run(*COMMANDS[service]) == 3
    assert harmless(capsys).startswith(f"sys-pxe: error: {service}")


@services
def test_a_hundred_megabytes_are_not_read(
    victim: Victim, capsys: Capture, service: str
) -> None:
    victim.says("cat >/dev/null; head -c 100000000 /dev/zero | tr '\\0' x")
    assert victim.run(*COMMANDS[service]) == 3
    assert f"larger than {ANSWER_MAX} bytes" in harmless(capsys)


def wrong_forms(good: object) -> Iterator[object]:
    """Yield an answer with one value after the other replaced."""
    if isinstance(good, dict):
        for key, value in good.items():
            for wrong in VALUES:
                yield {**good, key: wrong}
            for wrong in wrong_forms(value):
                yield {**good, key: wrong}
        yield {**good, ESC: 1}
        yield {**good, "constructor": {}}
    elif isinstance(good, list):
        for wrong in (w for item in good for w in wrong_forms(item)):
            yield [wrong]


@services
def test_a_wrong_value_anywhere_is_refused_or_shown_harmlessly(
    victim: Victim,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    service: str,
) -> None:
    """Without a process for each: the transport hands over what it is told."""
    told: list[bytes] = []

    class Direct:
        def call(self, *_: object) -> bytes:
            return told[-1]

    monkeypatch.setattr(
        transports, "choose", lambda spec, say, *, start=True: Direct()
    )
    codes = set()
    for wrong in wrong_forms(GOOD[service]):
        told.append(json.dumps(wrong).encode() + b"\n")
        codes.add(victim.run(*COMMANDS[service]))
        harmless(capsys)
    # 1: a push that never becomes complete
    assert codes <= {0, 1, 3}
    assert 3 in codes


LONG: dict[str, Callable[[int], dict[str, object]]] = {
    "syspxe.Push": lambda n: {
        "release": "r1",
        "complete": False,
        "missing": [f"{i:064x}" for i in range(n)],
        "stored": 0,
    },
    "syspxe.Releases": lambda n: {
        "releases": [{**RELEASE, "channels": []}] * n
    },
    "syspxe.Status": lambda n: {**STATUS, "clients": [CLIENT] * n},
    "syspxe.Prune": lambda n: {
        "releases": ["r1"] * n, "chunks": 1, "bytes": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("service", LONG)
def test_a_list_that_is_too_long_is_refused(
    victim: Victim, capsys: Capture, service: str
) -> None:
    answer = json.dumps(
        LONG[service](answers.LIST_MAX + 1), separators=(",", ":")
    )
    assert len(answer) < 1 << 20
    victim.answers(answer.encode() + b"\n")
    assert victim.run(*COMMANDS[service]) == 3
    said = harmless(capsys)
    assert "at most 4096" in said or "asks for chunks" in said


@pytest.mark.parametrize("key", ["channels", "services"])
def test_a_table_that_is_too_long_is_refused(
    victim: Victim, capsys: Capture, key: str
) -> None:
    table = {f"n{i}": None for i in range(answers.LIST_MAX + 1)}
    victim.answers(json.dumps({**STATUS, key: table}).encode() + b"\n")
    assert victim.run("status") == 3
    harmless(capsys)


MESSAGES = {
    "escape sequences": f"printf '{ESC}\\nhint: {ESC}\\n' >&2",
    "invalid UTF-8": r"printf '\377\376\300\200\n' >&2",
    "100 MB": "head -c 100000000 /dev/zero | tr '\\0' x >&2",
    "100 MB of lines": "yes | head -c 100000000 >&2",
    "100 MB of hints": "yes 'hint: x' | head -c 100000000 >&2",
    "carriage returns": r"printf 'a\rsys-pxe: done\r\n\v\f\034\205b\n' >&2",
    "an answer as well": "echo '{}'; echo no >&2",
    "nothing": ":",
}


@services
@pytest.mark.parametrize("message", MESSAGES.values(), ids=list(MESSAGES))
def test_the_error_channel_cannot_drive_the_terminal(
    victim: Victim, capsys: Capture, service: str, message: str
) -> None:
    victim.says(f"cat >/dev/null; {message}; exit 4")
    assert victim.run(*COMMANDS[service]) == 4
    assert harmless(capsys).startswith(f"sys-pxe: error: {service}: ")


@pytest.mark.parametrize("status", [1, 2, 6, 42, 125, 126, 127, 130, 255])
def test_every_exit_status_becomes_a_defined_one(
    victim: Victim, capsys: Capture, status: int
) -> None:
    victim.says(f"cat >/dev/null; exit {status}")
    assert victim.run("status") == 1
    harmless(capsys)


def test_a_message_beside_a_good_answer_is_not_shown(
    victim: Victim, capsys: Capture
) -> None:
    good = json.dumps(GOOD["syspxe.Status"])
    victim.says(f"cat >/dev/null; echo '{good}'; echo 'sudo me' >&2")
    assert victim.run("status") == 0
    assert "sudo me" not in harmless(capsys)


def test_json_for_programs_is_ascii_too(
    victim: Victim, capsys: Capture
) -> None:
    client = {**CLIENT, "message": ESC}
    victim.answers(json.dumps({**STATUS, "clients": [client]}).encode())
    assert victim.run("status", "--json") == 0
    found = json.loads(harmless(capsys))
    assert found["clients"][0]["message"].startswith("?[2J?]0;owned????")


def test_state_stays_as_it_was_after_a_lie(
    victim: Victim, capsys: Capture
) -> None:
    """A store that answers nonsense has not taken the pointer."""
    victim.answers(b"null\n")
    assert victim.run("channel", "set", "stable", "r1") == 3
    assert State(victim.state.root).pointers("stable") == []
    harmless(capsys)
