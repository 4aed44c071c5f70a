"""The qrexec services: a table of what is allowed, and one way to fail.

A caller gets one line of JSON, or a message, a hint and an exit status. What
went wrong inside goes to the journal and never to the caller.
"""

import json
import sys
import syslog
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from sys_pxe import names
from sys_pxe.agent import activate, overview, prune, push
from sys_pxe.agent.control import RELOAD, ask
from sys_pxe.agent.store import SIGNED_MAX, Store
from sys_pxe.errors import InvalidInput, SysPxeError, UsageError

DEFAULT_ROOT = "/var/lib/sys-pxe"


@dataclass(frozen=True)
class Call:
    """One checked call. ``payload`` is empty for Push, which streams."""

    store: Store
    argument: str
    payload: bytes
    untrusted_stream: IO[bytes]
    now: int


@dataclass(frozen=True)
class Service:
    """What a service takes: an argument or none, payload up to a limit.

    ``payload_max`` is in bytes; None is a stream of frames that have limits
    of their own.
    """

    function: Callable[[Call], dict[str, object]]
    takes_argument: bool = False
    payload_max: int | None = 0


def _push(call: Call) -> dict[str, object]:
    got = push.receive(
        call.store, call.argument, call.untrusted_stream, call.now
    )
    return {
        "release": got.release,
        "complete": got.complete,
        "missing": list(got.missing),
        "stored": got.stored,
    }


def _activate(call: Call) -> dict[str, object]:
    done = activate.activate(call.store, call.argument, call.payload, call.now)
    _tell_daemon(call.store)
    return asdict(done)


def _site(call: Call) -> dict[str, object]:
    taken = activate.replace_site(call.store, call.payload, call.now)
    _tell_daemon(call.store)
    return {
        "serial": taken.serial,
        "clients": len(taken.site.clients),
        "profiles": len(taken.site.profiles),
    }


def _tell_daemon(store: Store) -> None:
    """The new state is stored; a daemon that fails now is told in Status."""
    answer = ask(store, RELOAD)
    if answer and answer.get("error"):
        raise SysPxeError(
            "stored, but clients are not served by it: "
            + names.printable(str(answer["error"]).replace("\n", " / "), 700),
            "more is in the journal of sys-pxe",
        )


def _prune(call: Call) -> dict[str, object]:
    done = prune.prune(call.store, call.now)
    return {
        "releases": list(done.releases),
        "chunks": done.chunks,
        "bytes": done.bytes,
    }


SERVICES = {
    "syspxe.Push": Service(_push, takes_argument=True, payload_max=None),
    "syspxe.Activate": Service(_activate, True, SIGNED_MAX),
    "syspxe.Site": Service(_site, payload_max=SIGNED_MAX),
    "syspxe.Releases": Service(lambda call: overview.releases(call.store)),
    "syspxe.Status": Service(
        lambda call: overview.status(call.store, call.now)
    ),
    "syspxe.Events": Service(lambda call: overview.events(call.store)),
    "syspxe.Prune": Service(_prune),
}


def handle(
    root: Path,
    untrusted_words: list[str],
    untrusted_stream: IO[bytes],
    now: int,
) -> bytes:
    """Return the answer to a call: service, and its argument if it has one.

    Raises SysPxeError for whatever the caller did wrong.
    """
    untrusted_name, *untrusted_rest = untrusted_words or [""]
    service = SERVICES.get(untrusted_name)
    if service is None:
        raise UsageError(
            f"{names.printable(untrusted_name, 60)!r} is not a service",
            f"one of: {', '.join(SERVICES)}",
        )
    name = untrusted_name
    # qrexec may pass an empty argument for a call without one
    untrusted_rest = [word for word in untrusted_rest if word]
    if len(untrusted_rest) != int(service.takes_argument):
        wanted = "one argument" if service.takes_argument else "no argument"
        raise UsageError(f"{name}: expected {wanted}")
    argument = "".join(names.parse_name(w, name) for w in untrusted_rest)
    payload = b""
    if service.payload_max is not None:
        payload = untrusted_stream.read(service.payload_max + 1)
        if len(payload) > service.payload_max:
            raise InvalidInput(
                f"{name}: more than {service.payload_max} bytes were sent"
                if service.payload_max
                else f"{name}: takes no data, but some was sent"
            )
    call = Call(Store(root), argument, payload, untrusted_stream, now)
    return json.dumps(service.function(call)).encode("ascii") + b"\n"


def say(error: SysPxeError) -> str:
    """Return an error's text for the caller: printable ASCII, bounded."""
    message = names.printable(error.message.replace("\n", " / "), 1000)
    hint = names.printable(error.hint.replace("\n", " / "), 500)
    return f"{message}\nhint: {hint}\n" if hint else f"{message}\n"


def main(arguments: list[str] | None = None) -> int:
    """Run one service call on stdin and stdout; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    root = DEFAULT_ROOT
    if len(words) >= 2 and words[0] == "--root":
        root = words[1]
        del words[:2]
    try:
        answer = handle(Path(root), words, sys.stdin.buffer, int(time.time()))
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    except SysPxeError as error:
        sys.stderr.write(say(error))
        return error.exit_code
    except Exception:
        # the caller is another qube: it is told nothing of our inside
        syslog.openlog("sys-pxe")
        for line in traceback.format_exc().splitlines():
            syslog.syslog(syslog.LOG_ERR, line)
        sys.stderr.write("internal error, see the journal of sys-pxe\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
