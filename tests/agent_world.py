"""A small world for the agent's tests: keys, releases, pointers, sites."""

import functools
import hashlib
import sys
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from sys_pxe import frames, manifest, pointer, run, signature, site
from sys_pxe.agent import activate, push
from sys_pxe.agent.store import Store
from sys_pxe.manifest import Artifact, Manifest, Role
from sys_pxe.pointer import Pointer

REPOSITORY = Path(__file__).resolve().parents[1]
DAY = 86_400


@functools.cache
def key_pair(number: int = 0) -> tuple[bytes, bytes]:
    return signature.new_key()


def artifact(role: Role, name: str, content: bytes, step: int) -> Artifact:
    parts = [content[i : i + step] for i in range(0, len(content), step)]
    return Artifact(
        role=role,
        name=name,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        chunk_size=step,
        digests=tuple(hashlib.sha256(p).hexdigest() for p in parts),
    )


@dataclass(frozen=True)
class Release:
    manifest: Manifest
    signed: bytes
    chunks: dict[str, bytes]

    @property
    def name(self) -> str:
        return self.manifest.release

    def frames(self, only: tuple[str, ...] | None = None) -> bytes:
        wanted = self.chunks if only is None else only
        return frames.frame("manifest", self.signed) + b"".join(
            frames.frame(d, self.chunks[d]) for d in wanted
        )


def site_data(**changes: object) -> dict[str, object]:
    base = {"channel": "stable", "ram": {"dom0": "2GiB"}}
    data: dict[str, object] = {
        "network": {
            "address": "192.0.2.1/24",
            "dhcp": {"mode": "server", "pool": "192.0.2.100-192.0.2.199"},
        },
        "channels": ["testing", "stable"],
        "profiles": {"base": base},
        "clients": {"desk-01": {"mac": "52:54:00:00:00:01", "profile": "base"}},
        "unknown_clients": "refuse",
    }
    return {**data, **changes}


class World:
    """dom0's side (a private key) and an agent's folder."""

    def __init__(self, folder: Path) -> None:
        self.now = int(time.time())
        self.root = folder / "root"
        self.root.mkdir()
        self.private = folder / "private.pem"
        private, public = key_pair()
        self.private.write_bytes(private)
        (self.root / "key.pem").write_bytes(public)
        self.store = Store(self.root)
        self.store.prepare()

    def sign(self, text: bytes) -> bytes:
        return signature.signed(text, self.private)

    def release(
        self,
        name: str = "r1",
        serial: int = 1,
        *,
        root: bytes | None = None,
        boot: bool = True,
        created: int = -DAY,
        expires: int = DAY,
    ) -> Release:
        mark = f"{name} {serial} ".encode()
        content = root if root is not None else mark * 2000
        files = [(Role.DOM0_ROOT, "dom0-root", content, 4096)]
        if boot:
            files[:0] = [
                (Role.XEN, "xen", b"xen " + mark, 512),
                (Role.KERNEL, "kernel", b"kernel " + mark, 512),
                (Role.INITRAMFS, "initramfs", b"initramfs " + mark, 512),
            ]
        made = Manifest(
            name,
            serial,
            self.now + created,
            self.now + expires,
            tuple(artifact(r, n, c, min(s, len(c))) for r, n, c, s in files),
        )
        contents = {a.name: c for a, (_, _, c, _) in zip(
            made.artifacts, files, strict=True)}  # fmt: skip
        chunks = {
            c.sha256: contents[a.name][c.offset : c.offset + c.size]
            for a in made.artifacts
            for c in a.chunks
        }
        return Release(made, self.sign(manifest.write(made)), chunks)

    def push(self, release: Release, content: bytes | None = None,
             reserve: int = 0) -> push.Received:  # fmt: skip
        stream = BytesIO(release.frames() if content is None else content)
        return push.receive(self.store, release.name, stream, self.now, reserve)

    def pointer(
        self,
        serial: int,
        release: Release,
        channel: str = "stable",
        rollback: bool = False,
        floor: int = 1,
    ) -> bytes:
        text = pointer.write(
            Pointer(channel, serial, self.now, release.name,
                    release.manifest.serial, rollback, floor)
        )  # fmt: skip
        return self.sign(text)

    def activate(
        self, serial: int, release: Release, channel: str = "stable"
    ) -> activate.Activated:
        signed = self.pointer(serial, release, channel)
        return activate.activate(self.store, channel, signed, self.now)

    def signed_site(self, serial: int = 1, **changes: object) -> bytes:
        data = site_data(**changes)
        return self.sign(site.encode(data, serial, self.now))

    def set_site(self, serial: int = 1, **changes: object) -> None:
        signed = self.signed_site(serial, **changes)
        activate.replace_site(self.store, signed, self.now)

    def script(self, client: str = "desk-01") -> str:
        return (self.store.current / f"ipxe/{client}.ipxe").read_text()

    def rpc_argv(self, *words: str) -> list[str]:
        module = [sys.executable, "-m", "sys_pxe.agent.rpc"]
        return [*module, "--root", str(self.root), *words]

    def rpc(self, *words: str, stdin: bytes = b"") -> run.Result:
        return run.run(
            self.rpc_argv(*words),
            stdin=stdin,
            check=False,
            timeout=60,
            env={"PYTHONPATH": str(REPOSITORY)},
        )

    def spawn_rpc(self, *words: str) -> "run.Popen[bytes]":
        return run.spawn(
            self.rpc_argv(*words),
            stdin=run.PIPE,
            stdout=run.PIPE,
            stderr=run.PIPE,
            env={"PYTHONPATH": str(REPOSITORY)},
        )

    def leftovers(self) -> list[Path]:
        return list(self.store.chunks.glob(".new-*"))


def stored(world: World) -> list[str]:
    """Everything that a push could have left in the store."""
    folders = (world.store.releases, world.store.pending, world.store.chunks)
    return [p.name for folder in folders for p in folder.iterdir()]
