"""Qubes' own store in a client: qubes.xml, folders, what starts at boot."""

import json
import stat
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.client import store
from sys_pxe.client.store import Store
from sys_pxe.errors import InvalidInput


def document(**changes: object) -> bytes:
    data = {"qubes.xml": "<qubes/>", "autostart": ["sys-net", "work"]}
    return json.dumps({**data, **changes}).encode()


def test_the_artifact_is_read() -> None:
    found = store.parse(document())
    assert found == Store("<qubes/>", ("sys-net", "work"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "expected a table"),
        (document(more=1), "more: unknown key"),
        (document(autostart=["../x"]), "is not the name of a qube"),
        (document(autostart=["a/../../etc/x"]), "is not the name of a qube"),
        (document(autostart="work"), "not a list of texts"),
        (json.dumps({"autostart": []}).encode(), r"qubes\.xml: missing"),
        (b'{"autostart": [], "autostart": [], "qubes.xml": ""}', "twice"),
        (document(**{"qubes.xml": "x" * (2 << 20)}), "larger than"),
    ],
)
def test_what_is_wrong_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        store.parse(text)


@pytest.fixture
def places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path, Path]:
    """Return a pool, a root with two folders for it, and an upper layer."""
    owners: list[tuple[str, int, int]] = []
    monkeypatch.setattr(
        files, "set_owner", lambda p, u, g: owners.append((p.name, u, g))
    )
    root = tmp_path / "root"
    for name in ("backup", "appvms"):
        files.make_folder(root / "var/lib/qubes" / name)
    (root / "var/lib/qubes/backup").chmod(0o2770)
    files.make_folder(root / "etc")
    files.write(root / "etc/group", b"root:x:0:\nqubes:x:98:user\n")
    (root / "var/lib/qubes/link").symlink_to("/etc")
    for name in ("pool", "upper"):
        files.make_folder(tmp_path / name)
    return tmp_path / "pool", root, tmp_path / "upper"


def test_the_store_is_written_where_qubesd_looks_for_it(
    places: tuple[Path, Path, Path],
) -> None:
    pool, root, upper = places
    store.write(Store("<qubes/>", ("work",)), pool, root, upper)
    assert (pool / "qubes.xml").read_text() == "<qubes/>"
    assert stat.S_IMODE((pool / "qubes.xml").stat().st_mode) == 0o660
    # the folders that the pool is mounted over, with their modes; no links
    assert sorted(p.name for p in pool.iterdir()) == [
        *("appvms", "backup", "qubes.xml")
    ]
    assert stat.S_IMODE((pool / "backup").stat().st_mode) == 0o2770
    wants = upper / "etc/systemd/system/multi-user.target.wants"
    (link,) = wants.iterdir()
    assert link.name == "qubes-vm@work.service"
    assert str(link.readlink()) == "/usr/lib/systemd/system/qubes-vm@.service"


def test_a_root_without_qubes_folder_is_fine(
    places: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    pool, _, upper = places
    store.write(Store("<qubes/>", ()), pool, tmp_path / "bare", upper)
    assert (pool / "qubes.xml").is_file()
    assert not list(upper.rglob("qubes-vm*"))
