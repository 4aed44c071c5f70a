"""Seals the root of a release: the table of rules, then the check for secrets.

The golden image itself is never changed: the rules are applied to an overlay.
Links in the image are taken as a client will take them, inside of its root.
"""

import fnmatch
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sys_pxe import files
from sys_pxe.dom0 import mounts, rooted, suspects
from sys_pxe.dom0.seal_rules import RULES, Action, Rule
from sys_pxe.dom0.squash import EMPTIED
from sys_pxe.errors import InvalidInput, SysPxeError

OVERLAY = "sealed"
_SHOWN = 20
_MAKING = (Action.REPLACE, Action.MASK)
_NOWHERE = "/dev/null"
# where a link must not lead the rules for another place: the system would break
_SYSTEM = {"usr", "etc", "boot", "bin", "sbin", "lib", "lib64"}


@contextmanager
def sealed(tree: Path, work: Path) -> Iterator[Path]:
    """Yield the root of a release: ``tree`` with the rules applied.

    Needs root. ``tree`` stays as it is; changes land in ``work``, a folder that
    must not lie on an overlay, and are dropped at the end. Raises SysPxeError
    when it cannot be mounted or sealed. :func:`check` is up to the caller, who
    may add to the root first.
    """
    place = work / OVERLAY
    try:
        with mounts.overlaid(tree, work, OVERLAY) as merged:
            apply(merged)
            yield merged
    finally:
        # not the folder itself: there could still be mounts in it
        for part in (mounts.UPPER, mounts.WORK):
            files.remove(place / part)


def check(root: Path) -> None:
    """Raise SysPxeError that names every secret; return if there is none."""
    found = suspects.findings(root)
    if not found:
        return
    names = [_shown(f.path) for f in found[:_SHOWN]]
    pairs = list(zip(names, found, strict=False))
    lines = [f"{name}: {f.why}" for name, f in pairs]
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} more")
    hints = dict.fromkeys(f"{name}: {f.hint}" for name, f in pairs)
    count = "1 file" if len(found) == 1 else f"{len(found)} files"
    raise SysPxeError(
        f"{count} must not be in a release:\n  " + "\n  ".join(lines),
        "\n  ".join(["clean the golden image, then build again", *hints]),
    )


def notices(root: Path) -> list[str]:
    """Return what may be in a release, but its administrator has to know."""
    told = []
    if users := suspects.password_users(root):
        told.append(
            "/etc/shadow: everybody on the LAN can read the password hash of "
            f"{', '.join(users)}; people log in with it, so let it be a long "
            "password that is used nowhere else"
        )
    for home, count in suspects.personal_files(root).items():
        files_there = "1 file" if count == 1 else f"{count} files"
        told.append(
            f"{_shown('/' + home)}: everybody on the LAN can read the "
            f"{files_there} in it, each client gets a copy"
        )
    return told


def apply(root: Path) -> list[str]:
    """Apply all rules to a tree, which is changed; return what was done.

    A second time does nothing. Raises SysPxeError for a link on the way that
    would lead a rule into the system's own folders, and for a failed change.
    """
    done = []
    with rooted.root(root) as fd:
        # before their names are gone with crypttab
        for key in suspects.crypttab_keys(root):
            if (path := _key_file(fd, key)) and _remove_at(fd, path):
                done.append(
                    f"remove {_shown('/' + path)}: a key file (crypttab)"
                )
        for rule in RULES:
            for path in _places(fd, rule.path):
                if _applied(fd, rule, path):
                    what = f"{rule.action.value} {_shown('/' + path)}"
                    done.append(f"{what}: {rule.reason}")
    return done


def _shown(path: str) -> str:
    """Return a path for a terminal; its name may be anybody's choice."""
    return path if path.isprintable() else ascii(path)[1:-1]


def _key_file(root: int, key: str) -> str | None:
    path = rooted.resolve(root, key)
    if not path or _each_boot(path):
        return None
    # a package's file is no secret: what a keyscript takes, crypttab(5)
    packaged = path.startswith("usr/") and not path.startswith("usr/local/")
    if packaged or not stat.S_ISREG(rooted.kind(root, path)):
        return None
    return path


def _places(root: int, pattern: str) -> list[str]:
    """Return the paths that a pattern names; without wildcards, itself."""
    paths = [""]
    for part in pattern.split("/"):
        if not any(c in part for c in "*?["):
            paths = [_join(path, part) for path in paths]
            continue
        paths = [
            _join(path, name)
            for path in paths
            if (real := _folder(root, path)) is not None
            for name in rooted.listed(root, real)
            if fnmatch.fnmatchcase(name, part)
        ]
    return paths


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _folder(root: int, path: str) -> str | None:
    """Return the folder that a path of the rules means; None: no folder."""
    real = rooted.resolve(root, path)
    if real is None or not rooted.is_folder(root, real):
        return None
    if real == path:
        return real
    if _each_boot(real):
        return None
    top, _, below = real.partition("/")
    foreign = top in _SYSTEM and not path.startswith(top + "/")
    if not below or foreign or real == "var/lib":
        raise SysPxeError(
            f"{_shown('/' + path)} is, or lies behind, a link to "
            f"{_shown('/' + real)}: it cannot be sealed",
            "make it a folder of its own in the golden image",
        )
    return real


def _each_boot(path: str) -> bool:
    return any(path == e or path.startswith(e + "/") for e in EMPTIED)


def _applied(root: int, rule: Rule, path: str) -> bool:
    """Apply a rule to one place; return whether that changed anything."""
    try:
        parent, _, name = path.rpartition("/")
        if rule.action in _MAKING:
            real: str | None = _made_folder(root, parent)
        else:
            real = _folder(root, parent)
        if real is None:
            return False
        place = _join(real, name)
        linked = stat.S_ISLNK(rooted.kind(root, place))
        if linked and rule.action in (Action.EMPTY, Action.CLEAR):
            # of links only those to folders count
            real = _folder(root, path)
            if real is None:
                return False
            real, _, name = real.rpartition("/")
        with rooted.opened(root, real) as at, _same_time(at):
            return _ACTIONS[rule.action](at, name, rule)
    except (OSError, InvalidInput) as error:
        raise SysPxeError(
            f"{_shown('/' + path)} cannot be sealed: {error}"
        ) from None


def _made_folder(root: int, path: str) -> str:
    """Return a folder that is made if it is missing."""
    real = _folder(root, path)
    if real is not None:
        return real
    parent, _, name = path.rpartition("/")
    real = _made_folder(root, parent)
    with rooted.opened(root, real) as at, _same_time(at):
        time = os.fstat(at).st_mtime_ns
        if _seen(at, name) is not None:
            raise SysPxeError(
                f"{_shown('/' + path)} is not a folder, nor a link to one "
                "inside of the golden image",
                "make it a folder",
            )
        files.new_folder_at(at, name)
        files.set_time(at, time, name)
    return _join(real, name)


@contextmanager
def _same_time(at: int) -> Iterator[None]:
    """Leave a folder's times as they are: equal trees give equal images."""
    before = os.fstat(at).st_mtime_ns
    yield
    if os.fstat(at).st_mtime_ns != before:
        files.set_time(at, before)


def _seen(at: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _remove_at(root: int, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    with rooted.opened(root, folder) as at, _same_time(at):
        return _remove(at, name)


def _remove(at: int, name: str, _: Rule | None = None) -> bool:
    if _seen(at, name) is None:
        return False
    files.remove_at(at, name)
    return True


def _empty(at: int, name: str, _: Rule) -> bool:
    seen = _seen(at, name)
    if seen is None:
        return False
    if stat.S_ISDIR(seen.st_mode):
        with rooted.opened(at, name) as inner, _same_time(inner):
            names = os.listdir(inner)
            for one in names:
                files.remove_at(inner, one)
        return bool(names)
    if stat.S_ISREG(seen.st_mode) and seen.st_size == 0:
        return False
    # a new file, because the old one may have other names
    files.remove_at(at, name)
    files.new_at(at, name, b"", stat.S_IMODE(seen.st_mode))
    files.set_time(at, seen.st_mtime_ns, name)
    return True


def _clear(at: int, name: str, rule: Rule) -> bool:
    seen = _seen(at, name)
    if seen is None:
        return False
    if not stat.S_ISDIR(seen.st_mode):
        return _remove(at, name)
    with rooted.opened(at, name) as inner, _same_time(inner):
        # all of them, not up to the first that changes
        changed = [_clear(inner, one, rule) for one in os.listdir(inner)]
    return any(changed)


def _replace(at: int, name: str, rule: Rule) -> bool:
    seen = _seen(at, name)
    if (
        seen is not None
        and stat.S_ISREG(seen.st_mode)
        and stat.S_IMODE(seen.st_mode) == rule.mode
        and files.read_at(at, name, len(rule.content) + 1) == rule.content
    ):
        return False
    time = os.fstat(at).st_mtime_ns
    _remove(at, name)
    files.new_at(at, name, rule.content, rule.mode)
    files.set_time(at, time, name)
    return True


def _mask(at: int, name: str, _: Rule) -> bool:
    seen = _seen(at, name)
    linked = seen is not None and stat.S_ISLNK(seen.st_mode)
    if linked and os.readlink(name, dir_fd=at) == _NOWHERE:
        return False
    time = os.fstat(at).st_mtime_ns
    _remove(at, name)
    files.new_link_at(at, name, _NOWHERE)
    files.set_time(at, time, name)
    return True


_ACTIONS: dict[Action, Callable[[int, str, Rule], bool]] = {
    Action.REMOVE: _remove,
    Action.EMPTY: _empty,
    Action.CLEAR: _clear,
    Action.REPLACE: _replace,
    Action.MASK: _mask,
}
