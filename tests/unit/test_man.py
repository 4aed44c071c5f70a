"""The man pages, held against the parser, the services and the policy."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from sys_pxe import errors
from sys_pxe.agent import rpc
from sys_pxe.agent.activate import Activated
from sys_pxe.agent.push import Received
from sys_pxe.agent.store import SIGNED_MAX
from sys_pxe.dom0 import cli, context, transport
from sys_pxe.manifest import CHUNK_MAX
from tests.agent_world import World
from tests.command_tree import commands

REPOSITORY = Path(__file__).resolve().parents[2]
MAN = REPOSITORY / "docs/man"
COMMAND = (MAN / "sys-pxe.1").read_text()
POLICY = REPOSITORY / "qubes-rpc/policy/80-sys-pxe.policy"
TREE = commands()


def section(page: str, name: str) -> str:
    """Return the text of a section; an error when there is none."""
    (text,) = re.findall(
        rf"^\.Sh {name}\n(.*?)(?=^\.Sh |\Z)", page, re.M | re.S
    )
    return str(text)


def items(text: str, macro: str) -> dict[str, str]:
    """Return heads of list items that begin with a macro -> their text."""
    text = re.sub(  # one item head on one line
        r"^\.It Xo\n(.*?)^\.Xc$",
        lambda m: ".It " + m[1].replace("\n.", " ").removeprefix("."),
        text,
        flags=re.M | re.S,
    )
    found = re.findall(
        rf"^\.It {macro} ([^\n]*)\n(.*?)(?=^\.(?:It|El|Ss)\b)",
        text,
        re.M | re.S,
    )
    assert len(found) == len(dict(found)), "an item stands twice"
    return dict(found)


def shape(head: str) -> tuple[tuple[str, ...], dict[str, str], list[str]]:
    """Return the words, options and arguments that an item's head shows."""
    words = re.match(r"[a-z ]+", head)
    assert words is not None, head
    rest = head[words.end() :]
    options = re.findall(r"Fl (-[a-z-]+)(?: Ar ([A-Z]+))?", rest)
    plain = re.sub(r"Fl -[a-z-]+(?: Ar [A-Z]+)?", "", rest)
    arguments = re.findall(r"Ar ([A-Z]+)", plain)
    given = {f"-{name}": value for name, value in options}
    return tuple(words[0].split()), given, arguments


DOCUMENTED = {
    shape(head)[0]: (*shape(head)[1:], text)
    for head, text in items(section(COMMAND, "COMMANDS"), "Ic").items()
}
RUNNABLE = {words: c for words, c in TREE.items() if words and not c.below}


def test_each_command_has_an_item_and_each_item_a_command() -> None:
    missing = RUNNABLE.keys() - DOCUMENTED.keys()
    gone = DOCUMENTED.keys() - RUNNABLE.keys()
    assert (missing, gone) == (set(), set())


@pytest.mark.parametrize("words", RUNNABLE, ids=" ".join)
def test_an_item_names_all_options_and_arguments(
    words: tuple[str, ...],
) -> None:
    options, arguments, text = DOCUMENTED[words]
    command = RUNNABLE[words]
    assert options == command.options
    assert arguments == list(command.arguments)
    unsaid = [
        d for d in command.defaults.values() if f"default {d}" not in text
    ]
    assert unsaid == []


def test_the_options_before_the_noun() -> None:
    found = {}
    for head, _ in items(section(COMMAND, "OPTIONS"), "Fl").items():
        name, _, value = head.partition(" Ar ")
        found[f"-{name}"] = value
    assert found.pop("--help") == ""
    assert found == TREE[()].options


def test_a_missing_option_would_be_seen() -> None:
    head = "release build Fl -from Ar TREE Op Fl -valid-days Ar N Ar NAME"
    words, options, arguments = shape(head)
    assert words == ("release", "build")
    assert options == {"--from": "TREE", "--valid-days": "N"}
    assert arguments == ["NAME"]
    with pytest.raises(AssertionError):
        items(".It Ic a\nx\n.It Ic a\nx\n.El\n", "Ic")


def codes(page: str) -> set[int]:
    text = section(page, "EXIT STATUS")
    return {int(code) for code in re.findall(r"^\.It (\d+)$", text, re.M)}


def known_codes() -> set[int]:
    base = errors.SysPxeError
    return {0, base.exit_code, *(e.exit_code for e in base.__subclasses__())}


def test_exit_codes_are_those_of_the_errors() -> None:
    assert codes(COMMAND) == {*known_codes(), cli.INTERRUPTED}


def test_environment_and_files_are_the_programs_own() -> None:
    assert list(items(section(COMMAND, "ENVIRONMENT"), "Ev")) == [
        transport.ENVIRONMENT
    ]
    places = items(section(COMMAND, "FILES"), "Pa")
    assert str(context.SITE_FILE) in places
    key = f"{context.STATE_FOLDER}/key/private.pem"
    assert key in places


def test_examples_are_commands() -> None:
    shown = re.findall(r"^# sys-pxe (.*)", section(COMMAND, "EXAMPLES"), re.M)
    assert shown
    for line in shown:
        assert cli.parser().parse_args(line.split()).handler


# the services


def page(service: str) -> str:
    return (MAN / f"{service}.7").read_text()


def test_each_service_has_a_page_and_each_page_a_service() -> None:
    pages = {path.name.removesuffix(".7") for path in MAN.glob("*.7")}
    assert pages == set(rpc.SERVICES)


@pytest.mark.parametrize("service", rpc.SERVICES)
def test_a_page_is_about_its_service(service: str) -> None:
    text = page(service)
    assert f".Dt {service.upper()} 7\n" in text
    assert section(text, "NAME").startswith(f".Nm {service}\n")
    others = {f".Xr {name} 7" for name in rpc.SERVICES if name != service}
    named = re.findall(r"^(\.Xr \S+ 7)", section(text, "SEE ALSO"), re.M)
    assert set(named) == others


@pytest.mark.parametrize("service", rpc.SERVICES)
def test_a_page_tells_what_goes_in(service: str) -> None:
    text, what = page(service), rpc.SERVICES[service]
    synopsis = section(text, "SYNOPSIS")
    assert f"qrexec-client-vm sys-pxe {service}" in synopsis
    assert ("Cm + Ns Ar" in synopsis) == what.takes_argument
    limits = [int(n) for n in re.findall(r"\d{5,}", section(text, "INPUT"))]
    if what.payload_max is None:
        assert limits == [SIGNED_MAX, CHUNK_MAX]
    else:
        assert limits == ([what.payload_max] if what.payload_max else [])
        refused = section(text, "INPUT").startswith("None.\n")
        assert refused == (what.payload_max == 0)


def top_level(text: str) -> list[str]:
    """Return the keys of the outer list of an OUTPUT section."""
    found: list[str] = []
    depth = 0
    for line in text.splitlines():
        depth += line.startswith(".Bl") - line.startswith(".El")
        if depth == 1 and line.startswith(".It Va "):
            found += line.removeprefix(".It Va ").split(" , Va ")
    return found


def answer_keys(service: str, world: World) -> list[str]:
    if service == "syspxe.Push":
        # complete is worked out from what is missing
        names = {f.name for f in fields(Received)} | {"complete"}
        return sorted(names)
    if service == "syspxe.Activate":
        return sorted(f.name for f in fields(Activated))
    if service == "syspxe.Site":
        sent = world.signed_site()
        done = world.rpc(service, stdin=sent)
    else:
        done = world.rpc(service)
    assert done.status == 0, done.stderr
    return sorted(json.loads(done.stdout))


@pytest.mark.parametrize("service", rpc.SERVICES)
def test_a_page_tells_what_comes_out(service: str, tmp_path: Path) -> None:
    shown = sorted(top_level(section(page(service), "OUTPUT")))
    assert shown == answer_keys(service, World(tmp_path))


@pytest.mark.parametrize("service", rpc.SERVICES)
def test_a_page_tells_how_it_ends(service: str) -> None:
    found = codes(page(service))
    assert {0, 1, 2, 3} <= found <= known_codes()


def permitted(service: str) -> set[str]:
    lines = [line.split() for line in POLICY.read_text().splitlines()]
    return {
        line[2].removeprefix("@tag:")
        for line in lines
        if line and line[0] == service and "allow" in line
    }


@pytest.mark.parametrize("service", rpc.SERVICES)
def test_a_page_tells_who_may_call(service: str) -> None:
    told = re.findall(r"^\.Li (\S+)", section(page(service), "POLICY"), re.M)
    assert permitted(service)
    assert set(told) == permitted(service)
