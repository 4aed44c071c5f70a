"""Finds what the root of a release must not hold: it is public, and cloned.

Everything here only reads. Files are looked at by name and by their first
bytes; nothing large is read whole, no link is followed.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sys_pxe import names
from sys_pxe.dom0 import rooted

_HEAD = 64 << 10
_SHADOW_MAX = 1 << 20
# PEM (RFC 7468) in all its kinds, OpenSSH's and PGP's included
_PRIVATE = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY( BLOCK)?-----")
_KEY_NAME = re.compile(r"(id_[a-z0-9]+|.*\.(key|pem|p8|ppk))", re.DOTALL)
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
# a key of YAML in block or flow style, quoted or not
_PASSPHRASE = re.compile(rb"""passphrase_text["']?\s*:""")
# the first bytes of LUKS1 and LUKS2 (cryptsetup's on-disk format)
_LUKS = b"LUKS\xba\xbe"
# mkswap's mark, or that of an image of hibernation, at the end of a page
_SWAP = (b"SWAPSPACE2", b"SWAP-SPACE", b"S1SUSPEND\0")
_SWAP_AT = 4096 - 10
# the volumes of Qubes' pools of files, wherever such a pool lies
_VOLUME = re.compile(
    r"(.*/)?(appvms|vm-templates|servicevms)/[^/]+/[^/]+\.img[^/]*", re.DOTALL
)
# crypt(5), behind the ! of a locked account
_HASH = re.compile(r"!*(\$.+|_.{19}|[./0-9A-Za-z]{13})")


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

    @property
    def packaged(self) -> bool:
        """Whether it lies where only packages put files."""
        inside = self.name.startswith("usr/")
        return inside and not self.name.startswith("usr/local/")

    @cached_property
    def head(self) -> bytes:
        """Its first bytes, read once for all rules."""
        with open(self.place, "rb") as stream:
            return stream.read(_HEAD)


def findings(tree: Path) -> list[Finding]:
    """Return what must not be in a release, in the order of the paths."""
    key_files = {path.lstrip("/") for path in crypttab_keys(tree)}
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


def password_users(tree: Path) -> list[str]:
    """Return the users whose password hash is in shadow(5), escaped."""
    text = _text(tree, "etc/shadow", _SHADOW_MAX)
    rows = [line.split(":") for line in text.splitlines()]
    return [
        names.printable(row[0], 32)
        for row in rows
        if len(row) > 1 and re.fullmatch(_HASH, row[1])
    ]


def personal_files(tree: Path) -> dict[str, int]:
    """Return how many files people keep, by home; hidden ones do not count.

    The homes are in order and relative to the tree; those without are left out.
    """
    with rooted.root(tree) as root:
        users = rooted.listed(root, "home") if _is_folder(root, "home") else []
        homes = [*(f"home/{user}" for user in users), "root"]
        homes = [home for home in homes if _is_folder(root, home)]
    found = dict.fromkeys(homes, 0)
    for home in homes:
        with os.scandir(tree / home) as entries:
            shown = [e for e in entries if not e.name.startswith(".")]
        for entry in shown:
            if entry.is_dir(follow_symlinks=False):
                inner = _walk(Path(entry.path), f"{home}/{entry.name}/")
                found[home] += sum(1 for _ in inner)
            else:
                found[home] += entry.is_file(follow_symlinks=False)
    return {home: count for home, count in found.items() if count}


def _is_folder(root: int, path: str) -> bool:
    # not behind a link: what lies there is found where it is
    return rooted.resolve(root, path) == path and rooted.is_folder(root, path)


def crypttab_keys(tree: Path) -> list[str]:
    """Return the paths of key files (third field) that crypttab(5) names."""
    text = _text(tree, "etc/crypttab", _HEAD)
    rows = [line.split() for line in text.splitlines()]
    return [
        row[2]
        for row in rows
        if len(row) > 2 and not row[0].startswith("#") and row[2][0] == "/"
    ]


def _text(tree: Path, name: str, limit: int) -> str:
    """Return the first bytes of a file; none, or no regular one, is ""."""
    with rooted.root(tree) as root:
        content = rooted.read(root, name, limit)
    return content.decode("utf-8", "surrogateescape")


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
    if file.head.strip() in _UNSET_ID:
        return None
    hint = "empty it: every client makes its own"
    return _finding(file, "an identity that all clients would share", hint)


def _ssh_host_key(file: _File) -> Finding | None:
    if not re.fullmatch(r"etc/ssh/ssh_host_.*_key(\.pub)?", file.name):
        return None
    return _finding(file, "an SSH host key", _REMOVE)


def _own_state(file: _File) -> Finding | None:
    places = r"(etc/sys-pxe|var/lib/sys-pxe/key)/.*private.*"
    if re.fullmatch(places, file.name, re.DOTALL):
        hint = "keep it in the server's dom0 only"
        return _finding(file, "the signing key of sys-pxe", hint)
    if not file.name.startswith("var/lib/sys-pxe/"):
        return None
    return _finding(file, "the server's own state of sys-pxe", _REMOVE)


def _volume(file: _File) -> Finding | None:
    if not re.fullmatch(_VOLUME, file.name) or file.packaged:
        return None
    hint = "remove it; a set of qubes carries what clients need"
    return _finding(file, "a volume of a qube", hint)


def _disk(file: _File) -> Finding | None:
    """Find what lies in files but belongs on disks: LUKS headers, swap."""
    if file.packaged:
        return None
    if file.head.startswith(_LUKS):
        return _finding(file, "a LUKS header or volume", _REMOVE)
    if file.head[_SWAP_AT : _SWAP_AT + 10] in _SWAP:
        return _finding(file, "swap, which holds parts of memory", _REMOVE)
    return None


def _key_by_name(file: _File) -> Finding | None:
    gnupg = r"(.*/)?\.gnupg/(private-keys-v1\.d/[^/]*\.key|secring\.gpg)"
    if re.fullmatch(gnupg, file.name, re.DOTALL):
        return _finding(file, "a private key of GnuPG", _REMOVE)
    place = r"(etc|root|boot)/(.*/)?[^/]*\.key"
    if not re.fullmatch(place, file.name, re.DOTALL):
        return None
    head = file.head
    # random bytes, or one long word; public keys and records have more words
    binary = any(byte > 0x7E or byte < 0x09 for byte in head)
    if binary or len(head.split()) == 1:
        return _finding(file, "a key file", _REMOVE)
    return None


def _private_key(file: _File) -> Finding | None:
    if file.packaged:
        # tens of thousands of files from packages: by name only
        if not re.fullmatch(_KEY_NAME, file.base):
            return None
        if _PUBLIC.match(file.name):
            return None
    if not _PRIVATE.search(file.head):
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
    folders = (
        "etc/NetworkManager/system-connections/",
        "etc/wpa_supplicant/",
    )
    if not file.name.startswith(folders):
        return None
    lines = file.head.decode("utf-8", "replace").splitlines()
    if not any(re.match(_SECRET, line) for line in lines):
        return None
    hint = "remove the connection, or its secret"
    return _finding(file, "the secret of a network connection", hint)


def _backup_passphrase(file: _File) -> Finding | None:
    """Find profiles of Qubes' backups, and copies that an editor left."""
    if not file.name.startswith("etc/qubes/backup/"):
        return None
    if not _PASSPHRASE.search(file.head):
        return None
    hint = "remove it, or let it name a qube: passphrase_vm"
    return _finding(file, "the passphrase of a backup", hint)


_RULES: tuple[Callable[[_File], Finding | None], ...] = (
    *(_machine_id, _own_state, _ssh_host_key, _volume, _private_key),
    *(_key_by_name, _history, _log, _random_seed, _network_secret, _disk),
    _backup_passphrase,
)
