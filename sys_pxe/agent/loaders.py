"""The loaders in the TFTP folder: copied from the distribution's packages.

What was taken from where, and its version, is kept for the status.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from sys_pxe import files, loaders, names, run
from sys_pxe.agent.store import Store
from sys_pxe.errors import SysPxeError

FOLDERS = tuple(f"/{folder}" for folder in loaders.FOLDERS)
# iPXE's own version, a text of its own in what is not compressed
_OWN = re.compile(rb"\0([0-9]+\.[0-9]+\.[0-9]+(?:[+-][ -~]{1,60})?)\0")
# where a loader is from that no package has
SIGNED = "a release, signed"
_VERSION_MAX = 100
_STATE_MAX = 16384
_TIMEOUT = 30.0

Log = Callable[[str], None]


@dataclass(frozen=True)
class Loader:
    """A file that firmware is given; ``path`` is None when there is none.

    ``version`` is package and version, or what the loader says of itself.
    ``sha256`` is that of the file as it was in the package.
    """

    file: str
    path: str | None
    version: str | None
    sha256: str = ""


def install(store: Store, folders: tuple[str, ...], log: Log) -> None:
    """Copy iPXE's first stages into the TFTP folder, and note which."""
    found = []
    for name, spellings in loaders.SPELLINGS.items():
        sources = [Path(f, s) for f in folders for s in spellings]
        source = next((s for s in sources if s.is_file()), None)
        target = store.tftp / name
        if source is None:
            log(f"{name} is in none of {', '.join(folders)}")
            # one of a package that is gone would be served for ever
            files.remove(target)
            found.append(Loader(name, None, None))
            continue
        content = source.read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            files.copy(source, target)
        digest = hashlib.sha256(content).hexdigest()
        said = version(source, content)
        found.append(Loader(name, str(source), said, digest))
    text = json.dumps([asdict(loader) for loader in found])
    files.write(store.run / "loaders", text.encode("ascii") + b"\n")


def installed(store: Store) -> list[dict[str, str | None]]:
    """Return file, path and version of each loader, as the status says them.

    One that a release has brought, signed by the owner, is told from the
    package's by its bytes.
    """
    try:
        content = files.read_capped(store.run / "loaders", _STATE_MAX)
    except FileNotFoundError:
        return []
    return [_row(store, Loader(**row)) for row in json.loads(content)]


def _row(store: Store, loader: Loader) -> dict[str, str | None]:
    path, said = loader.path, loader.version
    served = store.tftp / loader.file
    if served.is_file():
        content = served.read_bytes()
        if hashlib.sha256(content).hexdigest() != loader.sha256:
            path, said = SIGNED, _own(content)
    return {"file": loader.file, "path": path, "version": said}


def _own(content: bytes) -> str | None:
    """Return the version that a loader says of itself."""
    found = _OWN.search(content)
    return f"iPXE {found[1].decode('ascii')}" if found else None


def version(source: Path, content: bytes) -> str | None:
    """Return the package and version of a file, else the loader's own."""
    said = _debian(source) or _fedora(source) or _own(content)
    return said and names.printable(said, _VERSION_MAX)


def _said(*argv: str) -> str | None:
    """Return what a package manager says; None where it is none, or knows
    nothing of the file."""
    try:
        done = run.run(argv, check=False, timeout=_TIMEOUT)
    except SysPxeError:
        return None
    said = done.stdout.decode("utf-8", "replace").strip()
    return said if done.status == 0 and said else None


def _debian(source: Path) -> str | None:
    owner = _said("dpkg-query", "--search", str(source))
    if owner is None:
        return None
    package = owner.partition(":")[0]
    form = "--showformat=${Package} ${Version}"
    return _said("dpkg-query", "--show", form, package)


def _fedora(source: Path) -> str | None:
    form = "%{NAME} %{VERSION}-%{RELEASE}"
    return _said("rpm", "--query", "--queryformat", form, "--file", str(source))
