"""Which loaders are found in which package, and what is said of them."""

from pathlib import Path

import pytest

from sys_pxe import loaders as shared
from sys_pxe import run
from sys_pxe.agent import loaders
from sys_pxe.agent.store import Store

DEBIAN = ("undionly.kpxe", "ipxe.pxe", "snponly.efi", "ipxe.efi")
FEDORA = ("undionly.kpxe", "ipxe-snponly-x86_64.efi", "ipxe-x86_64.efi")
OWN = b"MZ\0junk\0" + b"2.0.0+ (g3f2b)\0more"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "root")
    made.prepare()
    return made


@pytest.fixture(autouse=True)
def managers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder of programs: no package manager is there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(run, "environment", lambda _: {
        "PATH": f"{folder}:/usr/bin:/bin"
    })  # fmt: skip
    for name in ("dpkg-query", "rpm"):
        program(folder, name, "exit 1")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def package(folder: Path, names: tuple[str, ...]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(OWN + name.encode())
    return folder


def install(store: Store, *folders: Path) -> list[str]:
    said: list[str] = []
    loaders.install(store, tuple(map(str, folders)), said.append)
    return said


def test_each_file_that_the_site_can_ask_for_is_looked_for() -> None:
    assert tuple(shared.SPELLINGS) == shared.FILES


def test_debians_files_are_served_under_their_names(
    store: Store, tmp_path: Path
) -> None:
    folder = package(tmp_path / "ipxe", DEBIAN)
    assert install(store, tmp_path / "none", folder) == []
    for name in DEBIAN:
        assert (store.tftp / name).read_bytes() == OWN + name.encode()
    assert loaders.installed(store)[0] == {
        "file": "undionly.kpxe",
        "path": f"{folder}/undionly.kpxe",
        "version": "iPXE 2.0.0+ (g3f2b)",
    }


def test_fedoras_names_are_known_and_its_gap_is_told(
    store: Store, tmp_path: Path
) -> None:
    (store.tftp / "ipxe.pxe").write_bytes(b"of a package that is gone")
    (said,) = install(store, package(tmp_path / "ipxe", FEDORA))
    assert said.startswith("ipxe.pxe is in none of ")
    found = (store.tftp / "snponly.efi").read_bytes()
    assert found == OWN + b"ipxe-snponly-x86_64.efi"
    assert not (store.tftp / "ipxe.pxe").exists()
    rows = loaders.installed(store)
    assert rows[1] == {"file": "ipxe.pxe", "path": None, "version": None}


def test_the_package_says_its_version(
    store: Store, tmp_path: Path, managers: Path
) -> None:
    folder = package(tmp_path / "ipxe", DEBIAN)
    program(
        managers,
        "dpkg-query",
        'case "$*" in\n'
        f'"--search {folder}/undionly.kpxe") echo "ipxe: /x";;\n'
        '*"Version} ipxe") printf "ipxe 1.0+git-5.1";;\n'
        "*) exit 1;; esac",
    )
    program(
        managers,
        "rpm",
        f'[ "$5" = "{folder}/ipxe.efi" ] && printf "ipxe-bootimgs 2-1\\001"',
    )
    install(store, folder)
    versions = [r["version"] for r in loaders.installed(store)]
    assert versions == [
        "ipxe 1.0+git-5.1", "iPXE 2.0.0+ (g3f2b)", "iPXE 2.0.0+ (g3f2b)",
        "ipxe-bootimgs 2-1?",
    ]  # fmt: skip


def test_a_loader_that_says_nothing_has_no_version(tmp_path: Path) -> None:
    for content in (b"", b"\x001.2\0", b"1.2.3", b"\x001.2.3\x80\0"):
        assert loaders.version(tmp_path / "x", content) is None


def test_an_agent_that_never_ran_has_installed_none(store: Store) -> None:
    assert loaders.installed(store) == []


def test_a_loader_that_a_release_brought_is_told_as_such(
    store: Store, tmp_path: Path
) -> None:
    install(store, package(tmp_path / "ipxe", FEDORA))
    for name in ("snponly.efi", "ipxe.pxe"):
        (store.tftp / name).write_bytes(OWN + b"signed")
    rows = {row["file"]: row for row in loaders.installed(store)}
    for name in ("snponly.efi", "ipxe.pxe"):
        assert rows[name]["path"] == loaders.SIGNED
        assert rows[name]["version"] == "iPXE 2.0.0+ (g3f2b)"
    assert rows["ipxe.efi"]["path"] == f"{tmp_path}/ipxe/ipxe-x86_64.efi"
