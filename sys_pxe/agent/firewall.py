"""Does the qube's firewall let a new packet of the LAN in? Pure.

Reads the rule set as ``nft --json list ruleset`` prints it, and follows the
chains of the input hook for one packet. Where a rule looks at something that
is not known of that packet, the answer is that it is not known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# a chain that calls another, that calls another …
_DEPTH_MAX = 16
_FAMILIES = ("ip", "inet")
_ENDS = ("accept", "drop")
_JUMPS = ("jump", "goto")
_VERDICTS = (*_ENDS, *_JUMPS, "reject", "queue", "return", "vmap")
_CONDITIONS = ("limit", "quota", "ct count", "xt")
# the port of another protocol: no match holds, whatever its operator
_OTHER = -1


class _UnknownError(Exception):
    """A rule cannot be judged."""


@dataclass(frozen=True)
class Packet:
    """The first packet of a client to a port of ours."""

    interface: str
    group: int
    protocol: str
    port: int


Chain = tuple[str, str, str]


class Ruleset:
    """A parsed rule set; ValueError where it has another form."""

    def __init__(self, listed: object) -> None:
        self._rules: dict[Chain, list[list[object]]] = {}
        self._hooks: list[tuple[Chain, str]] = []
        if not isinstance(listed, dict):
            raise ValueError("not a table")
        for one in listed.get("nftables", ()):
            if not isinstance(one, dict):
                raise ValueError("not a list of tables")
            if isinstance(chain := one.get("chain"), dict):
                key = _key(chain, "name")
                self._rules.setdefault(key, [])
                if chain.get("hook") == "input" and key[0] in _FAMILIES:
                    policy = str(chain.get("policy", "accept"))
                    self._hooks.append((key, policy))
            elif isinstance(rule := one.get("rule"), dict):
                expr = rule.get("expr", [])
                if not isinstance(expr, list):
                    raise ValueError("a rule is not a list")
                self._rules.setdefault(_key(rule, "chain"), []).append(expr)

    def lets_in(self, packet: Packet) -> bool | None:
        """Whether every chain of the hook accepts it; None: not known."""
        verdicts: list[bool | None] = []
        for chain, policy in self._hooks:
            try:
                said = self._follow(chain, packet, 0) or policy
            except _UnknownError:
                verdicts.append(None)
            else:
                verdicts.append(said == "accept")
        if False in verdicts:
            return False
        return None if None in verdicts else True

    def _follow(self, chain: Chain, packet: Packet, depth: int) -> str | None:
        """Return the verdict of a chain; None where it has none."""
        if depth > _DEPTH_MAX:
            raise _UnknownError
        for rule in self._rules.get(chain, ()):
            verb, target = _verdict(rule, packet)
            if verb in _ENDS:
                return verb
            if verb == "reject":
                return "drop"
            if verb == "queue":
                raise _UnknownError
            if verb == "return":
                return None
            if verb in _JUMPS:
                below = (chain[0], chain[1], target)
                said = self._follow(below, packet, depth + 1)
                if said is not None or verb == "goto":
                    return said
        return None


def _key(table: Mapping[str, object], name: str) -> Chain:
    return (
        str(table.get("family")),
        str(table.get("table")),
        str(table.get(name)),
    )


def _verdict(rule: Sequence[object], packet: Packet) -> tuple[str, str]:
    """Return what a rule does with the packet, and the chain it names."""
    matches: list[bool | None] = []
    for statement in rule:
        if not isinstance(statement, dict):
            raise _UnknownError
        for word, value in statement.items():
            if word == "match":
                matches.append(_matches(value, packet))
            elif word in _CONDITIONS:
                matches.append(None)
            elif word in _VERDICTS and False not in matches:
                if None in matches or word == "vmap":
                    raise _UnknownError
                target = value.get("target") if isinstance(value, dict) else ""
                return word, str(target)
    return "", ""


def _matches(match: object, packet: Packet) -> bool | None:
    """Whether a match holds; None where it cannot be told."""
    if not isinstance(match, dict):
        return None
    known = _known(match.get("left"), packet)
    if known is None:
        return None
    if known == _OTHER:
        return False
    equal = _equals(known, match.get("right"))
    if equal is None or match.get("op") in ("==", "in"):
        return equal
    return not equal if match.get("op") == "!=" else None


def _known(left: object, packet: Packet) -> str | int | None:
    """Return the value of the packet that a match looks at, if it is known."""
    if not isinstance(left, dict) or len(left) != 1:
        return None
    kind, what = next(iter(left.items()))
    if not isinstance(what, dict):
        return None
    protocol = what.get("protocol")
    if (kind, what.get("field")) == ("payload", "dport"):
        same = protocol in (packet.protocol, "th")
        return packet.port if same else _OTHER
    known: dict[tuple[object, object], str | int] = {
        ("meta", "iifname"): packet.interface,
        ("meta", "iif"): packet.interface,
        ("meta", "iifgroup"): packet.group,
        ("meta", "l4proto"): packet.protocol,
        ("meta", "nfproto"): "ipv4",
        ("ct", "state"): "new",
    }
    return known.get((kind, what.get("key")))


def _equals(known: str | int, right: object) -> bool | None:
    """Whether the value is the right side, or in it; None: not known."""
    if isinstance(right, dict):
        if "range" in right:
            return _within(known, right["range"])
        right = right.get("set")
    if isinstance(right, list):
        return _any([_equals(known, one) for one in right])
    # else a named set, the name of a group or a service, a protocol's number
    if isinstance(known, int) and isinstance(right, int):
        return known == right
    if isinstance(known, str) and isinstance(right, str) and right[:1] != "@":
        if right.endswith("*"):
            return known.startswith(right[:-1])
        return known == right
    return None


def _within(known: str | int, ends: object) -> bool | None:
    """Whether the value lies in a range of numbers."""
    if isinstance(ends, list) and len(ends) == 2:
        low, high = ends
        if isinstance(low, int) and isinstance(high, int):
            return isinstance(known, int) and low <= known <= high
    return None


def _any(found: Sequence[bool | None]) -> bool | None:
    if True in found:
        return True
    return None if None in found else False
