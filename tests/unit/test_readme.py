"""What the README and the other pages promise, held against the code."""

import re
import shlex
from pathlib import Path

import pytest

from sys_pxe import site
from sys_pxe.dom0 import cli, nic, sitefile
from sys_pxe.errors import InvalidInput, UsageError

REPOSITORY = Path(__file__).resolve().parents[2]
SITE_FILE = "/etc/sys-pxe/site.yaml"
README = (REPOSITORY / "README.md").read_text()
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def console(program: str) -> list[str]:
    lines = "".join(blocks("console")).splitlines()
    return [line[2:] for line in lines if line.startswith(f"# {program} ")]


def targets() -> set[str]:
    text = (REPOSITORY / "Makefile").read_text()
    return set(re.findall(r"^([a-z-]+):", text, re.M))


def test_the_site_example_is_a_site() -> None:
    (example,) = blocks("yaml")
    data = sitefile.parse(example.encode(), "README.md")
    found = site.parse(data, "README.md")
    assert set(found.clients) == {"desk-01", "desk-02"}
    assert found.clients["desk-01"].mac == "52:54:00:00:00:01"


def test_what_two_free_cards_lead_to_is_shown() -> None:
    names = {
        "00_1c.0-00_00.0": "Realtek Semiconductor Co., Ltd. "
        "RTL8111/8168/8411 PCI Express Gigabit Ethernet Controller",
        "00_1f.6": "Intel Corporation Ethernet Connection (7) I219-LM",
    }
    nobody = frozenset[str]()
    cards = [
        nic.Card(port, port, f"Network: {name}", nobody, nobody)
        for port, name in names.items()
    ]
    with pytest.raises(InvalidInput) as caught:
        nic.choose(cards, "sys-pxe")
    assert f"\n{caught.value.explain()}\n" in README


def test_what_site_check_prints_for_the_example_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = REPOSITORY / "docs/site.example.yaml"
    assert cli.main(["--site", str(example), "site", "check"]) == 0
    printed = capsys.readouterr().out.replace(str(example), SITE_FILE)
    assert f"# sys-pxe site check\n{printed}" in README


@pytest.mark.parametrize("command", console("sys-pxe"))
def test_each_command_is_one(command: str) -> None:
    given = cli.parser().parse_args(shlex.split(command)[1:])
    assert callable(given.handler)


def test_a_command_that_is_none_would_be_seen() -> None:
    assert len(console("sys-pxe")) > 10
    with pytest.raises(UsageError):
        cli.parser().parse_args(["release", "paint"])


def named_targets(text: str) -> set[str]:
    inline = re.findall(r"`make ([a-z-]+)", text)
    return {*inline, *re.findall(r"^[#$] make ([a-z-]+)", text, re.M)}


def test_each_make_target_exists() -> None:
    assert {"demo", "test"} <= named_targets(README) <= targets()


def test_each_target_has_a_line_of_help() -> None:
    text = (REPOSITORY / "Makefile").read_text()
    helped = set(re.findall(r"^([a-z-]+):.*## ", text, re.M))
    assert targets() - helped == {"packages"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [x for x in local if not (page.parent / x).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_named_in_the_pages_exist(page: Path) -> None:
    text = page.read_text()
    for words in re.findall(r"`sys-pxe ([a-z]+(?: [a-z]+)?)", text):
        # --help ends the parser where the command exists
        with pytest.raises(SystemExit):
            cli.parser().parse_args([*words.split(), "--help"])


def test_plain_pxe_is_described_as_it_is() -> None:
    for page in (README, (REPOSITORY / "docs/threat-model.md").read_text()):
        assert "**Plain PXE does not authenticate the boot files.**" in page
