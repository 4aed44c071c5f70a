"""A LAN of the lab: one bridge in a network namespace, nothing leads outside.

The server's programs run in the namespace of the bridge, which holds the
server's address; a QEMU machine hangs on a tap, a test host on a veth.
"""

import itertools
import os
import re
import signal
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from sys_pxe import run
from sys_pxe.errors import SysPxeError, UsageError

SERVER_ADDRESS = "192.0.2.1/24"
BRIDGE = "lan"
HOST_DEVICE = "eth0"
# a locally administered address, so that no port's address becomes the bridge's
BRIDGE_MAC = "02:00:00:00:00:01"

_PREFIX = "sp"
_DEVICE_MAX = 15  # IFNAMSIZ - 1, linux/if.h
_NETNS_FOLDER = Path("/run/netns")
_numbers = itertools.count(1)


def namespace_of(pid: int, number: int) -> str:
    """Return the name of a process's ``number``-th lab namespace."""
    return f"{_PREFIX}-{pid}-lab" + (str(number) if number > 1 else "")


def owner_of(namespace: str) -> int | None:
    """Return the process that made a lab namespace; None for any other."""
    match = re.fullmatch(rf"{_PREFIX}-([0-9]{{1,9}})-lab.*", namespace)
    return int(match[1]) if match else None


def parse_device(name: str) -> str:
    """Return a name of a network device; UsageError when Linux refuses it."""
    if len(name) > _DEVICE_MAX or not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise UsageError(
            f"{name!r} is not the name of a device (expected at most "
            f"{_DEVICE_MAX} lower-case letters, digits and dashes)"
        )
    return name


def inside(namespace: str, argv: Sequence[str]) -> list[str]:
    """Return ``argv`` as a command that runs in a network namespace."""
    return ["ip", "netns", "exec", namespace, *argv]


def sweep() -> list[str]:
    """Remove the namespaces of lab processes that died without a clean-up."""
    gone = []
    names = sorted(p.name for p in _NETNS_FOLDER.glob(f"{_PREFIX}-*-lab*"))
    for name in names:
        owner = owner_of(name)
        if owner is not None and not Path("/proc", str(owner)).exists():
            _remove_namespace(name)
            gone.append(name)
    return gone


class Lan:
    """A LAN that is there while its ``with`` block runs. Needs root.

    All that is in it ends with it, also after an exception, Ctrl-C or SIGTERM
    (which raises SystemExit in the main thread while the block runs). IPv6 is
    off, unless the server gets an address of it such as fd00::1/64.
    """

    def __init__(
        self, server_address: str = SERVER_ADDRESS, ipv6: str | None = None
    ) -> None:
        self.server_address = server_address
        self.ipv6 = ipv6
        self.namespace = namespace_of(os.getpid(), next(_numbers))
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise SysPxeError(
                "the lab makes network namespaces, which only root may",
                "call it again as root (sudo)",
            )
        try:
            self._catch_sigterm()
            sweep()
            self._add_namespace(self.namespace)
            self._ip("link", "add", BRIDGE, "address", BRIDGE_MAC,
                     "type", "bridge")  # fmt: skip
            self._ip("address", "add", self.server_address, "dev", BRIDGE)
            if self.ipv6 is not None:
                self._ip("address", "add", self.ipv6, "dev", BRIDGE, "nodad")
            self._ip("link", "set", BRIDGE, "up")
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    def exec_argv(self, argv: Sequence[str]) -> list[str]:
        """Return ``argv`` as a command that runs on the server's side."""
        return inside(self.namespace, argv)

    def tap(self, name: str) -> str:
        """Make a tap on the bridge for one machine and return its name."""
        parse_device(name)
        self._ip("tuntap", "add", name, "mode", "tap")
        self._join(name)
        return name

    def host(self, name: str, address: str) -> str:
        """Make a host with an address such as 192.0.2.10/24 on the bridge.

        Returns its namespace; programs run there by :func:`inside`.
        """
        port = parse_device(f"v-{name}")
        namespace = f"{self.namespace}-{name}"
        self._add_namespace(namespace)
        self._ip("link", "add", port, "type", "veth",
                 "peer", "name", HOST_DEVICE, "netns", namespace)  # fmt: skip
        self._join(port)
        _ip(namespace, "address", "add", address, "dev", HOST_DEVICE)
        _ip(namespace, "link", "set", HOST_DEVICE, "up")
        return namespace

    def _join(self, port: str) -> None:
        self._ip("link", "set", port, "master", BRIDGE, "up")

    def _ip(self, *words: str) -> None:
        _ip(self.namespace, *words)

    def _add_namespace(self, name: str) -> None:
        # the undo first: a signal may come between the two
        self._undo.callback(_remove_namespace, name)
        run.run(["ip", "netns", "add", name])
        if self.ipv6 is None and Path("/proc/sys/net/ipv6").exists():
            for scope in ("all", "default"):
                setting = f"net.ipv6.conf.{scope}.disable_ipv6=1"
                run.run(inside(name, ["sysctl", "-qw", setting]))
        _ip(name, "link", "set", "lo", "up")

    def _catch_sigterm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.signal(signal.SIGTERM, _leave)
        self._undo.callback(signal.signal, signal.SIGTERM, before)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _ip(namespace: str, *words: str) -> None:
    run.run(["ip", "-n", namespace, *words])


def _remove_namespace(name: str) -> None:
    if not (_NETNS_FOLDER / name).exists():
        return
    # a program that is left would keep the devices of the namespace alive
    left = run.run(["ip", "netns", "pids", name], check=False)
    for pid in left.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    done = run.run(["ip", "netns", "delete", name], check=False)
    # another lab's sweep may have been quicker
    if done.status != 0 and (_NETNS_FOLDER / name).exists():
        raise run.failure(done)
