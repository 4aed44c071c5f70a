"""An HTTP server on loopback that misbehaves where a test wants it to."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# what a hook says: None is a right answer, bytes a wrong body, int a status
Answer = None | bytes | int
Hook = Callable[["Request"], Answer]


@dataclass(frozen=True)
class Request:
    """A chunk was asked for; ``body`` is what a right answer holds."""

    handler: "Handler"
    digest: str
    start: int
    body: bytes
    number: int

    def cut(self, after: int) -> None:
        """Promise the whole body, send a part of it, hang up."""
        self.handler.head(206 if self.start else 200, len(self.body))
        self.handler.wfile.write(self.body[:after])
        self.handler.close_connection = True


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: broken connections are what these tests are about."""


@dataclass
class Web:
    """An HTTP server on loopback. ``asked`` is (digest, first byte)."""

    chunks: dict[str, bytes]
    hook: Hook = lambda request: None
    asked: list[tuple[str, int]] = field(default_factory=list)
    port: int = 0
    server: ThreadingHTTPServer | None = None
    thread: threading.Thread | None = None
    open: list["Handler"] = field(default_factory=list)

    def start(self) -> None:
        kind = type("Bound", (Handler,), {"web": self})
        self.server = QuietServer(("127.0.0.1", self.port), kind)
        self.port = self.server.server_port
        self.thread = threading.Thread(
            target=self.server.serve_forever, args=(0.01,)
        )
        self.thread.start()

    def stop(self) -> None:
        """Stop as a killed server does: connections break at once."""
        if self.server is None or self.thread is None:
            return
        self.server.shutdown()
        self.thread.join()
        # not server_close: it waits for the handlers
        self.server.socket.close()
        for handler in self.open:
            handler.hang_up()
        self.server = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def setup(self) -> None:
        super().setup()
        self.web.open.append(self)

    def hang_up(self) -> None:
        try:
            self.connection.shutdown(2)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return

    def head(self, status: int, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def do_GET(self) -> None:
        try:
            self.answer()
        except OSError:
            self.close_connection = True

    def answer(self) -> None:
        digest = self.path.removeprefix("/chunks/")
        wanted = self.headers.get("Range", "bytes=0-")
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.web.asked.append((digest, start))
        number = sum(1 for name, _ in self.web.asked if name == digest)
        body = self.web.chunks[digest][start:]
        request = Request(self, digest, start, body, number)
        got = self.web.hook(request)
        if self.close_connection:
            return
        if isinstance(got, int):
            self.head(got, 0)
            return
        self.head(206 if start else 200, len(body if got is None else got))
        self.wfile.write(body if got is None else got)
