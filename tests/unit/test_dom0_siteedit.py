"""A client more in a person's site file: one line, nothing else touched."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import site
from sys_pxe.dom0 import siteedit, sitefile
from sys_pxe.errors import InvalidInput
from sys_pxe.site import Client

REPOSITORY = Path(__file__).resolve().parents[2]
MAC = "52:54:00:00:00:77"
NEW = Client("desk-77", MAC, "base")
LINE = "desk-77: {mac: 52:54:00:00:00:77, profile: base}"
HEAD = """\
# ours
network:
  address: 192.0.2.1/24
  dhcp: {mode: server, pool: 192.0.2.100-192.0.2.199}
channels: [stable]
profiles:
  base: {channel: stable}   # all
"""
TAIL = "unknown_clients: refuse  # for now\n"
ONE = "  desk-01: {mac: 52:54:00:00:00:01, profile: base}  # at the window\n"


def added(text: str, client: Client = NEW) -> str:
    return siteedit.with_client(text.encode(), client, "site.yaml").decode()


@pytest.mark.parametrize(
    "clients",
    [
        # what stands below stays below: comments, empty lines, other keys
        f"clients:\n{ONE}# end\n\n",
        f"clients:\n{ONE}\n\n  # none yet\n",
        # each client on lines of its own, with another indent
        "clients:\n    a:\n        mac: 52:54:00:00:00:01\n"
        "        profile: base   # x\n# y\n",
        # over two lines; in quotes
        "clients:\n  a: {mac: 52:54:00:00:00:01,\n      profile: base}\n",
        '"clients":\n  a: {"mac": "52:54:00:00:00:01", profile: base}\n',
    ],
)
@pytest.mark.parametrize("last", [False, True], ids=["inside", "last"])
def test_it_is_one_line_more(clients: str, last: bool) -> None:
    text = HEAD + TAIL + clients if last else HEAD + clients + TAIL
    new = added(text)
    rows = new.splitlines(keepends=True)
    (row,) = [i for i, r in enumerate(rows) if LINE in r]
    assert rows[row].strip() == LINE
    assert "".join(rows[:row] + rows[row + 1 :]) == text
    found = site.parse(sitefile.parse(new.encode(), "x"), "x")
    assert found.clients["desk-77"] == NEW


def test_the_line_stands_right_below_the_last_client() -> None:
    text = f"{HEAD}clients:\n{ONE}\n  # the corner is empty\n\n{TAIL}"
    assert added(text) == text.replace(ONE, f"{ONE}  {LINE}\n")


def test_the_braces_of_no_clients_go() -> None:
    text = f"{HEAD}clients: {{}}  # to come\n{TAIL}"
    wanted = f"{HEAD}clients:  # to come\n  {LINE}\n{TAIL}"
    assert added(text) == wanted
    last = f"{HEAD}{TAIL}clients: {{ }}"
    assert added(last) == f"{HEAD}{TAIL}clients:\n  {LINE}\n"


def test_a_file_without_clients_gets_the_key_at_its_end() -> None:
    assert added(HEAD + TAIL) == f"{HEAD}{TAIL}clients:\n  {LINE}\n"
    without = (HEAD + TAIL).removesuffix("\n")
    assert added(without) == f"{HEAD}{TAIL}clients:\n  {LINE}\n"


def test_a_last_line_without_an_end_gets_one() -> None:
    text = f"{HEAD}{TAIL}clients:\n{ONE}"
    assert added(text.removesuffix("\n")) == f"{text}  {LINE}\n"


def test_line_endings_are_those_of_the_file() -> None:
    text = f"{HEAD}clients:\n{ONE}{TAIL}".replace("\n", "\r\n")
    new = added(text)
    assert new.count("\r\n") == new.count("\n") == text.count("\n") + 1


def test_the_example_of_the_documentation_can_be_added_to() -> None:
    text = (REPOSITORY / "docs/site.example.yaml").read_text()
    new = added(text)
    assert new.replace(f"  {LINE}\n", "") == text
    assert new != text


@pytest.mark.parametrize("name", ["77", "0", "true", "null", "1e3", "a.b"])
def test_a_name_that_yaml_reads_otherwise_stays_a_name(name: str) -> None:
    text = f"{HEAD}clients:\n{ONE}{TAIL}"
    new = added(text, Client(name, MAC, "base"))
    found = site.parse(sitefile.parse(new.encode(), "x"), "x")
    assert found.clients[name].mac == MAC


@pytest.mark.parametrize("profile", ["7", "false", "null"])
def test_a_profile_of_such_a_name_too(profile: str) -> None:
    head = HEAD + f"  '{profile}': {{channel: stable}}\n"
    text = f"{head}clients:\n{ONE}{TAIL}"
    new = added(text, Client("a", MAC, profile))
    found = site.parse(sitefile.parse(new.encode(), "x"), "x")
    assert found.clients["a"].profile == profile


@pytest.mark.parametrize(
    "clients",
    [
        "clients: {desk-01: {mac: 52:54:00:00:00:01, profile: base}}\n",
        "clients: {\n}\n",
        "clients: {  # none\n  }\n",
    ],
)
def test_a_file_that_is_written_otherwise_is_left_alone(clients: str) -> None:
    with pytest.raises(InvalidInput, match="nothing was changed") as caught:
        added(HEAD + TAIL + clients)
    assert LINE in caught.value.explain()


def test_a_file_in_braces_is_left_alone() -> None:
    text = (
        '{"network": {"address": "192.0.2.1/24", "dhcp": {"mode": "proxy"}},'
        '"channels": ["stable"], "profiles": {"base": {"channel": "stable"}},'
        '"unknown_clients": "refuse"}\n'
    )
    with pytest.raises(InvalidInput, match="nothing was changed"):
        added(text)


def test_what_is_no_site_before_or_after_is_refused() -> None:
    text = f"{HEAD}clients:\n{ONE}{TAIL}"
    with pytest.raises(InvalidInput, match="line 2"):
        added("a: 1\n\tb: 2\n")
    with pytest.raises(InvalidInput, match="is a client already"):
        added(text, Client("desk-01", MAC, "base"))
    with pytest.raises(InvalidInput, match="already the mac of desk-01"):
        added(text, Client("b", "52:54:00:00:00:01", "base"))
    with pytest.raises(InvalidInput, match="is not a profile"):
        added(text, Client("b", MAC, "office"))


@given(st.lists(st.sampled_from(
    ["  # c\n", "\n", ONE, "  b:\n    mac: 52:54:00:00:00:02\n",
     "    profile: base\n", "#c\n", "  c: &x {}\n", "  - d\n", "...\n",
     "---\n", "  'e': \"f\n", "  g: |\n    h\n"]), max_size=6))  # fmt: skip
def test_whatever_a_file_holds_it_says_the_same_and_one_more(
    parts: list[str],
) -> None:
    text = f"{HEAD}{TAIL}clients:\n{''.join(parts)}"
    try:
        new = added(text)
    except InvalidInput:
        return
    before = sitefile.parse(text.encode(), "x")
    after = sitefile.parse(new.encode(), "x")
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert after["clients"].pop("desk-77") == {"mac": MAC, "profile": "base"}
    assert after["clients"] == before["clients"]


@pytest.mark.parametrize(
    ("name", "mac", "profile", "match"),
    [
        ("../x", MAC, "base", "NAME"),
        ("Desk", MAC, "base", "NAME"),
        ("a", "52:54", "base", "--from-seen"),
        ("a", "ff:ff:ff:ff:ff:ff", "base", "--from-seen"),
        ("a", "52:54:00:00:00:01", "base", "is the client desk-01 already"),
        ("a", MAC, "office", "--profile"),
        ("a", MAC, "\x1b[2J", "--profile"),
    ],
)
def test_words_that_are_no_client_are_refused(
    name: str, mac: str, profile: str, match: str
) -> None:
    known = site.parse(
        sitefile.parse(f"{HEAD}clients:\n{ONE}{TAIL}".encode(), "x"), "x"
    )
    with pytest.raises(InvalidInput, match=match) as caught:
        siteedit.named(name, mac, profile, known)
    assert "\x1b" not in caught.value.explain()


def test_a_mac_may_be_written_in_capitals() -> None:
    known = site.parse(sitefile.parse(f"{HEAD}{TAIL}".encode(), "x"), "x")
    found = siteedit.named("a", "52:54:00:AA:00:77", "base", known)
    assert found.mac == "52:54:00:aa:00:77"
