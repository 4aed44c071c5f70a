"""The daemon: renders what is stored, keeps dnsmasq and nginx running.

One thread and one loop: signals, control socket, reports, restarts. It changes
nothing in the store but the rendering and the clients' states.
"""

import fcntl
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict

from sys_pxe import files
from sys_pxe.agent import address, apply, asked, endpoint, report, signed
from sys_pxe.agent.control import ASKED, RELOAD, STATUS
from sys_pxe.agent.health import Health
from sys_pxe.agent.neighbours import mac_of
from sys_pxe.agent.sockets import Sockets
from sys_pxe.agent.store import Store
from sys_pxe.agent.supervise import Service
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Manifest
from sys_pxe.render import Server
from sys_pxe.site import Site

# How often the store is looked at for a change that nobody told us.
WATCH_PAUSE = 5.0
_TICK = 0.5
_CONTROL_MAX = 64
# what dnsmasq can say while we render; it waits when this is full
_PIPE_SIZE = 1 << 20
_PIPE_READ = 1 << 16

Log = Callable[[str], None]


class Daemon:
    """What runs in the sys-pxe qube from its start to its end."""

    def __init__(self, store: Store, server: Server, log: Log) -> None:
        self._store = store
        self._server = server
        self._log = log
        self._ends = False
        self._rendered = False
        self._trouble = ""
        self._site: Site | None = None
        self._served: dict[str, Manifest] = {}
        self._seen: object = None
        self._running: dict[str, bytes] = {}
        self._macs: dict[str, str] = {}
        self._asked = asked.Log()
        current = store.current
        self._services = {
            "dnsmasq": Service(
                "dnsmasq",
                [
                    *("dnsmasq", "--keep-in-foreground"),
                    f"--conf-file={current}/dnsmasq.conf",
                ],
                log,
            ),
            "nginx": Service(
                "nginx", ["nginx", "-c", f"{current}/nginx.conf"], log
            ),
        }

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Busy when another daemon runs."""
        store = self._store
        store.prepare()
        with (
            files.locked(store.run / "daemon.lock", "the agent's folder"),
            ExitStack() as stack,
        ):
            selector = selectors.DefaultSelector()
            stack.callback(selector.close)
            sockets = Sockets(selector)
            stack.callback(sockets.close)
            self._health = Health(selector, store, self._server)
            stack.callback(self._health.neighbours.close)
            self._reports = report.Reports(store.database)
            stack.callback(self._reports.close)
            for service in self._services.values():
                stack.callback(service.stop)
            self._read_dnsmasq(selector, stack)
            self._catch_signals(selector, stack)
            sockets.listen(store.run / "control", self._control, _CONTROL_MAX)
            sockets.listen(
                store.run / "report", self._report, endpoint.REQUEST_MAX
            )
            self.refresh()
            self._log(f"the agent serves {store.root}")
            self._loop(selector, sockets)
            self._log("the agent ends")

    def _read_dnsmasq(
        self, selector: selectors.BaseSelector, stack: ExitStack
    ) -> None:
        """Let dnsmasq's log come through us: it says which PCs asked."""
        out, into = os.pipe()
        for end in (out, into):
            stack.callback(os.close, end)
        os.set_blocking(out, False)
        with suppress(OSError):  # the limit of this user's pipes is reached
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._services["dnsmasq"].stderr = into

        def said(_now: float) -> None:
            untrusted = os.read(out, _PIPE_READ)
            for line in self._asked.feed(untrusted, int(time.time())):
                self._log(line.decode("ascii", "backslashreplace"))

        selector.register(out, selectors.EVENT_READ, said)

    def _catch_signals(
        self, selector: selectors.BaseSelector, stack: ExitStack
    ) -> None:
        awake, wake = socket.socketpair()
        for end in (awake, wake):
            end.setblocking(False)
            stack.callback(end.close)
        stack.callback(signal.set_wakeup_fd, -1)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            before = signal.signal(number, lambda *_: None)
            stack.callback(signal.signal, number, before)

        def woken(_now: float) -> None:
            numbers = awake.recv(256)
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                self._ends = True

        selector.register(awake, selectors.EVENT_READ, woken)

    def _loop(self, selector: selectors.BaseSelector, sockets: Sockets) -> None:
        watched = time.monotonic()
        while not self._ends:
            for key, _ in selector.select(self._pause()):
                key.data(time.monotonic())
            now = time.monotonic()
            for service in self._services.values():
                service.tend(now)
            self._health.neighbours.tend(now)
            sockets.expire(now)
            if now - watched >= WATCH_PAUSE:
                watched = now
                if self._fingerprint() != self._seen:
                    self.refresh()

    def _pause(self) -> float:
        dues = [s.due for s in self._services.values()]
        dues.append(self._health.neighbours.due)
        waits = [due for due in dues if due is not None]
        if not waits:
            return WATCH_PAUSE
        return min(max(min(waits) - time.monotonic(), 0.01), _TICK)

    def _fingerprint(self) -> object:
        """Return a value that changes with the stored state."""
        found = []
        for path in (self._store.site_file, *self._store.channels.iterdir()):
            if path.name.startswith(files.TEMPORARY_PREFIX):
                continue
            try:
                state = os.stat(path)
            except FileNotFoundError:
                continue
            found.append((path.name, state.st_ino, state.st_mtime_ns))
        return sorted(found)

    def refresh(self) -> str:
        """Render what is stored and let the programs have it.

        Returns an empty text, or what went wrong: then what was rendered last
        goes on being served.
        """
        error = ""
        self._seen = self._fingerprint()
        try:
            self._rendered = apply.refresh(self._store, self._server)
            state = apply.load_state(self._store)
            self._served = apply.active(self._store, state)
            signed.put(self._store, self._served.values())
            stored = self._store.site()
            self._site = state.site
            clients = stored.site.clients.values() if stored else ()
            self._macs = {c.mac: c.name for c in clients}
            self._reports.keep_known(set(self._macs))
            self._asked.keep(self._macs)
            if stored:
                address.check(stored.site, self._server.interface)
        except (SysPxeError, OSError) as problem:
            error = str(problem)
            self._log(error)
        self._trouble = error
        if apply.current_name(self._store) is not None:
            self._let_know(time.monotonic())
        return error

    def _let_know(self, now: float) -> None:
        """Start, reload or restart what has another configuration now."""
        names = ("dnsmasq.conf", "dnsmasq.hosts", "nginx.conf")
        new = {n: (self._store.current / n).read_bytes() for n in names}
        old, self._running = self._running, new
        dnsmasq, nginx = self._services["dnsmasq"], self._services["nginx"]
        if not old:
            dnsmasq.start(now)
            nginx.start(now)
            return
        if old["dnsmasq.conf"] != new["dnsmasq.conf"]:
            dnsmasq.restart(now)
        elif old["dnsmasq.hosts"] != new["dnsmasq.hosts"]:
            dnsmasq.reload()
        if old["nginx.conf"] != new["nginx.conf"]:
            nginx.reload()

    def _control(self, untrusted: bytes) -> bytes | None:
        if not untrusted.endswith(b"\n"):
            return None
        answer: dict[str, object] = {}
        word = untrusted[:-1]
        if word == RELOAD:
            answer = {"error": self.refresh()}
        elif word == STATUS:
            answer = {
                "services": {
                    s.name: {
                        "running": s.running,
                        "restarts": s.restarts,
                        "pid": s.pid,
                    }
                    for s in self._services.values()
                },
                "trouble": self._trouble or None,
                **self._look(),
            }
        elif word == ASKED:
            answer = {
                "asked": [
                    {"client": self._macs.get(one.mac), **asdict(one)}
                    for one in self._asked.asked()
                ]
            }
        return json.dumps(answer).encode("ascii") + b"\n"

    def _look(self) -> dict[str, object]:
        """Return what there is to know of LAN, card, firewall and files."""
        with suppress(OSError, InvalidInput):
            # dnsmasq hears our own question too
            self._asked.ignore(mac_of(self._server.interface))
        return self._health.look(self._site, self._served, time.monotonic())

    def _report(self, untrusted: bytes) -> bytes | None:
        try:
            untrusted_body = endpoint.body_of(untrusted)
            if untrusted_body is None:
                return None
            found = report.parse(untrusted_body)
        except endpoint.RefusedError as refused:
            return endpoint.answer(refused.status)
        except InvalidInput:
            return endpoint.answer(400)
        self._reports.add(found, self._macs.get(found.mac), int(time.time()))
        return endpoint.answer(204)
