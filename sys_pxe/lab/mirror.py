"""Where this machine gets Debian from, as its own apt is set up."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.errors import SysPxeError

MIRROR_VARIABLE = "SYS_PXE_MIRROR"
SUITE_VARIABLE = "SYS_PXE_SUITE"
DEFAULT_SUITE = "trixie"

_FORMAT = "$(SITE)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(LABEL)"
_LIST_PREFIX = "mirror+file:"
_LIST_MAX = 1 << 16
_PIP_KEYS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def debian_site(targets: Sequence[str]) -> str | None:
    """Return the site of Debian's main archive among apt's index targets.

    Each target is ``site|release|component|origin|label``. A release's first
    archive is preferred to its updates, which other hosts may serve.
    """
    found = []
    for target in targets:
        words = target.split("|")
        if len(words) == 5 and words[2:] == ["main", "Debian", "Debian"]:
            found.append(("-" in words[1], words[0]))
    return min(found)[1] if found else None


def first_of_list(text: str) -> str | None:
    """Return the first address of an apt mirror list (apt-transport-mirror)."""
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if words:
            return words[0]
    return None


def debian_mirror(environ: Mapping[str, str] = os.environ) -> str:
    """Return the mirror to build from: SYS_PXE_MIRROR, or else apt's own."""
    if environ.get(MIRROR_VARIABLE):
        return environ[MIRROR_VARIABLE]
    hint = f"run apt-get update, or set {MIRROR_VARIABLE} to a Debian mirror"
    listed = run.run(
        ["apt-get", "indextargets", "--format", _FORMAT], hint=hint
    )
    site = debian_site(listed.stdout.decode().splitlines())
    if site is not None and site.startswith(_LIST_PREFIX):
        path = Path("/" + site.removeprefix(_LIST_PREFIX).lstrip("/"))
        site = first_of_list(files.read_capped(path, _LIST_MAX).decode())
    if site is None:
        raise SysPxeError("apt knows no mirror of Debian's main archive", hint)
    return site


def suite(environ: Mapping[str, str] = os.environ) -> str:
    """Return the Debian suite of the golden image: SYS_PXE_SUITE or trixie."""
    return environ.get(SUITE_VARIABLE) or DEFAULT_SUITE


def proxies(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the proxy variables that downloads need on this machine."""
    found = {name: environ[name] for name in _PROXIES if environ.get(name)}
    if "http_proxy" not in found:
        shown = run.run(
            ["apt-config", "dump", "--format", "%v", "Acquire::http::Proxy"]
        )
        proxy = shown.stdout.decode().strip()
        if proxy and proxy != "DIRECT":
            found["http_proxy"] = proxy
    return found


def python_index(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that name the Python index this machine uses.

    They are those of pip's configuration; none where it has its default.
    """
    argv = [sys.executable, "-m", "pip", "config", "list"]
    found = parse_pip(run.run(argv, check=False).stdout.decode())
    given = {name: environ[name] for name in _PIP_KEYS if name in environ}
    return {**found, **given}


def parse_pip(listed: str) -> dict[str, str]:
    """Return variables for the lines ``global.KEY='VALUE'`` about the index."""
    found = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        word = key.rpartition(".")[2].upper().replace("-", "_")
        if f"PIP_{word}" in _PIP_KEYS:
            found[f"PIP_{word}"] = value.strip("'\"")
    return found
