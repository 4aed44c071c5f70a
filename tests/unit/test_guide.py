"""The guide: what it quotes of sys-pxe's screens is said, its links lead on."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from sys_pxe import plan, render, site
from sys_pxe.client import screen
from sys_pxe.client.screen import State
from sys_pxe.dom0 import media
from sys_pxe.render import Server
from tests.agent_world import site_data
from tests.documents import with_image
from tests.guide import DOCS, PAGES, pattern, quoted, unseen
from tests.unit.test_agent_render import release

CLIENT = DOCS.parent / "sys_pxe/client"
GUIDES = sorted(set(PAGES.values()))
EVERY_PAGE = sorted(DOCS.glob("*.md"))
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MIB = 1 << 20
# characters, below which a text with values in it may be any text
WORDS = 20


def scripts() -> Iterator[str]:
    """Give what iPXE prints of the scripts: with an image for UEFI, without."""
    made = site.parse(site_data())
    options = plan.options_digest(plan.settings(made, "base"))
    for found in (release(), with_image(release(), options)):
        for path, text in render.everything(
            made, {"stable": found}, Server()
        ).items():
            if path.startswith("ipxe/"):
                yield from re.findall(r"^echo (.+)$", text, re.M)


def of_the_stick() -> Iterator[str]:
    """Give what GRUB prints of a boot stick's script."""
    made = site.parse(site_data())
    settings = plan.settings(made, "base")
    order = media.Order(release(), DOCS, settings, made.network.address.ip)
    script = media.grub_cfg(order).decode("ascii")
    yield from re.findall(r"^echo '(.+)'$", script, re.M)


def screens() -> Iterator[str]:
    """Give the rows of the screen, at each stage of a boot."""
    seconds = dict.fromkeys(screen.STAGES, 0.1)
    seconds |= {"network": 4.2, "manifest": 0.31}
    for number, stage in enumerate(screen.STAGES):
        past = list(screen.STAGES)[:number]
        state = State(
            client="desk-01",
            release="2026-11-a",
            stage=stage,
            done=300 * MIB,
            total=1200 * MIB,
            rate=10.0 * MIB,
            seconds={name: seconds[name] for name in past},
        )
        yield from _ESCAPE.sub("", screen.render(state)).split("\r\n")


@cache
def said() -> str:
    return "\n".join([*scripts(), *of_the_stick(), *screens()])


@cache
def sentences() -> list[str]:
    """Return a pattern for each text with some words in the client's code."""
    found = []
    for path in (CLIENT / "main.py", CLIENT / "boot.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            parts = [
                str(part.value) if isinstance(part, ast.Constant) else "..."
                for part in node.values
            ]
            text = "".join(parts)
            if len(text.replace("...", "")) > WORDS:
                found.append(pattern(text))
    return found


def is_ours(line: str) -> bool:
    if not unseen([line], said()):
        return True
    return any(re.fullmatch(text, line) for text in sentences())


@pytest.mark.parametrize("page", GUIDES)
def test_what_a_page_shows_of_sys_pxe_is_what_it_says(page: str) -> None:
    lines = quoted(page, "screen")
    assert len(lines) > 5
    assert [line for line in lines if not is_ours(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "sys-pxe: this PC is desk-01, release 2026-11-a",
        "[ok] Networks            4.2 s",
        "desk-01: release 2026-11-a (serial 3) on disk",
    ],
)
def test_what_nothing_says_would_be_seen(line: str) -> None:
    assert not is_ours(line)


@pytest.mark.parametrize("page", GUIDES)
def test_a_page_quotes_what_is_not_ours(page: str) -> None:
    """The boot tests compare it with what PCs show."""
    lines = quoted(page, "firmware")
    assert len(lines) > 1
    assert [line for line in lines if not line.replace("...", "").strip()] == []
    # a block of another kind would be compared with nothing
    text = (DOCS / page).read_text("utf-8")
    kinds = set(re.findall(r"^```(.+)$", text, re.M))
    assert kinds == {"screen", "firmware"}


def anchors(page: Path) -> set[str]:
    """Return what may stand behind # in a link: headings, as GitHub does."""
    text = page.read_text("utf-8")
    named = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        kept = re.sub(r"[^a-z0-9 _-]", "", heading.lower())
        named.add(kept.replace(" ", "-"))
    return named


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda p: p.name)
def test_links_lead_to_what_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))
    assert [link for link in links if not leads(page, link)] == []


def leads(page: Path, link: str) -> bool:
    if "://" in link:
        return True
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def test_a_link_to_nothing_would_be_seen() -> None:
    page = DOCS / "guide.md"
    assert leads(page, "guide-bios.md#what-you-see")
    assert leads(page, "#keys")
    assert not leads(page, "guide-bios.md#what-you-hear")
    assert not leads(page, "guide-floppy.md")


def test_a_placeholder_stands_for_something() -> None:
    shown = "(XEN) Xen version 4.19\n  Station IP address is 192.0.2.9\n"
    assert unseen(["(XEN) Xen version ..."], shown) == []
    assert unseen(["Station IP address is ..."], shown) == []
    assert unseen(["Station IP address is"], shown) != []
    assert unseen(["(XEN) Xen version 4.19 ..."], shown) != []
