"""The door to other programs: no shell, a clean environment, clear errors."""

import os
import sys
import time

import pytest

from sys_pxe import run
from sys_pxe.errors import SysPxeError


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_and_status_come_back() -> None:
    code = "import sys; print('out'); sys.stderr.write('err'); sys.exit(3)"
    found = run.run(python(code), check=False)
    assert (found.status, found.stdout, found.stderr) == (3, b"out\n", b"err")


def test_words_are_never_read_by_a_shell() -> None:
    word = "$(id); `id` | x > y * ~ '\""
    code = "import sys; sys.stdout.write(sys.argv[1])"
    assert run.run([*python(code), word]).stdout.decode() == word


def test_stdin_is_empty_unless_given() -> None:
    code = "import sys; print(len(sys.stdin.read()))"
    assert run.run(python(code)).stdout == b"0\n"
    assert run.run(python(code), stdin=b"abc").stdout == b"3\n"


def test_the_environment_is_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("LD_PRELOAD", "")
    code = "import os; print(sorted(os.environ))"
    found = run.run(python(code), env={"EXTRA": "1"}).stdout.decode()
    assert "SECRET_TOKEN" not in found and "LD_PRELOAD" not in found
    assert "'EXTRA'" in found and "'LC_ALL'" in found


def test_programs_of_the_system_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    assert "/usr/sbin" in run.environment()["PATH"].split(":")
    monkeypatch.delenv("PATH")
    assert "/usr/sbin" in run.environment()["PATH"].split(":")


def test_a_failure_names_the_command_and_its_last_words() -> None:
    code = "import sys; sys.exit('no room left')"
    with pytest.raises(SysPxeError) as caught:
        run.run(python(code), hint="make room")
    assert "exit status 1: no room left" in caught.value.message
    assert caught.value.message.startswith(sys.executable)
    assert caught.value.hint == "make room"


def test_a_signal_is_named() -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    with pytest.raises(SysPxeError, match="signal 9"):
        run.run(python(code))


def test_a_long_output_is_cut_in_the_message() -> None:
    code = "import sys; sys.exit('x' * 100_000 + 'end')"
    with pytest.raises(SysPxeError) as caught:
        run.run(python(code))
    assert len(caught.value.message) < 2500
    assert caught.value.message.endswith("end")


def test_a_missing_program_is_named() -> None:
    with pytest.raises(SysPxeError) as caught:
        run.run(["no-such-program"], hint="install it")
    assert caught.value.message == (
        "the program 'no-such-program' is not installed"
    )
    with pytest.raises(SysPxeError, match="is not installed"):
        run.spawn(["no-such-program"])


def test_a_program_that_hangs_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(SysPxeError, match=r"did not end within 0\.2 s"):
        run.run(python("import time; time.sleep(60)"), timeout=0.2)
    assert time.monotonic() - start < 20


def test_a_child_is_asked_then_killed() -> None:
    polite = run.spawn(python("import time; time.sleep(60)"))
    assert run.stop(polite) == -15
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('ready', flush=True); time.sleep(60)"
    )
    deaf = run.spawn(python(code), stdout=run.PIPE)
    assert deaf.stdout is not None and deaf.stdout.readline() == b"ready\n"
    assert run.stop(deaf, patience=0.2) == -9
    deaf.stdout.close()


def test_stopping_twice_is_fine() -> None:
    child = run.spawn(python("raise SystemExit(4)"))
    child.wait(20)
    assert run.stop(child) == run.stop(child) == 4


def test_only_the_given_descriptors_are_passed() -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    code = f"import os; os.write({theirs}, b'x')"
    try:
        assert run.run(python(code), check=False).status != 0
        assert run.run(python(code), pass_fds=[theirs]).status == 0
        assert os.read(ours, 5) == b"x"
    finally:
        os.close(ours)
        os.close(theirs)
