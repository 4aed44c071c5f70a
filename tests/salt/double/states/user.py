"""A double of Salt's user states."""

from typing import Any

from tests.salt.double import model


def present(
    name: str,
    system: bool,
    usergroup: bool,
    home: str,
    createhome: bool,
    shell: str,
    fullname: str,
) -> dict[str, Any]:
    """Make a user as described."""
    wanted = {
        "system": system,
        "usergroup": usergroup,
        "home": home,
        "createhome": createhome,
        "shell": shell,
        "fullname": fullname,
    }
    machine = model.load()
    changes = {}
    if machine["users"].get(name) != wanted:
        changes = {name: wanted}
        machine["users"][name] = wanted
        model.save(machine)
    return {"name": name, "result": True, "changes": changes, "comment": ""}
