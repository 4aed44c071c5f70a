"""What cp says while it clones a tree decides whether the copy is good."""

from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.dom0 import marks, reflink
from sys_pxe.errors import SysPxeError


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = files.make_folder(tmp_path / "tools")
    monkeypatch.setenv("PATH", f"{folder}:/usr/sbin:/usr/bin:/bin")
    return folder


def cp(tools: Path, *lines: str) -> None:
    """Put a program in place of cp."""
    text = "\n".join(["#!/bin/sh", *lines, ""])
    files.write(tools / "cp", text.encode(), 0o755)


def clone(tools: Path) -> None:
    reflink.clone(tools / "a source", tools / "a target")


def test_the_call_of_cp(tools: Path) -> None:
    cp(tools, f'printf "%s\\n" "$@" > "{tools}/words"')
    clone(tools)
    assert (tools / "words").read_text().splitlines() == [
        *("--archive", "--reflink=always", "--one-file-system"),
        *("--no-target-directory", "--"),
        *(f"{tools}/a source", f"{tools}/a target"),
    ]


def test_what_is_gone_or_cannot_be_cloned_is_left_out(tools: Path) -> None:
    cp(
        tools,
        "echo \"cp: cannot stat 'x/y': No such file or directory\" >&2",
        "echo \"cp: failed to clone 'a' from 'b': Text file busy\" >&2",
        f'touch "{tools}/done"',
        "exit 1",
    )
    clone(tools)
    assert (tools / "done").exists()


def test_the_first_fault_ends_the_copy(tools: Path) -> None:
    cp(
        tools,
        "echo \"cp: cannot stat 'x': No such file or directory\" >&2",
        "echo \"cp: cannot create 'y': No space left on device\" >&2",
        "exec sleep 600",
    )
    with pytest.raises(SysPxeError, match="'y': No space left") as caught:
        clone(tools)
    assert "'x'" not in caught.value.message
    assert "is there room" in caught.value.hint


@pytest.mark.parametrize("end", ["exit 2", "kill -KILL $$"])
def test_a_copy_that_did_not_end_is_no_copy(tools: Path, end: str) -> None:
    cp(tools, end)
    with pytest.raises(SysPxeError, match=r"exit status 2|signal 9"):
        clone(tools)


def test_a_cp_that_is_not_there_is_named(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tools / "setpriv").symlink_to("/usr/bin/setpriv")
    monkeypatch.setenv("PATH", f"{tools}:/usr/sbin")
    with pytest.raises(SysPxeError, match="cp"):
        clone(tools)


def test_a_folder_of_a_build_is_hidden_and_known() -> None:
    name = marks.new_folder()
    assert name.startswith(f".{marks.PREFIX}")
    assert Path(name).match(marks.FOLDERS)
    # this process runs
    assert not marks.is_left(name)
    assert marks.is_left(f".{marks.PREFIX}1-1-1")
    assert not marks.is_left(f".{marks.PREFIX}of-mine")
    assert not marks.is_left(f"..{marks.PREFIX}1-1-1")
