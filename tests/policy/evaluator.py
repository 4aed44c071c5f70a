"""A small evaluator of qrexec policy (version 5), for tests only.

It knows what our file uses and refuses every other token, so a typing error
cannot pass as a rule that never matches. The meaning of each token is that of
Qubes OS' qrexec-policy; where its package is there, the tests ask it as well.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

_CALL = r"[A-Za-z0-9_.-]+"
_ARGUMENT = r"\+[A-Za-z0-9_.+-]*"
_NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,30}"
_TAG = r"@tag:([A-Za-z0-9_.-]+)"
_FILE = r"[0-9a-z_-][0-9a-z_.-]*\.policy"
_SOURCES = ("@anyvm", "*")
_TARGETS = ("@anyvm", "*", "@default", "@adminvm")
_DOM0 = ("dom0", "@adminvm")
_ALLOW_OPTIONS = ("target", "autostart", "notify", "user")


class PolicyError(Exception):
    """A file that qrexec would not load: it then refuses every call."""


@dataclass(frozen=True)
class Qube:
    """What the policy can know about a qube."""

    tags: frozenset[str] = frozenset()
    running: bool = True
    template_for_dispvms: bool = False
    default_dispvm: str | None = None


System = Mapping[str, Qube]


@dataclass(frozen=True)
class Request:
    """A call; the argument begins with ``+``, which stands for none."""

    service: str
    argument: str
    source: str
    target: str


@dataclass(frozen=True)
class Rule:
    """One line of a policy file, checked."""

    where: str
    service: str
    argument: str
    source: str
    target: str
    action: str
    options: dict[str, str]


def load(files: Mapping[str, str]) -> list[Rule]:
    """Return the rules of all files (name -> text) in qrexec's order."""
    rules = []
    for name in sorted(files):
        if not re.fullmatch(_FILE, name):
            raise PolicyError(f"{name}: not a name of a policy file")
        for number, line in enumerate(files[name].splitlines(), 1):
            text = line.strip()
            if text and not text.startswith("#"):
                rules.append(_rule(text, f"{name}:{number}"))
    return rules


def _rule(text: str, where: str) -> Rule:
    words = text.split()
    if len(words) < 5:
        raise PolicyError(f"{where}: wrong number of fields")
    service, argument, source, target, action, *rest = words
    _match(where, "service", service, _CALL, ("*",))
    _match(where, "argument", argument, _ARGUMENT, ("*",))
    if service == "*" and argument != "*":
        raise PolicyError(f"{where}: only * is an argument for service *")
    _match(where, "source", source, f"{_NAME}|{_TAG}", _SOURCES)
    _match(where, "target", target, f"{_NAME}|{_TAG}", _TARGETS)
    options = _options(rest, action, where)
    if action == "allow" and target == "@default" and "target" not in options:
        raise PolicyError(f"{where}: allow for @default needs target=")
    return Rule(where, service, argument, source, target, action, options)


def _match(
    where: str, what: str, word: str, pattern: str, words: Iterable[str]
) -> None:
    if word not in words and not re.fullmatch(pattern, word):
        raise PolicyError(f"{where}: {what} {word!r}")


def _options(words: list[str], action: str, where: str) -> dict[str, str]:
    known = {"allow": _ALLOW_OPTIONS, "deny": ("notify",)}
    if action not in known:
        raise PolicyError(f"{where}: action {action!r}")
    options: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known[action] or key in options:
            raise PolicyError(f"{where}: option {word!r}")
        if key in ("autostart", "notify"):
            _match(where, key, value, "yes|no", ())
        else:
            _match(where, key, value, _NAME, ())
        options[key] = value
    return options


def evaluate(
    rules: Iterable[Rule], request: Request, system: System
) -> str | None:
    """Return the qube that the call reaches, or None where it is refused."""
    if request.target.startswith("uuid:") or request.source not in system:
        raise ValueError(f"not modelled: {request}")
    if not re.fullmatch(_ARGUMENT, request.argument):
        raise ValueError(f"qrexec-daemon passes no such argument: {request}")
    target = _verified(request.target, system)
    if target is None:
        return None
    for rule in rules:
        if (
            rule.service in ("*", request.service)
            and rule.argument in ("*", request.argument)
            and _is(rule.source, request.source, system)
            and _is(rule.target, target, system)
        ):
            return _apply(rule, request.source, target, system)
    return None


def _verified(target: str, system: System) -> str | None:
    """Return what the rules see; None for a call that no rule can allow."""
    if target in _DOM0:
        return "dom0"
    if target in ("@default", "@dispvm"):
        return target
    if target.startswith("@dispvm:"):
        base = system.get(target.removeprefix("@dispvm:"))
        return target if base and base.template_for_dispvms else None
    # a qube that does not exist is as good as no target
    return target if target in system else "@default"


def _is(token: str, name: str, system: System) -> bool:
    """Whether a rule's token means this name; only its own means dom0."""
    if tag := re.fullmatch(_TAG, token):
        return name in system and tag[1] in system[name].tags
    meaning: dict[str, Callable[[], bool]] = {
        "*": lambda: True,
        "@anyvm": lambda: name != "dom0",
        "@adminvm": lambda: name == "dom0",
    }
    return meaning.get(token, lambda: token == name)()


def _apply(rule: Rule, source: str, target: str, system: System) -> str | None:
    if rule.action == "deny":
        return None
    found: str | None = _verified(rule.options.get("target", target), system)
    if found == "@dispvm":
        base = system[source].default_dispvm
        found = f"@dispvm:{base}" if base else None
    if found in (None, "@default", source):
        return None
    running = found == "dom0" or (found in system and system[found].running)
    if rule.options.get("autostart") == "no" and not running:
        return None
    return found
