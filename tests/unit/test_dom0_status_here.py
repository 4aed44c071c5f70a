"""``sys-pxe status`` on a client, over files as its watcher writes them."""

import json
from pathlib import Path

import pytest

from sys_pxe import usage
from sys_pxe.dom0 import cli, status_here, transports
from sys_pxe.usage import MIB, Level, Place, State, Taker, Usage

BOOT = {"client": "desk-01", "release": "r1", "serial": 5, "breaks": 0}
TAKERS = (Taker("work", 120 * MIB), Taker("personal", 20 * MIB))
POOL = Place(Usage(usage.POOL, 162 * MIB, 192 * MIB), Level.WARNING, TAKERS)
OVERLAY = Place(Usage(usage.OVERLAY, 1 * MIB, 100 * MIB), Level.OK)
STATE = State(1000, (OVERLAY, POOL), 60 * MIB, ("work",), True)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(status_here, "RUN", tmp_path)
    monkeypatch.setattr(status_here, "uptime", lambda: 1100)
    monkeypatch.delenv("SYS_PXE_TRANSPORT", raising=False)
    write(tmp_path, BOOT, STATE)
    return tmp_path


def write(folder: Path, boot: object, state: State) -> None:
    (folder / "boot.json").write_text(json.dumps(boot))
    (folder / "usage.json").write_bytes(usage.write(state))


def test_a_person_sees_release_places_and_who_took_most(
    client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out == (
        "client    desk-01\n"
        "release   r1 (serial 5)\n"
        "overlay   1 % full, 1.0 MiB of 100.0 MiB: ok\n"
        "VM pool   84 % full, 162.0 MiB of 192.0 MiB: warning\n"
        "          the pool takes 60.0 MiB of RAM\n"
        "paused    work\n"
        "\n"
        "PLACE    LARGEST   TAKES\n"
        "VM pool  work      120.0 MiB\n"
        "VM pool  personal  20.0 MiB\n"
    )


def test_a_client_without_a_pool_shows_none(
    client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(client, BOOT, State(1000, (OVERLAY,)))
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "overlay   1 % full, 1.0 MiB of 100.0 MiB: ok"
    ]


def test_a_reserve_in_use_is_shown(
    client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(client, BOOT, State(1000, (POOL,), 60 * MIB))
    assert cli.main(["status"]) == 0
    assert "RAM; its reserve is in use\n" in capsys.readouterr().out


def test_a_program_gets_the_same_as_json(
    client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    head = {"client": "desk-01", "release": "r1", "serial": 5}
    assert found == {**head, **usage.data(STATE)}


def test_old_numbers_are_told(
    client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(client, BOOT, State(1100 - status_here.OLD, (OVERLAY,)))
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().err == ""
    write(client, BOOT, State(1099 - status_here.OLD, (OVERLAY,)))
    assert cli.main(["status"]) == 0
    said = capsys.readouterr()
    assert "these numbers are 181 s old" in said.err
    assert said.out


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("usage.json", None, 1, "systemctl status sys-pxe-watch"),
        ("usage.json", b"", 3, "usage.json: not JSON"),
        ("usage.json", b"{}", 3, "usage.json: uptime: not a whole number"),
        ("usage.json", b" " * 70_000, 3, "is larger than"),
        ("boot.json", b"[]", 3, "boot.json: expected a table"),
        ("boot.json", b'{"client": "x"}', 3, "boot.json: release: missing"),
    ],
)
def test_a_file_that_is_broken_or_missing_is_a_clear_error(
    client: Path,
    name: str,
    content: bytes | None,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is None:
        (client / name).unlink()
    else:
        (client / name).write_bytes(content)
    assert cli.main(["status"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err


def test_a_file_that_may_not_be_read_is_a_clear_error(
    client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (client / "usage.json").unlink()
    (client / "usage.json").mkdir()
    assert cli.main(["status"]) == 1
    assert "usage.json: Is a directory" in capsys.readouterr().err


class AskedTheServer(Exception):
    pass


def test_elsewhere_the_server_is_asked(
    client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def choose(spec: object, *_: object, **__: object) -> object:
        asked.append(spec)
        raise AskedTheServer

    monkeypatch.setattr(transports, "choose", choose)
    assert cli.main(["--transport", "local:/x", "status"]) == 1
    assert asked == ["local:/x"]
    (client / "boot.json").unlink()
    assert cli.main(["status"]) == 1
    assert asked == ["local:/x", None]
