"""Completion for bash, asked as bash asks, held against the parser."""

import subprocess
from pathlib import Path

import pytest

from tests.command_tree import Command, commands

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "sys_pxe/dom0/completion.bash"
TREE = commands()
# bash hands over the words of the line; the last is what is being typed
ASK = """
source "$1"
shift
COMP_WORDS=(sys-pxe "$@")
COMP_CWORD=$#
_sys_pxe
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(*words: str, cwd: Path | None = None) -> list[str]:
    done = subprocess.run(
        ["bash", "--norc", "-u", "-c", ASK, "bash", str(SCRIPT), *words],
        capture_output=True,
        check=True,
        cwd=cwd,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    return sorted(word for word in done.stdout.split("\n") if word)


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_nouns_and_verbs_are_those_of_the_command(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    found = complete("--state", str(tmp_path), *words, "")
    assert found == sorted(TREE[words].below)


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_options_are_those_of_the_command(words: tuple[str, ...]) -> None:
    assert complete(*words, "-") == sorted([*TREE[words].options, "--help"])


def valued(command: Command) -> list[str]:
    return [option for option, metavar in command.options.items() if metavar]


@pytest.mark.parametrize(
    ("words", "option"),
    [(words, o) for words, command in TREE.items() for o in valued(command)],
)
def test_the_value_of_an_option_is_no_verb(
    words: tuple[str, ...], option: str, tmp_path: Path
) -> None:
    # an empty folder: neither files nor words to offer
    assert complete(*words, option, "", cwd=tmp_path) == []
    # the value itself, even one that looks like a noun, is skipped
    below = TREE[words].below
    found = complete("--state", str(tmp_path), *words, option, "key", "")
    assert found == sorted(below)


def test_what_is_typed_narrows_it() -> None:
    assert complete("re") == ["release"]
    assert complete("release", "pr") == ["prune"]
    assert complete("release", "list", "--re") == ["--remote"]
    assert complete("nonsense", "") == []
    assert complete("*") == []


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    for name in ("2026-11-a", "2026-11-b", ".building-x"):
        (folder / "releases" / name).mkdir(parents=True)
    for name in ("stable", "testing"):
        (folder / "channels" / name).mkdir(parents=True)
    return folder


def test_releases_and_channels_are_named(state: Path) -> None:
    base = ("--state", str(state))
    both = ["2026-11-a", "2026-11-b"]
    assert complete(*base, "release", "push", "") == both
    assert complete(*base, "release", "show", "2026-11-b") == both[1:]
    assert complete(*base, "channel", "set", "") == ["stable", "testing"]
    assert complete(*base, "channel", "set", "stable", "") == both
    assert complete(*base, "channel", "rollback", "stable", "") == both
    assert complete(*base, "release", "push", "2026-11-a", "") == []
    assert complete(*base, "plan", "office", "--release", "") == both
    # as bash splits --state=DIR
    found = complete("--state", "=", str(state), "release", "push", "")
    assert found == both


@pytest.mark.parametrize(
    "name", ["$(touch hit)", "`touch hit`", "a b", "a;touch hit", "-rf", "A"]
)
def test_a_name_that_is_none_is_not_offered(state: Path, name: str) -> None:
    (state / "releases" / name).mkdir()
    found = complete(
        "--state", str(state), "release", "push", "", cwd=state.parent
    )
    assert found == ["2026-11-a", "2026-11-b"]
    assert not (state.parent / "hit").exists()


def test_folders_and_files_are_offered(tmp_path: Path) -> None:
    (tmp_path / "golden image").mkdir()
    (tmp_path / "site.yaml").touch()
    found = complete("release", "build", "--from", "", cwd=tmp_path)
    assert found == ["golden image"]
    assert complete("--site", "si", cwd=tmp_path) == ["site.yaml"]
