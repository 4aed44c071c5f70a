"""Whether a firewall lets clients in, read from what nft prints."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe.agent.firewall import Packet, Ruleset

DHCP = Packet("lan", 0, "udp", 67)
HTTP = Packet("lan", 0, "tcp", 80)
Rule = list[dict[str, Any]]
ACCEPT: Rule = [{"counter": {"packets": 0, "bytes": 0}}, {"accept": None}]
DROP: Rule = [{"drop": None}]


def chain(name: str, policy: str | None = None, family: str = "ip") -> Any:
    base = {"type": "filter", "hook": "input", "prio": 0, "policy": policy}
    own = {"family": family, "table": "qubes", "name": name}
    return {"chain": {**own, **(base if policy else {})}}


def rule(name: str, *statements: Rule, family: str = "ip") -> Any:
    expr = [one for part in statements for one in part]
    own = {"family": family, "table": "qubes", "chain": name}
    return {"rule": {**own, "expr": expr}}


def match(left: object, right: object, op: str = "==") -> Rule:
    return [{"match": {"op": op, "left": left, "right": right}}]


def meta(key: str) -> object:
    return {"meta": {"key": key}}


def dport(protocol: str) -> object:
    return {"payload": {"protocol": protocol, "field": "dport"}}


STATE = {"ct": {"key": "state"}}
LAN = match(meta("iifname"), "lan")
ESTABLISHED = match(STATE, ["established", "related"], "in")
PORTS = {"set": [67, 69, {"range": [4000, 4020]}]}
OURS = (
    chain("sys-pxe"),
    rule("sys-pxe", match(dport("udp"), PORTS), ACCEPT),
    rule("sys-pxe", match(dport("tcp"), 80), ACCEPT),
)
QUBES = (
    chain("input", "drop"),
    chain("custom-input"),
    rule("input", [{"jump": {"target": "custom-input"}}]),
    rule("input", match(STATE, "invalid", "in"), DROP),
    rule("input", match(meta("iifgroup"), 2), match(dport("udp"), 68), DROP),
    rule("input", ESTABLISHED, ACCEPT),
    rule("input", match(meta("iif"), "lo"), ACCEPT),
    rule("input", match(meta("iifgroup"), 2), [{"reject": {"type": "icmpx"}}]),
)
JUMP = rule("custom-input", LAN, [{"jump": {"target": "sys-pxe"}}])


def asked(*listed: object, packet: Packet = DHCP) -> bool | None:
    return Ruleset({"nftables": list(listed)}).lets_in(packet)


def test_without_a_firewall_all_is_open() -> None:
    assert asked({"metainfo": {"version": "1.0.6"}}) is True
    assert asked(chain("input", "accept")) is True
    # another hook, and another family
    assert asked(chain("input", "drop", family="ip6")) is True


def test_the_formulas_rules_open_what_clients_need() -> None:
    listed = (*QUBES, *OURS, JUMP)
    assert asked(*listed) is True
    assert asked(*listed, packet=HTTP) is True
    assert asked(*listed, packet=Packet("lan", 0, "udp", 4011)) is True
    assert asked(*listed, packet=Packet("lan", 0, "tcp", 81)) is False
    assert asked(*listed, packet=Packet("lan", 0, "tcp", 67)) is False
    assert asked(*listed, packet=Packet("eth7", 0, "udp", 67)) is False


def test_an_emptied_chain_is_seen() -> None:
    assert asked(*QUBES, *OURS) is False
    assert asked(*QUBES, packet=Packet("vif1.0", 2, "udp", 67)) is False


@pytest.mark.parametrize(
    "first",
    [
        # anything that is not known of the packet
        [*match({"payload": {"protocol": "ip", "field": "saddr"}}, "1"), *DROP],
        [*match(meta("iifname"), "@names"), *DROP],
        [*match(meta("skuid"), 0), *ACCEPT],
        [*match(meta("l4proto"), 17), *DROP],
        [{"limit": {"rate": 5}}, *ACCEPT],
        [{"vmap": {"key": meta("iifname"), "data": {"set": []}}}],
        [{"queue": None}],
    ],
)
def test_what_cannot_be_told_is_not_known(first: Rule) -> None:
    listed = (*QUBES, *OURS, JUMP)
    assert asked(chain("input", "drop"), rule("input", first), *listed) is None
    # a rule that does not concern the packet for another reason is passed
    other = rule("input", match(meta("iifname"), "eth7"), first)
    assert asked(chain("input", "drop"), other, *listed) is True


def test_a_chain_that_drops_decides_over_one_that_is_not_known() -> None:
    unknown = rule("input", match(meta("skuid"), 0), ACCEPT)
    other = chain("input", "drop", family="inet")
    assert asked(chain("input", "accept"), unknown, other) is False


@pytest.mark.parametrize(
    ("statements", "open_"),
    [
        ([*match(dport("udp"), 67, "!="), *ACCEPT], False),
        ([*match(dport("tcp"), 80, "!="), *ACCEPT], False),
        ([*match(dport("th"), {"range": [60, 70]}), *ACCEPT], True),
        ([*match(meta("iifname"), "la*"), *ACCEPT], True),
        ([*match(meta("iifname"), "vif*"), *ACCEPT], False),
        ([{"return": None}, *ACCEPT], False),
        ([{"goto": {"target": "nowhere"}}], False),
        # for ever
        ([{"jump": {"target": "input"}}], None),
    ],
)
def test_operators_and_verdicts(statements: Rule, open_: bool | None) -> None:
    listed = (
        chain("input", "drop"),
        rule("input", statements),
        rule("input", [{"goto": {"target": "end"}}]),
        rule("input", ACCEPT),
        chain("end"),
    )
    assert asked(*listed) is open_


@pytest.mark.parametrize(
    "listed", [None, [], "x", {"nftables": [1]}, {"nftables": "x"},
               {"nftables": [{"rule": {"expr": 1}}]}]
)  # fmt: skip
def test_another_form_is_a_value_error(listed: object) -> None:
    with pytest.raises(ValueError, match="not a"):
        Ruleset(listed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["match", "left", "right", "op", "meta", "key", "accept", "jump",
             "target", "set", "range", "payload", "field", "vmap"]
        ), below, max_size=3
    ),
)  # fmt: skip


@given(st.lists(JSON, max_size=3))
def test_any_rule_has_an_answer(expr: list[object]) -> None:
    own = {"family": "ip", "table": "qubes", "chain": "input", "expr": expr}
    listed = [chain("input", "drop"), {"rule": own}]
    found = Ruleset(json.loads(json.dumps({"nftables": listed})))
    assert found.lets_in(DHCP) in (True, False, None)
