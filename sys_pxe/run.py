"""The one door to other programs: argument lists, a clean environment.

No shell is ever involved. The environment is rebuilt from a short list, stdin
is empty unless given, and a failure names the command and what it printed.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from sys_pxe.errors import SysPxeError

_KEPT = ("PATH", "HOME", "TERM", "TMPDIR", "SOURCE_DATE_EPOCH")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OUTPUT_SHOWN = 2000

Popen = subprocess.Popen
TimeoutExpired = subprocess.TimeoutExpired
Stream = int | IO[bytes] | None


@dataclass(frozen=True)
class Result:
    """How a program ended: exit status (negative: signal) and its output."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment that every child gets, with ``extra`` added."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # sbin is missing from an ordinary user's PATH; dnsmasq lives there
    path = kept.get("PATH", _PATH)
    kept["PATH"] = path if "/usr/sbin" in path.split(":") else f"{path}:{_PATH}"
    return {**kept, "LC_ALL": "C.UTF-8", **(extra or {})}


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    check: bool = True,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
    hint: str = "",
) -> Result:
    """Run a program to its end and return its status and output.

    ``timeout`` is in seconds. Raises :class:`SysPxeError` when the program is
    missing, runs too long, or (with ``check``) ends with a status other than 0.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            timeout=timeout,
            env=environment(env),
            cwd=cwd,
            pass_fds=tuple(pass_fds),
            check=False,
        )
    except FileNotFoundError:
        raise SysPxeError(
            f"the program {argv[0]!r} is not installed", hint
        ) from None
    except subprocess.TimeoutExpired:
        raise SysPxeError(
            f"{argv[0]!r} did not end within {timeout:g} s", hint
        ) from None
    result = Result(tuple(argv), done.returncode, done.stdout, done.stderr)
    if check and result.status != 0:
        raise failure(result, hint)
    return result


def spawn(
    argv: Sequence[str],
    *,
    stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = None,
    stderr: Stream = None,
    env: Mapping[str, str] | None = None,
    new_session: bool = False,
    pass_fds: Sequence[int] = (),
) -> "subprocess.Popen[bytes]":
    """Start a program and return it running; the caller waits for it.

    ``new_session`` keeps a terminal's Ctrl-C away from the child, so that its
    parent decides when it ends. Raises :class:`SysPxeError` when it is missing.
    """
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment(env),
            start_new_session=new_session,
            pass_fds=tuple(pass_fds),
        )
    except FileNotFoundError:
        raise SysPxeError(f"the program {argv[0]!r} is not installed") from None


def stop(child: "subprocess.Popen[bytes]", patience: float = 5.0) -> int:
    """End a child: ask, wait ``patience`` seconds, kill. Return its status."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
STDOUT = subprocess.STDOUT


def failure(result: Result, hint: str = "") -> SysPxeError:
    """Return the error that says how a program failed, with its last words."""
    output = (result.stderr or result.stdout)[-_OUTPUT_SHOWN:]
    said = output.decode("utf-8", "replace").strip()
    how = (
        f"exit status {result.status}"
        if result.status >= 0
        else f"signal {-result.status}"
    )
    return SysPxeError(
        f"{' '.join(result.argv[:6])}: {how}" + (f": {said}" if said else ""),
        hint,
    )
