"""What a golden image must not hold: a release is public, and cloned.

Everything here only reads. Files are looked at by name and by their first
bytes; nothing large is read whole, no link is followed.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sys_pxe.errors import SysPxeError

_HEAD = 64 << 10
_SHOWN = 20
# PEM (RFC 7468) in all its kinds, OpenSSH's and PGP's included
_PRIVATE = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY( BLOCK)?-----")
_KEY_NAME = re.compile(r"(id_[a-z0-9]+|.*\.(key|pem|p8|ppk))")
_HISTORY = re.compile(
    r"\.(bash|zsh|ash|sh|python|sqlite|mysql|psql|node_repl)_history"
    r"|\.lesshst|\.viminfo|fish_history"
)
_UNSET_ID = (b"", b"uninitialized")
# made at each boot, or left out of the image anyway
_SKIPPED = {"proc", "sys", "dev", "run", "tmp", "var/tmp"}
# packages put public test keys there
_PUBLIC = re.compile(
    r"usr/(share/doc|share/licenses|lib(64)?/python3[0-9.]*/test)"
)
_SECRET = re.compile(
    r"\s*(psk|password|secret|private-key|wep-key[0-3]|pin"
    r"|[a-z0-9-]*-password)\s*=\s*\S"
)


@dataclass(frozen=True)
class Finding:
    """A file that must not be in a release. ``path`` is seen from its root."""

    path: str
    why: str
    hint: str


@dataclass(frozen=True)
class _File:
    """A regular file that is looked at; ``name`` is relative to the tree."""

    place: Path
    name: str
    size: int

    @property
    def base(self) -> str:
        return self.name.rpartition("/")[2]

    def head(self) -> bytes:
        with open(self.place, "rb") as stream:
            return stream.read(_HEAD)


def check(tree: Path) -> None:
    """Raise SysPxeError that names every finding; return if there is none."""
    found = findings(tree)
    if not found:
        return
    lines = [f"{f.path}: {f.why}" for f in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} more")
    hints = dict.fromkeys(f"{f.path}: {f.hint}" for f in found[:_SHOWN])
    count = "1 file" if len(found) == 1 else f"{len(found)} files"
    raise SysPxeError(
        f"{tree} is not sealed, {count} must not be in a release:\n  "
        + "\n  ".join(lines),
        "\n  ".join(["clean the golden image, then build again", *hints]),
    )


def findings(tree: Path) -> list[Finding]:
    """Return what must not be in a release, in the order of the paths."""
    key_files = _crypttab_keys(tree)
    found: list[Finding] = []
    for file in _walk(tree, ""):
        if file.name in key_files:
            found.append(_finding(file, "a LUKS key file (crypttab)", _REMOVE))
            continue
        for rule in _RULES:
            finding = rule(file)
            if finding is not None:
                found.append(finding)
                break
    return sorted(found, key=lambda f: f.path)


_REMOVE = "remove it"


def _finding(file: _File, why: str, hint: str) -> Finding:
    return Finding("/" + file.name, why, hint)


def _walk(folder: Path, prefix: str) -> Iterator[_File]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            name = prefix + entry.name
            mode = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(mode.st_mode):
                if name not in _SKIPPED:
                    yield from _walk(Path(entry.path), name + "/")
            elif stat.S_ISREG(mode.st_mode) and mode.st_size:
                yield _File(Path(entry.path), name, mode.st_size)


def _machine_id(file: _File) -> Finding | None:
    if file.name not in ("etc/machine-id", "var/lib/dbus/machine-id"):
        return None
    if file.head().strip() in _UNSET_ID:
        return None
    hint = "empty it: every client makes its own"
    return _finding(file, "an identity that all clients would share", hint)


def _ssh_host_key(file: _File) -> Finding | None:
    if not re.fullmatch(r"etc/ssh/ssh_host_.*_key(\.pub)?", file.name):
        return None
    return _finding(file, "an SSH host key", _REMOVE)


def _own_key(file: _File) -> Finding | None:
    places = r"(etc/sys-pxe|var/lib/sys-pxe/key)/.*private.*"
    if not re.fullmatch(places, file.name):
        return None
    return _finding(
        file, "the signing key of sys-pxe", "keep it in the server's dom0 only"
    )


def _key_by_name(file: _File) -> Finding | None:
    if not re.fullmatch(r"(etc|root|boot)/(.*/)?[^/]*\.key", file.name):
        return None
    head = file.head()
    # random bytes, or one long word; public keys and records have more words
    binary = any(byte > 0x7E or byte < 0x09 for byte in head)
    if binary or len(head.split()) == 1:
        return _finding(file, "a key file", _REMOVE)
    return None


def _private_key(file: _File) -> Finding | None:
    if file.name.startswith("usr/") and not file.name.startswith("usr/local/"):
        # tens of thousands of files from packages: by name only
        if not re.fullmatch(_KEY_NAME, file.base):
            return None
        if _PUBLIC.match(file.name):
            return None
    if not _PRIVATE.search(file.head()):
        return None
    return _finding(file, "a private key", _REMOVE)


def _history(file: _File) -> Finding | None:
    if not re.fullmatch(_HISTORY, file.base) or file.name.startswith("usr/"):
        return None
    return _finding(file, "the history of a shell or program", _REMOVE)


def _log(file: _File) -> Finding | None:
    if not file.name.startswith("var/log/"):
        return None
    if file.base in ("README", ".gitkeep"):
        return None
    return _finding(file, "a log", "empty or remove it")


def _random_seed(file: _File) -> Finding | None:
    places = (
        *("var/lib/systemd/random-seed", "var/lib/random-seed"),
        *("var/lib/urandom/random-seed", "boot/loader/random-seed"),
    )
    if file.name not in places:
        return None
    return _finding(file, "a seed that all clients would share", _REMOVE)


def _network_secret(file: _File) -> Finding | None:
    folder = "etc/NetworkManager/system-connections/"
    if not file.name.startswith(folder):
        return None
    lines = file.head().decode("utf-8", "replace").splitlines()
    if not any(re.match(_SECRET, line) for line in lines):
        return None
    hint = "remove the connection, or its secret"
    return _finding(file, "the secret of a network connection", hint)


def _crypttab_keys(tree: Path) -> set[str]:
    """Return the key files (third field) that crypttab(5) names."""
    path = tree / "etc/crypttab"
    if path.is_symlink() or not path.is_file():
        return set()
    with open(path, "rb") as stream:
        text = stream.read(_HEAD).decode("utf-8", "replace")
    rows = [line.split() for line in text.splitlines()]
    return {
        row[2].lstrip("/")
        for row in rows
        if len(row) > 2 and not row[0].startswith("#") and row[2][0] == "/"
    }


_RULES: tuple[Callable[[_File], Finding | None], ...] = (
    *(_machine_id, _own_key, _ssh_host_key, _private_key, _key_by_name),
    *(_history, _log, _random_seed, _network_secret),
)
