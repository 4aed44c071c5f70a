"""Fetching and verifying 1 GiB, against curl, which verifies nothing.

Both get the same bytes from the same nginx over the same pair of devices, and
put them into a tmpfs. A run is a whole process, from its start to its end.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sys_pxe import manifest, run
from sys_pxe.lab.network import Lan, inside
from sys_pxe.manifest import Artifact, Manifest, Role
from tests.bench import rows

MIB = 1 << 20
SIZE = 1024 * MIB
ADDRESS = "192.0.2.1"
REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGURATION = """\
daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log stderr warn;
user root;
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    server {{
        listen {address}:80;
        root {folder}/www;
    }}
}}
"""


@dataclass(frozen=True)
class Place:
    """A namespace that fetches, and where to: ``folder`` is in a tmpfs."""

    host: str
    folder: Path

    @property
    def description(self) -> Path:
        return self.folder / "manifest"

    def timed(self, argv: list[str]) -> float:
        """Run a program that fills ``target``; return its MiB/s."""
        target = self.folder / "target"
        begin = time.monotonic()
        run.run(
            inside(self.host, argv),
            timeout=300,
            env={"PYTHONPATH": str(REPOSITORY)},
        )
        seconds = time.monotonic() - begin
        size = target.stat().st_size
        if size != SIZE:
            raise RuntimeError(f"{argv[0]} fetched {size} bytes")
        target.unlink()
        return SIZE / MIB / seconds

    def ours(self) -> float:
        child = [sys.executable, "-m", "tests.bench.fetch_child", ADDRESS]
        return self.timed(
            [*child, str(self.description), str(self.folder / "target")]
        )

    def curl(self) -> float:
        target = str(self.folder / "target")
        url = f"http://{ADDRESS}/whole"
        return self.timed(["curl", "-sS", "-f", "-o", target, url])


def fill(folder: Path) -> Manifest:
    """Write random chunks and the same bytes as one file; return what it is."""
    www = folder / "www"
    (www / "chunks").mkdir(parents=True)
    digests = []
    total = hashlib.sha256()
    step = manifest.CHUNK_SIZE
    with open(www / "whole", "wb") as whole:
        for _ in range(SIZE // step):
            content = os.urandom(step)
            digest = hashlib.sha256(content).hexdigest()
            (www / "chunks" / digest).write_bytes(content)
            whole.write(content)
            total.update(content)
            digests.append(digest)
    artifact = Artifact(
        *(Role.DOM0_ROOT, "dom0-root", SIZE, total.hexdigest(), step),
        tuple(digests),
    )
    return Manifest("r1", 1, 1, 2, (artifact,))


@contextmanager
def place() -> Iterator[Place]:
    """Yield a host whose server has the data; all of it is gone afterwards."""
    # /dev/shm is a tmpfs: no disk takes part
    with TemporaryDirectory(dir="/dev/shm") as name, Lan() as lan:
        folder = Path(name)
        folder.chmod(0o755)
        made = Place(lan.host("pc", "192.0.2.50/24"), folder)
        made.description.write_bytes(manifest.write(fill(folder)))
        text = CONFIGURATION.format(folder=folder, address=ADDRESS)
        (folder / "nginx.conf").write_text(text, "ascii")
        argv = ["nginx", "-p", name, "-c", str(folder / "nginx.conf")]
        server = run.spawn(lan.exec_argv(argv))
        try:
            wait_for_server(made, server)
            yield made
        finally:
            run.stop(server)


def wait_for_server(made: Place, server: "run.Popen[bytes]") -> None:
    """Return as soon as the server answers."""
    argv = ["curl", "-sfI", "-o", "/dev/null", f"http://{ADDRESS}/whole"]
    for _ in range(100):
        if run.run(inside(made.host, argv), check=False).status == 0:
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("nginx does not answer")


def bench() -> list[rows.Row]:
    with place() as made:
        # one of each first, so that all files were read once
        made.ours()
        made.curl()
        runs = rows.alternating(made.ours, made.curl)
    what = "fetch and verify 1 GiB"
    peer = "curl, without verification"
    return [rows.compared(what, peer, "MiB/s", runs, 1.1, more_is_better=True)]
