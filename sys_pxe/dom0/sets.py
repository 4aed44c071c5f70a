"""The sets of qubes of a release: one for each choice that the site makes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files, names, plan
from sys_pxe.document import DOCUMENT_MAX
from sys_pxe.dom0 import (
    qubes_memory,
    qubes_rewrite,
    qubes_store,
    seed,
    volumes,
)
from sys_pxe.dom0.progress import Reporter
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import QubeSet, Role
from sys_pxe.site import Site

STORE = "var/lib/qubes/qubes.xml"
STORE_MAX = 16 << 20
_NAME_MAX = names.NAME_MAX - len(f"{Role.VOLUMES}-")


@dataclass(frozen=True)
class Wanted:
    """A set that is to be built: its name and the qubes that were chosen."""

    name: str
    qubes: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """Where a set is built from and to; ``level`` is zstd's."""

    tree: Path
    folder: Path
    work: Path
    level: int


def wanted(site: Site) -> tuple[Wanted, ...]:
    """Return the sets that the profiles in use need, in the order of names.

    Profiles with the same qubes share one, which has the name of the first.
    Raises InvalidInput for a profile whose name is too long for a set's.
    """
    found: dict[tuple[str, ...], Wanted] = {}
    for name in site.used_profiles:
        qubes = tuple(sorted(plan.settings(site, name).qubes))
        if not qubes or qubes in found:
            continue
        if len(name) > _NAME_MAX:
            raise InvalidInput(
                f"site.yaml: profiles.{name}: a profile with qubes has a name "
                f"of at most {_NAME_MAX} characters",
                "its set of qubes has the profile's name",
            )
        found[qubes] = Wanted(name, qubes)
    return tuple(found.values())


def build_all(
    sets: tuple[Wanted, ...], job: Job, reporter: Reporter
) -> Iterator[QubeSet]:
    """Build the volumes and the store of each set into ``job.folder``.

    Raises InvalidInput for a choice that the golden image cannot give,
    SysPxeError where a volume cannot be read or written.
    """
    if not sets:
        return
    store = qubes_store.read(_store(job.tree), f"/{STORE}")
    for one in sets:
        reporter.step(f"    set {one.name}: {', '.join(one.qubes)}")
        yield _build(store, one, job, reporter)


def _store(tree: Path) -> bytes:
    try:
        return files.read_capped(tree / STORE, STORE_MAX)
    except FileNotFoundError:
        raise SysPxeError(
            f"{tree} has no {STORE}, and profiles of the site choose qubes",
            "build from a Qubes OS that has them, or take the qubes out of "
            "site.yaml",
        ) from None


def _build(
    store: qubes_store.Store, one: Wanted, job: Job, reporter: Reporter
) -> QubeSet:
    made = qubes_rewrite.rewrite(store, one.qubes, one.name)
    for dropped in made.dropped_devices:
        reporter.step(f"    left out, each PC has its own: {dropped}")
    memory = qubes_memory.need(made.store)
    found = QubeSet(one.name, memory.boot_mib, memory.all_mib, one.qubes)
    with volumes.opened(
        made.volumes, job.tree, reporter, made.folders
    ) as items:
        seed.build(
            job.folder / found.artifact(Role.VOLUMES),
            items,
            made.folders,
            job.work,
            job.level,
            reporter,
            gid=files.group_number(job.tree / "etc/group", "qubes"),
        )
    content = {
        "qubes.xml": made.xml.decode("utf-8"),
        "autostart": list(made.autostart),
    }
    document = json.dumps(content, sort_keys=True).encode("ascii")
    if len(document) > DOCUMENT_MAX:
        raise InvalidInput(
            f"set {one.name}: its store has {len(document)} bytes (expected at "
            f"most {DOCUMENT_MAX})",
            "choose fewer qubes in the profile",
        )
    files.write(job.folder / found.artifact(Role.QUBES), document)
    return found
