"""Which qubes a set has: those that were chosen, and all that they need.

A qube needs its template, the qube it gets its network from (also where that
is the default of the system), the disposable templates that it names itself,
and, if it stands for a remote one, its relay. What is only a default of the
system for everybody (its disposable template, its template for new qubes, who
keeps the clock) is not needed: it stays if it is in the set anyway. Pure.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from sys_pxe.dom0.qubes_store import (
    ADMIN_CLASS,
    ADMIN_NAME,
    Domain,
    Store,
)
from sys_pxe.errors import InvalidInput

TEMPLATE_CLASS = "TemplateVM"
REMOTE_CLASS = "RemoteVM"
# class -> the class that its template has (qubes/vm/appvm.py, dispvm.py)
_BASED_ON = {"AppVM": TEMPLATE_CLASS, "DispVM": "AppVM"}
_CLASSES = {*_BASED_ON, TEMPLATE_CLASS, "StandaloneVM", REMOTE_CLASS}
_DISPOSABLES = ("default_dispvm", "management_dispvm")
_SHOWN = 8


def kept(store: Store, chosen: Sequence[str], set_name: str) -> tuple[str, ...]:
    """Return the names of all qubes of a set but dom0, as the store has them.

    Raises InvalidInput for a qube that is not there, and for one that needs
    what is not there, with the chain that leads to it.
    """
    where = f"qubes of set {set_name}"
    # name -> the chain of words that says why it is needed
    found = dict.fromkeys(chosen, "")
    for name in chosen:
        _check_choice(store, name, where)
    waiting = list(found)
    while waiting:
        name = waiting.pop()
        why = found[name] or f"{name!r}"
        domain = store.domains[name]
        _check_class(domain, f"{where}: {why}")
        for what, needed in needs(store, domain):
            chain = f"{why} needs {what} {needed!r}"
            other = store.domains.get(needed)
            if other is None:
                raise InvalidInput(
                    f"{where}: {chain}, which the golden PC does not have",
                    f"choose another {what} for it on the golden PC, or "
                    f"leave out {_first(why)}",
                )
            _check_use(what, domain, other, f"{where}: {chain}")
            if needed not in found and needed != ADMIN_NAME:
                found[needed] = f"{chain}, which"
                waiting.append(needed)
    return tuple(name for name in store.domains if name in found)


def _first(why: str) -> str:
    return why.split(" ", 1)[0]


def needs(store: Store, domain: Domain) -> Iterator[tuple[str, str]]:
    """Yield (word for it, name) for each qube that one needs."""
    if domain.klass in _BASED_ON:
        yield "template", domain.properties.get("template", "")
    if netvm := netvm_of(store, domain):
        yield "netvm", netvm
    for what in _DISPOSABLES:
        if named := domain.properties.get(what):
            yield what, named
    if relay := domain.properties.get("relayvm"):
        yield "relayvm", relay


def netvm_of(store: Store, domain: Domain) -> str:
    """Return the qube that one gets its network from; "" for none."""
    if domain.klass in {ADMIN_CLASS, REMOTE_CLASS}:
        return ""
    # a template has none by default (qubes/vm/templatevm.py)
    default = (
        ""
        if domain.klass == TEMPLATE_CLASS
        else store.settings.get("default_netvm", "")
    )
    return domain.properties.get("netvm", default)


def lineage(store: Store, domain: Domain) -> Iterator[Domain]:
    """Yield a qube, its template, and the template of that one."""
    seen: set[str] = set()
    one: Domain | None = domain
    while one is not None and one.name not in seen:
        seen.add(one.name)
        yield one
        based = one.klass in _BASED_ON
        one = store.domains.get(
            one.properties.get("template", "") if based else ""
        )


def inherited(store: Store, domain: Domain, name: str) -> str | None:
    """Return a property that a qube has from itself or its templates, as
    ``_default_with_template`` (qubes/vm/qubesvm.py) looks it up; or None."""
    for one in lineage(store, domain):
        if name in one.properties:
            return one.properties[name]
    return None


def virt_mode(store: Store, domain: Domain) -> str:
    """Return how a qube runs: "hvm", "pvh" or "pv"."""
    # _default_virt_mode (qubes/vm/qubesvm.py)
    for one in lineage(store, domain):
        if mode := one.properties.get("virt_mode"):
            return mode.lower()
        if any(device.klass == "pci" for device in one.devices):
            return "hvm"
    return "pvh"


def _check_choice(store: Store, name: str, where: str) -> None:
    if name == ADMIN_NAME:
        raise InvalidInput(
            f"{where}: {name} is not chosen, it is in every set",
            f"leave {name} out of the list",
        )
    if name not in store.domains:
        others = sorted(store.domains.keys() - {ADMIN_NAME})
        near = get_close_matches(name, others, _SHOWN, 0.5)
        shown = ", ".join((near or others)[:_SHOWN])
        word = "nearest" if near else "it has"
        raise InvalidInput(
            f"{where}: the golden PC has no qube {name!a}",
            f"{word}: {shown}" if shown else "it has no qubes at all",
        )


def _check_class(domain: Domain, where: str) -> None:
    if domain.klass not in _CLASSES:
        raise InvalidInput(
            f"{where} is a {domain.klass[:40]!a}, which is not known here",
            f"leave it out (known: {', '.join(sorted(_CLASSES))})",
        )


def _check_use(what: str, user: Domain, used: Domain, chain: str) -> None:
    """Refuse what Qubes refuses to load."""
    if what == "template":
        wanted = _BASED_ON[user.klass]
        good = used.klass == wanted and (
            user.klass != "DispVM" or used.is_set("template_for_dispvms")
        )
        lack = f"which is no {wanted} that it can be based on"
    elif what == "netvm":
        good = used.is_set("provides_network")
        lack = "which does not provide network"
    elif what in _DISPOSABLES:
        # Qubes itself takes such a one out when it loads the file
        good, lack = True, ""
    else:
        good = used.klass not in {REMOTE_CLASS}
        lack = "which is itself remote"
    if not good:
        raise InvalidInput(
            f"{chain}, {lack}",
            f"choose another {what} for it on the golden PC",
        )
