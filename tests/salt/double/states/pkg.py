"""A double of Salt's pkg states: it remembers what would be installed."""

from typing import Any

from tests.salt.double import model


def installed(
    name: str, pkgs: list[str], install_recommends: bool
) -> dict[str, Any]:
    """Install packages, each named once."""
    if not all(isinstance(one, str) for one in pkgs):
        raise TypeError(f"pkgs: {pkgs}")
    machine = model.load()
    new = sorted(set(pkgs) - set(machine["packages"]))
    machine["packages"] += new
    model.save(machine)
    changes = {one: {"old": "", "new": "1"} for one in new}
    return {"name": name, "result": True, "changes": changes, "comment": ""}
