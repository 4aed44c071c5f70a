"""Stores are loaded by the real Qubes, where its package is installed.

It needs core-admin's ``qubes`` (with its entry points), and what it imports:
lxml, jinja2, libvirt, qubesdb, xen and qrexec, of which only the first two
have to be the real ones.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from sys_pxe.dom0 import qubes_rewrite, qubes_store, qubes_write
from sys_pxe.dom0.qubes_store import Store
from tests import qubes_drawn, qubes_stores

app = pytest.importorskip("qubes.app", exc_type=ImportError)
# not imported by name: mypy has no such package
exc = pytest.importorskip("qubes.exc", exc_type=ImportError)
etree = pytest.importorskip("lxml.etree")
EXAMPLES = 100


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    new = asyncio.new_event_loop()
    asyncio.set_event_loop(new)
    yield
    asyncio.set_event_loop(None)
    new.close()


def load(folder: Path, xml: bytes) -> Store:
    """What Qubes would save after it loaded these bytes."""
    place = folder / "qubes.xml"
    place.write_bytes(xml)
    qubes = app.Qubes(store=str(place), offline_mode=True)
    try:
        text: bytes = etree.tostring(qubes.__xml__(), encoding="utf-8")
        return qubes_store.read(text, "qubes.xml")
    finally:
        qubes.close()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(qubes_drawn.choices())
def test_qubes_loads_what_was_rewritten(
    tmp_path: Path, drawn: tuple[Store, list[str]]
) -> None:
    found, chosen = drawn
    load(tmp_path, qubes_write.write(found))
    made = qubes_rewrite.rewrite(found, chosen, "office")
    saved = load(tmp_path, made.xml)
    assert saved.pools.keys() == made.store.pools.keys()
    assert saved.domains.keys() == made.store.domains.keys()
    targets = {v.target for v in made.volumes}
    for name, one in saved.domains.items():
        volumes, mine = (
            dict(one.volumes),
            dict(made.store.domains[name].volumes),
        )
        # Qubes itself says which kernel it starts a qube with
        kernel = volumes.pop("kernel", None)
        mine.pop("kernel", None)
        assert volumes == mine
        # it reads a default kernel of "" as None, and writes that as text
        if kernel is not None and kernel.vid not in {"", "None"}:
            assert f"vm-kernels/{kernel.vid}" in targets


@pytest.mark.parametrize("name", ["netvm", "template", "default_dispvm"])
def test_qubes_does_not_load_what_dangles(tmp_path: Path, name: str) -> None:
    found = qubes_stores.golden()
    load(tmp_path, qubes_write.write(found))
    found = qubes_stores.change(found, "work", {name: "nobody"})
    with pytest.raises((exc.QubesException, KeyError)):
        load(tmp_path, qubes_write.write(found))
