"""A double of Salt's service states: it counts how often a unit was started."""

from typing import Any

from tests.salt.double import model

Return = dict[str, Any]


def running(name: str) -> Return:
    """Start a unit that does not run."""
    machine = model.load()
    if name in machine["services"]:
        return _return(name, {})
    machine["services"][name] = 1
    model.save(machine)
    return _return(name, {name: True})


def mod_watch(name: str, sfun: str, **_low: Any) -> Return:
    """Restart a unit because of what it watches."""
    assert sfun == "running"
    machine = model.load()
    machine["services"][name] += 1
    model.save(machine)
    return _return(name, {name: True})


def _return(name: str, changes: Return) -> Return:
    return {"name": name, "result": True, "changes": changes, "comment": ""}
