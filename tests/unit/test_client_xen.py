"""The calls of xl and qvm-pause, and the list that xl prints."""

from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.client import xen
from sys_pxe.client.xen import Domain
from sys_pxe.errors import SysPxeError
from tests.watch_world import DOM0

LIST = """\
Name                                        ID   Mem VCPUs\tState\tTime(s)
Domain-0                                     0  4000     4     r-----     120.5
work                                         3   400     2     --p---      12.3
sys-net-dm                                   5   144     1     -b----       1.0
(null)                                       6     0     1     --psrd       9.9
torn line
"""


def test_the_domains_that_xl_lists() -> None:
    assert xen.parse_list(LIST) == [
        DOM0,
        Domain(3, "work", True),
        Domain(5, "sys-net-dm", False),
        Domain(6, "(null)", True),
    ]
    assert xen.parse_list("") == []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs, the only one that is looked into."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(run, "_PATH", str(folder))
    return folder


def program(folder: Path, name: str, *known: str) -> None:
    """A program that fails at a call that it does not know."""
    cases = "".join(f"'{words}') ;;\n" for words in known)
    path = folder / name
    path.write_text(
        f'#!/bin/sh\necho "{name} $*" >>{folder}/log\n'
        f'case "$*" in\n{cases}*) echo no such call >&2; exit 9;;\nesac\n'
    )
    path.chmod(0o755)


def calls(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


def test_a_qube_is_stopped_by_xl(programs: Path) -> None:
    program(programs, "xl", "pause 3")
    xen.stop(3)
    assert calls(programs) == ["xl pause 3"]
    with pytest.raises(SysPxeError, match="no such call"):
        xen.stop(4)


def test_qubes_pause_takes_the_place_of_xls(programs: Path) -> None:
    program(programs, "xl", "unpause 3")
    program(programs, "qvm-pause", "-- work")
    assert xen.adopt(3, "work") == "qvm-unpause work"
    assert calls(programs) == ["qvm-pause -- work", "xl unpause 3"]


def test_without_qubes_xls_pause_stays(programs: Path) -> None:
    program(programs, "xl")
    assert xen.adopt(3, "work") == "xl unpause 3"
    program(programs, "qvm-pause", "-- other")
    assert xen.adopt(3, "work") == "xl unpause 3"
    assert xen.adopt(3, "--all") == "xl unpause 3"
    assert calls(programs) == ["qvm-pause -- work"]


def test_two_pauses_need_two_commands(programs: Path) -> None:
    program(programs, "xl")
    program(programs, "qvm-pause", "-- work")
    assert xen.adopt(3, "work") == "xl unpause 3; qvm-unpause work"


def test_the_list_comes_from_xl(programs: Path) -> None:
    path = programs / "xl"
    path.write_text(f"#!/bin/sh\n[ \"$*\" = list ] && echo '{LIST}'\n")
    path.chmod(0o755)
    assert DOM0 in xen.domains()
    path.unlink()
    with pytest.raises(SysPxeError, match="'xl' is not installed"):
        xen.domains()
