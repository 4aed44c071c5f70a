"""A double of Qubes' qvm states (mgmt-salt-dom0-qvm 4.3.6): strict, traps too.

What test=True and the other oddities do here is what was seen of the real ones.
"""

import copy
from typing import Any

from tests.salt.double import model

Return = dict[str, Any]
PREFS: dict[str, type] = {
    "template": str,
    "virt-mode": str,
    "netvm": str,
    "default-dispvm": str,
    "default_dispvm": str,
    "memory": int,
    "maxmem": int,
    "autostart": bool,
    "include-in-backups": bool,
}
NO_QUBE = ("netvm", "default_dispvm")
LABELS = ("red", "orange", "yellow", "green", "gray", "black")


def _testing() -> bool:
    # Salt puts the name into this module
    return bool(globals()["__opts__"]["test"])


def _return(
    name: str,
    changes: Return | None = None,
    fault: str = "",
    comment: str = "",
) -> Return:
    ok = not fault
    result: bool | None = (None if _testing() else True) if ok else False
    return {
        "name": name,
        "result": result,
        "changes": changes or {},
        "comment": fault or comment,
    }


def _missing(name: str) -> Return:
    return _return(name, fault="Virtual Machine does not exist!")


def template_installed(
    name: str, fromrepo: str | None = None, pool: str | None = None
) -> Return:
    """Install a template with qvm-template, unless it is there."""
    machine = model.load()
    found = machine["qubes"].get(name)
    if found and found["klass"] == "TemplateVM":
        return _return(name, comment=f"Template {name} already installed")
    if _testing():
        return _return(name, {"new": name})
    if name not in machine["can_be_installed"]:
        return _return(name, fault=f"Failed to install template {name}")
    machine["qubes"][name] = model.qube("TemplateVM", label="black")
    model.save(machine)
    return _return(name, {"new": {"name": name}})


def clone(name: str, source: str, flags: list[str] | None = None) -> Return:
    """Clone a qube, unless there is one of that name."""
    machine = model.load()
    if name in machine["qubes"]:
        return _return(name, comment=f"'{name}' already exists.")
    if source not in machine["qubes"]:
        return _missing(source)
    if not _testing():
        machine["qubes"][name] = copy.deepcopy(machine["qubes"][source])
        model.save(machine)
    # 4.3.6 reports no changes of a clone
    return _return(name)


def absent(name: str, flags: list[str] | None = None) -> Return:
    """Shut a qube down and remove it, with its assignments."""
    machine = model.load()
    if name not in machine["qubes"]:
        return _return(name, comment=f"'{name}' is already missing.")
    users = [n for n, q in machine["qubes"].items() if q["template"] == name]
    if users:
        return _return(name, fault=f"Domain is in use: {users}")
    if not _testing():
        del machine["qubes"][name]
        model.save(machine)
    return _return(name, {"qvm.remove": {"old": name}})


def devices(name: str, **actions: Any) -> Return:
    """Attach works; detach does not (4.3.6: unexpected keyword devclass)."""
    if "detach" in actions:
        raise TypeError("__init__() got an unexpected keyword argument")
    raise AssertionError("the formula leaves devices to sys_pxe.dom0.nic")


def vm(name: str, **actions: Any) -> Return:
    """Do several actions in their fixed order; skip the rest after a fault."""
    order = ("present", "prefs", "devices", "service", "features", "tags")
    for action in actions:
        if action not in order:
            return _return(name, fault=f"Unknown action keyword: {action}")
    changes: Return = {}
    for action in order:
        if action not in actions:
            continue
        done = _ACTIONS[action](name, _keywords(actions[action]))
        if done["changes"]:
            changes[f"qvm.{action}"] = done["changes"]
        if done["result"] is False:
            return _return(name, changes, done["comment"])
    return _return(name, changes)


def _keywords(options: list[dict[str, Any]]) -> Return:
    merged: Return = {}
    for option in options:
        merged.update(option)
    return merged


def _present(name: str, given: Return) -> Return:
    if set(given) - {"template", "label", "class", "mem", "vcpus", "flags"}:
        return _return(name, fault=f"unrecognized arguments: {given}")
    machine = model.load()
    if name in machine["qubes"]:
        return _return(name)
    template = machine["qubes"].get(given["template"])
    if template is None or template["klass"] != "TemplateVM":
        return _return(name, fault=f"no template {given['template']}")
    if given["label"] not in LABELS:
        return _return(name, fault=f"no label {given['label']}")
    if _testing():
        return _return(name)
    machine["qubes"][name] = model.qube(
        template=given["template"], label=given["label"]
    )
    model.save(machine)
    return _return(name, {"new": name})


def _prefs(name: str, given: Return) -> Return:
    machine = model.load()
    if name not in machine["qubes"]:
        return _missing(name)
    prefs = machine["qubes"][name]["prefs"]
    changes = {}
    for key, value in given.items():
        if key == "template":
            old = machine["qubes"][name]["template"]
            if old != value and machine["qubes"][name]["running"]:
                return _return(name, fault="QubesVMNotHaltedError")
            if old != value:
                changes[key] = {"old": old, "new": value}
                machine["qubes"][name]["template"] = value
            continue
        if type(value) is not PREFS.get(key):
            return _return(name, fault=f"unrecognized arguments: --{key}")
        # qubesd answers None; only these two spellings are compared with it
        new = None if key in NO_QUBE and value == "" else value
        name_of_it = key.replace("_", "-")
        # a default is never equal to a value, also if it is the same
        old = prefs.get(name_of_it, "*default*")
        if old != new:
            changes[key] = {"old": old, "new": new}
            # the real one does not look at test=True here
            prefs[name_of_it] = None if new == "" else new
    model.save(machine)
    return _return(name, changes)


def _flags(name: str, given: Return, prefix: str, actions: set[str]) -> Return:
    machine = model.load()
    if name not in machine["qubes"]:
        return _missing(name)
    if set(given) - actions:
        return _return(name, fault=f"unrecognized arguments: {given}")
    wanted: dict[str, str] = {}
    for one in given.get("set", []):
        wanted.update(one)
    wanted.update(dict.fromkeys(given.get("enable", []), "1"))
    wanted.update(dict.fromkeys(given.get("disable", []), ""))
    features = machine["qubes"][name]["features"]
    changes = {}
    for key, value in wanted.items():
        if not isinstance(value, str):
            return _return(name, fault=f"{key}: {value!r} is no text")
        if features.get(prefix + key) == value:
            continue
        changes[key] = {"old": features.get(prefix + key), "new": value}
        if not _testing():
            features[prefix + key] = value
    # qubesd removes this one again and sets maxmem instead
    features.pop("service.meminfo-writer", None)
    model.save(machine)
    return _return(name, changes)


def _service(name: str, given: Return) -> Return:
    return _flags(name, given, "service.", {"enable", "disable", "default"})


def _features(name: str, given: Return) -> Return:
    return _flags(name, given, "", {"enable", "disable", "default", "set"})


def _tags(name: str, given: Return) -> Return:
    machine = model.load()
    if name not in machine["qubes"]:
        return _missing(name)
    if set(given) != {"add"}:
        return _return(name, fault=f"unrecognized arguments: {given}")
    old = machine["qubes"][name]["tags"]
    new = sorted({*old, *given["add"]})
    if new == sorted(old):
        return _return(name)
    if not _testing():
        machine["qubes"][name]["tags"] = new
        model.save(machine)
    return _return(name, {"old": old, "new": new})


def _devices(name: str, given: Return) -> Return:
    return devices(name, **given)


_ACTIONS = {
    "present": _present,
    "prefs": _prefs,
    "devices": _devices,
    "service": _service,
    "features": _features,
    "tags": _tags,
}
