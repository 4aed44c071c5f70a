"""Signed loaders of a release take the place of the distribution's."""

from dataclasses import replace
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.agent import signed
from sys_pxe.agent.store import Store
from sys_pxe.manifest import Artifact, Manifest, Role
from tests import documents


def with_loader(
    number: int, *names: str, step: int = 50, role: Role = Role.LOADER
) -> Manifest:
    made = documents.release(f"r{number}", number)
    more = tuple(loader(f"{n}", number, step, role) for n in names)
    return replace(made, artifacts=(*made.artifacts[:3], *more))


def loader(name: str, number: int, step: int, role: Role) -> Artifact:
    made = documents.artifact(role, name, 50, step)
    digests = [documents.sha(f"{name} {number} {i}") for i in range(50 // step)]
    return replace(made, digests=tuple(digests))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.prepare()
    for name in ("snponly.efi", "undionly.kpxe"):
        files.write(made.tftp / name, b"the distribution's")
    for number in (3, 4):
        digest = documents.sha(f"snponly.efi {number} 0")
        files.write(made.chunks / digest, f"signed {number}".encode())
    return made


def test_the_newest_release_gives_the_loader(store: Store) -> None:
    old, new = (with_loader(n, "snponly.efi") for n in (3, 4))
    for releases in ((new, old), (old, new), (new, documents.release("r5", 5))):
        signed.put(store, releases)
        assert (store.tftp / "snponly.efi").read_bytes() == b"signed 4"
    assert (store.tftp / "undionly.kpxe").read_bytes() == b"the distribution's"


def test_without_one_the_folder_stays_as_it_is(store: Store) -> None:
    signed.put(store, [documents.release()])
    signed.put(store, [])
    assert (store.tftp / "snponly.efi").read_bytes() == b"the distribution's"


@pytest.mark.parametrize(
    "release",
    [
        with_loader(3, "undionly.kpxe"),
        with_loader(3, "dnsmasq.conf"),
        with_loader(3, "snponly.efi", step=25),
        with_loader(3, "snponly.efi", role=Role.DOM0_ROOT),
    ],
)
def test_nothing_else_gets_into_the_folder(
    store: Store, release: Manifest
) -> None:
    assert signed.served([release]) == ()
    signed.put(store, [release])
    assert sorted(p.name for p in store.tftp.iterdir()) == [
        *("snponly.efi", "undionly.kpxe"),
    ]
