import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import run
from sys_pxe.errors import SysPxeError
from sys_pxe.lab.console import Console, PlainText

SAID = b"\x1b[0;32m  OK  \x1b[0m] \x1b]0;title\x07Reached \x1b[?2004ltarget\r\n"


@pytest.fixture
def guest() -> Iterator[tuple[Console, socket.socket]]:
    ours, theirs = socket.socketpair()
    console = Console("pc", ours)
    yield console, theirs
    theirs.close()
    console.close()


@pytest.fixture
def shell() -> Iterator[Console]:
    ours, theirs = socket.socketpair()
    end = theirs.makefile("rwb", buffering=0)
    child = run.spawn(["bash"], stdin=theirs.fileno(), stdout=theirs.fileno())
    end.close()
    theirs.close()
    console = Console("pc", ours)
    yield console
    run.stop(child)
    console.close()


def test_escapes_and_control_codes_are_dropped() -> None:
    assert PlainText().feed(SAID) == "  OK  ] Reached target\n"


@given(st.lists(st.integers(1, len(SAID) - 1)))
def test_pieces_may_be_cut_anywhere(cuts: list[int]) -> None:
    plain = PlainText()
    edges = [0, *sorted(cuts), len(SAID)]
    pieces = [plain.feed(SAID[a:b]) for a, b in itertools.pairwise(edges)]
    assert "".join(pieces) == "  OK  ] Reached target\n"


@given(st.binary(max_size=400))
def test_noise_leaves_no_control_code(noise: bytes) -> None:
    text = PlainText().feed(noise + b"\x1b[m" * 100)
    assert not set(text) & {chr(code) for code in (7, 8, 13, 0)}


def test_a_lone_escape_does_not_hold_text_back_for_ever() -> None:
    plain = PlainText()
    assert plain.feed(b"\x1b]no end" + b"x" * 9) == ""
    assert "x" * 300 in plain.feed(b"x" * 300)


def test_wait_for_returns_match_and_seconds(
    guest: tuple[Console, socket.socket],
) -> None:
    console, theirs = guest
    theirs.sendall(b"booting\r\nrelease r7\r\n")
    seen = console.wait_for(r"^release (\S+)$", 5)
    assert seen.match[1] == "r7"
    assert 0 <= seen.seconds < 5


def test_wait_for_does_not_see_what_stands_before_after(
    guest: tuple[Console, socket.socket],
) -> None:
    console, theirs = guest
    theirs.sendall(b"one\n")
    end = console.wait_for("one", 5).match.end()
    with pytest.raises(SysPxeError, match="not within"):
        console.wait_for("one", 0.05, end)


def test_time_over_shows_the_last_lines(
    guest: tuple[Console, socket.socket],
) -> None:
    console, theirs = guest
    theirs.sendall(b"".join(b"line %d\n" % number for number in range(50)))
    console.wait_for("line 49", 5)
    with pytest.raises(SysPxeError) as caught:
        console.wait_for("never", 0.05)
    assert "line 30\n" in caught.value.message
    assert "line 29\n" not in caught.value.message
    assert "'never'" in caught.value.message


def test_a_machine_that_ends_is_not_waited_for(
    guest: tuple[Console, socket.socket],
) -> None:
    console, theirs = guest
    theirs.sendall(b"Kernel panic\n")
    theirs.close()
    with pytest.raises(SysPxeError, match=r"it ended(?s:.*)Kernel panic"):
        console.wait_for("login:", 600)
    with pytest.raises(SysPxeError, match="is off"):
        console.send("x")
        console.send("x")


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("echo hello", "hello\n"),
        ("printf no-line-break", "no-line-break"),
        ("true", ""),
        ("""printf '%s' "it's" '$HOME' """, "it's$HOME"),
        ("for i in 1 2; do echo $i; done", "1\n2\n"),
        ("echo one\necho two", "one\ntwo\n"),
        ("echo kept # a comment", "kept\n"),
        ("echo one; echo '(XEN) uart: slow'; echo two", "one\ntwo\n"),
        ("printf 'in (XEN) uart: slow\\nline\\n'", "in line\n"),
        ("echo last; echo '(XEN) uart: slow'", "last\n"),
    ],
)
def test_command_returns_exactly_what_was_printed(
    shell: Console, line: str, output: str
) -> None:
    assert shell.command(line, 10) == output


def test_command_that_fails_is_an_error(shell: Console) -> None:
    with pytest.raises(SysPxeError, match=r"status 3.*'oh no'"):
        shell.command("echo oh no; (exit 3)", 10)
    assert shell.command("echo next", 10) == "next\n"


def test_login_types_root_and_waits_for_the_prompt(
    tmp_path: Path,
) -> None:
    script = tmp_path / "getty"
    script.write_text(
        "echo 'dom0 login: '; read name; echo \"Welcome $name\"; "
        "stty() { :; }; dmesg() { :; }; echo '#'; "
        'while read -r line; do eval "$line"; done'
    )
    ours, theirs = socket.socketpair()
    child = run.spawn(
        ["bash", str(script)], stdin=theirs.fileno(), stdout=theirs.fileno()
    )
    theirs.close()
    console = Console("pc", ours)
    try:
        assert 0 < console.login(10) < 10
        assert "Welcome root" in console.text
    finally:
        run.stop(child)
        console.close()


@pytest.mark.parametrize(
    "noise",
    ["[  105.719310] SCSI subsystem initialized", "(XEN) uart interrupt"],
)
def test_a_prompt_counts_when_a_driver_or_xen_speaks_behind_it(
    shell: Console, noise: str
) -> None:
    # no space between, as a kernel that writes to the same line
    shell.send(
        "echo 'dom0 login: '; read name; echo 'Linux #1 SMP'; "
        f"printf '# {noise}\\n'\n"
    )
    assert 0 < shell.login(10) < 10


def test_other_words_behind_a_hash_are_no_prompt(shell: Console) -> None:
    shell.send("echo 'dom0 login: '; read name; echo 'Linux #1 SMP x'\n")
    with pytest.raises(SysPxeError, match="did not come"):
        shell.login(1)
