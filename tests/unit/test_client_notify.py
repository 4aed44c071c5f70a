"""Who is told, by which programs, and that none of them has to be there."""

import os
import pwd
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.client import notify
from sys_pxe.usage import Level, Notice

NOTICE = Notice(Level.CRITICAL, "It is full", "a & <b>\nhint: do.")


class Programs:
    """A folder of programs that note their arguments, stdin and bus."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.log = folder / "log"
        folder.mkdir()
        # nothing of this machine must be found
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(run, "_PATH", str(folder))

    def add(self, name: str, status: int = 0) -> None:
        path = self.folder / name
        path.write_text(
            "#!/bin/sh\n"
            f'{{ printf "%s|" {name} "$@"\n'
            'printf "%s|" "$DBUS_SESSION_BUS_ADDRESS"; /bin/cat; echo; } '
            f">>{self.log}\nexit {status}\n"
        )
        path.chmod(0o755)

    def calls(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(tmp_path / "bin", monkeypatch)


class Person:
    pw_gid = 100


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders as in /run/user: a person, a login screen, root, oddities."""

    def look_up(uid: int) -> Person:
        if uid == 4000:
            raise KeyError(uid)
        return Person()

    monkeypatch.setattr(pwd, "getpwuid", look_up)
    top = tmp_path / "user"
    for name in ("0", "971", "1000", "4000", "-5", "x", "1001"):
        (top / name).mkdir(parents=True)
        if name != "1001":
            (top / name / "bus").touch()
    return top


def test_only_sessions_of_people_are_found(users: Path) -> None:
    bus = f"unix:path={users}/1000/bus"
    assert notify.sessions(users) == [notify.Session(1000, 100, bus)]


def test_no_folder_is_no_session(tmp_path: Path) -> None:
    assert notify.sessions(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (Level.OK, "<5>"),
        (Level.WARNING, "<4>"),
        (Level.CRITICAL, "<2>"),
        (Level.FULL, "<2>"),
    ],
)
def test_the_journal_gets_one_line_with_its_level(
    level: Level, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notify.journal("a\nb\x1b[2J", level)
    assert capsys.readouterr().err == f"{prefix}a?b?[2J\n"


def test_a_person_is_told_on_their_desktop_as_themselves(
    programs: Programs, users: Path
) -> None:
    programs.add("setpriv")
    notify.tell(NOTICE, users)
    assert programs.calls() == (
        "setpriv|--reuid|1000|--regid|100|--init-groups|notify-send|"
        "--app-name=sys-pxe|--urgency=critical|--|It is full|"
        f"a &amp; &lt;b&gt;\nhint: do.|unix:path={users}/1000/bus|\n"
    )


def test_without_a_desktop_all_terminals_are_told(
    programs: Programs, tmp_path: Path
) -> None:
    programs.add("wall")
    notify.tell(NOTICE, tmp_path / "none")
    assert programs.calls() == (
        "wall||sys-pxe: It is full.\na & <b>\nhint: do.\n\n"
    )


def test_a_desktop_that_fails_is_made_up_for(
    programs: Programs, users: Path
) -> None:
    programs.add("setpriv", status=127)
    programs.add("wall")
    notify.tell(Notice(Level.WARNING, "T", "x"), users)
    first, second = programs.calls().splitlines()[:2]
    assert "--urgency=normal" in first
    assert second.startswith("wall|")


def test_no_program_is_no_failure(
    programs: Programs, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notify.tell(NOTICE, users)
    assert programs.calls() == ""
    assert os.listdir(programs.folder) == []
    assert capsys.readouterr().err == ("<2>It is full. a & <b> hint: do.\n")
