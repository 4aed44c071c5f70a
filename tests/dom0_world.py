"""A small world for dom0's tests: a state with a key, releases, a store."""

import functools
import hashlib
import json
import random
import sys
from io import BytesIO
from pathlib import Path
from typing import IO

import pytest

from sys_pxe import files, frames, manifest, names, pointer, signature, site
from sys_pxe.dom0 import artifacts
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.state import State
from sys_pxe.dom0.transport import Payload
from sys_pxe.errors import SysPxeError
from sys_pxe.manifest import Manifest, Role

DAY = 86_400
NOW = 1_900_000_000
QUIET = Reporter(quiet=True)
SITE = """\
network:
  address: 192.0.2.1/24
  dhcp: {mode: server, pool: 192.0.2.100-192.0.2.199}
channels: [testing, stable]
profiles:
  base:   {channel: stable, ram: {dom0: 2GiB}}
  office: {inherits: base}
clients:
  desk-01: {mac: 52:54:00:00:00:01, profile: office}
unknown_clients: refuse
"""


@functools.cache
def key_pair() -> tuple[bytes, bytes]:
    return signature.new_key()


def in_the_present(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let releases suit a real agent: its clock, and several chunks each."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", 1_700_000_000)
    monkeypatch.setattr(sys.modules[__name__], "DAY", 100 * 365 * 86_400)
    monkeypatch.setattr(manifest, "CHUNK_SIZE", 1 << 20)


def new_state(root: Path) -> State:
    """Return a state with a key (the same one for all tests: it is slow)."""
    state = State(root)
    private, public = key_pair()
    files.make_folder(state.key_folder, 0o700)
    files.write(state.key_folder / "private.pem", private, 0o600)
    files.write(state.key_folder / "public.pem", public)
    return state


def keep_release(
    state: State,
    name: str,
    root_size: int = 100,
    seed: int = 0,
    key: Path | None = None,
) -> Manifest:
    """Put a small release into the state, as the builder would.

    ``key`` signs it where the state itself has no private key.
    """
    folder = files.make_folder(state.release_folder(name))
    maker = random.Random(seed)
    made_of = []
    for role in (*manifest.BOOT_ROLES, Role.DOM0_ROOT):
        whole = role is not Role.DOM0_ROOT
        size = 10 if whole else root_size
        path = folder / role.value
        files.write(path, maker.randbytes(size))
        made_of.append(artifacts.describe(path, role, whole))
    made = Manifest(
        name, state.take_serial("release"), NOW, NOW + DAY, tuple(made_of)
    )
    signed = signature.signed(manifest.write(made), key or state.private_key)
    files.write(folder / "manifest", signed)
    return made


class Store:
    """A strict store in memory: what is not expected is an error.

    ``cut_after`` ends the stream of the next push after that many bytes.
    """

    def __init__(self, public_key: Path) -> None:
        self.public_key = public_key
        self.releases: dict[str, Manifest] = {}
        self.chunks: dict[str, bytes] = {}
        self.channels: dict[str, pointer.Pointer] = {}
        self.site_serial = 0
        self.calls: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None
        self.deaf = False
        self.asked: dict[str, str] = {}
        self.client_ram: dict[str, int | None] = {}
        self.forced: dict[str, bytes | SysPxeError] = {}
        # what 'doctor' looks at; nothing of it is wrong
        self.health: dict[str, object] = {
            "time": NOW,
            "trouble": None,
            "mtu": 1500,
            "ports": [{"protocol": "udp", "port": 67, "open": True}],
            "dhcp": {
                "mode": "server",
                "age": 3,
                "error": None,
                "others": [],
            },
            "boot_files": [],
        }

    def call(
        self,
        service: str,
        argument: str | None = None,
        payload: Payload | None = None,
    ) -> bytes:
        self.calls.append((service, argument))
        stream = BytesIO()
        if payload is not None:
            payload(stream)
        content = stream.getvalue()
        forced = self.forced.get(service)
        if isinstance(forced, SysPxeError):
            raise forced
        if forced is not None:
            return forced
        handlers = {
            "syspxe.Push": self._push,
            "syspxe.Activate": self._activate,
            "syspxe.Site": self._site,
            "syspxe.Status": self._status,
            "syspxe.Releases": self._releases,
            "syspxe.Prune": self._prune,
        }
        answer = handlers[service](argument, content)
        return json.dumps(answer).encode("ascii") + b"\n"

    def _push(self, release: str | None, content: bytes) -> dict[str, object]:
        assert release is not None
        if self.cut_after is not None:
            content, self.cut_after = content[: self.cut_after], None
        stream: IO[bytes] = BytesIO(content)
        signed = frames.read_small(stream, "manifest", 1 << 21)
        wanted = manifest.parse(
            signature.opened(signed, self.public_key, "manifest")
        )
        assert wanted.release == release
        self.releases[release] = wanted
        sizes, stored = wanted.chunks(), 0
        while head := frames.read_header(stream, 1 << 30):
            assert head.name not in self.chunks, "sent twice"
            assert head.size == sizes[head.name]
            body = b"".join(frames.read_body(stream, head))
            assert hashlib.sha256(body).hexdigest() == head.name
            if not self.deaf:
                self.chunks[head.name] = body
                stored += 1
        missing = [d for d in sizes if d not in self.chunks]
        return {
            "release": release,
            "complete": not missing,
            "missing": missing,
            "stored": stored,
        }

    def _activate(
        self, channel: str | None, content: bytes
    ) -> dict[str, object]:
        sent = pointer.parse(
            signature.opened(content, self.public_key, "pointer")
        )
        assert sent.channel == channel
        old = self.channels.get(sent.channel)
        assert old is None or sent.serial > old.serial
        assert self.releases[sent.release].serial == sent.release_serial
        self.channels[sent.channel] = sent
        return {
            "channel": channel,
            "old": old.release if old else None,
            "new": sent.release,
        }

    def _site(self, argument: str | None, content: bytes) -> dict[str, object]:
        assert argument is None
        sent = site.decode(signature.opened(content, self.public_key, "site"))
        assert sent.serial > self.site_serial
        self.site_serial = sent.serial
        return {
            "serial": sent.serial,
            "clients": len(sent.site.clients),
            "profiles": len(sent.site.profiles),
        }

    def _status(
        self, argument: str | None, content: bytes
    ) -> dict[str, object]:
        assert argument is None
        assert content == b""
        return {
            "site_serial": self.site_serial or None,
            "unknown_clients": None,
            **self.health,
            "channels": {
                name: {
                    "release": p.release,
                    "serial": p.release_serial,
                    "rollback": p.rollback,
                }
                for name, p in self.channels.items()
            },
            "services": {
                "dnsmasq": {"running": True, "restarts": 0},
                "nginx": {"running": False, "restarts": 3},
            },
            "clients": [
                {
                    "client": "desk-01",
                    "mac": "52:54:00:00:00:01",
                    "release": None,
                    "stage": "fetch",
                    "bytes": 50,
                    "total": 200,
                    "seconds": 4,
                    "message": "\x1b[2Jhello",
                    "seen": NOW - 65,
                    "dom0_mib": None,
                    "pc_mib": None,
                    **self.client_ram,
                }
            ],
            "loaders": [
                {
                    "file": "snponly.efi",
                    "path": "/usr/lib/ipxe/snponly.efi",
                    "version": "ipxe 1.0\x1b[2J",
                },
                {"file": "ipxe.pxe", "path": None, "version": None},
            ],
            "asked": [
                {
                    "client": None,
                    "mac": mac,
                    "firmware": firmware,
                    "seen": NOW - 30,
                }
                for mac, firmware in self.asked.items()
            ],
            "disk": {"free": 1 << 30, "chunks": 1 << 20},
        }

    def _releases(
        self, argument: str | None, content: bytes
    ) -> dict[str, object]:
        assert argument is None
        assert content == b""
        rows = [
            {
                "release": m.release,
                "serial": m.serial,
                "created": names.format_time(m.created),
                "expires": names.format_time(m.expires),
                "bytes": sum(a.size for a in m.artifacts),
                "complete": True,
                "missing": 0,
                "channels": [],
            }
            for m in self.releases.values()
        ]
        return {"releases": rows}

    def _prune(self, argument: str | None, content: bytes) -> dict[str, object]:
        assert argument is None
        assert content == b""
        return {"releases": ["old"], "chunks": 2, "bytes": 1 << 20}
