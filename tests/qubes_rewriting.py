"""Rewriting a golden PC's store, and stores with one volume changed."""

from dataclasses import replace
from pathlib import Path

from sys_pxe.dom0 import qubes_rewrite
from sys_pxe.dom0.qubes_rewrite import Rewritten
from sys_pxe.dom0.qubes_store import Store
from tests.qubes_stores import put

REAL = Path(__file__).parent / "unit/fixtures/qubes/4.3.xml"
KERNEL = "6.12.1-1.fc41"


def rewrite(found: Store, *chosen: str) -> Rewritten:
    return qubes_rewrite.rewrite(found, chosen, "office")


def volume(found: Store, qube: str, name: str, **changes: object) -> Store:
    """The store with one volume of a qube changed."""
    one = found.domains[qube]
    new = replace(one.volumes[name], **changes)  # type: ignore[arg-type]
    return put(found, replace(one, volumes={**one.volumes, name: new}))
