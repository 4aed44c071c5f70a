"""Adds a client to the text of ``site.yaml``, and touches nothing else. Pure.

The file is a person's, with comments and an order of its own. One line is put
below the last client; what the new text says is then read again and compared,
and a file that is written in another way is left to its owner.
"""

import re

import yaml

from sys_pxe import names, site
from sys_pxe.dom0 import sitefile
from sys_pxe.errors import InvalidInput
from sys_pxe.site import Client

_KEY = "clients"
_INDENT = "  "


def line(client: Client) -> str:
    """Return the client as one line of ``clients``, without indent."""
    values = {"mac": client.mac, "profile": client.profile}
    parts = ", ".join(f"{key}: {_word(text)}" for key, text in values.items())
    return f"{_word(client.name)}: {{{parts}}}"


def _word(text: str) -> str:
    """Return a checked name or MAC; in quotes where YAML reads a number."""
    plain = not re.fullmatch(r"[0-9]+|true|false|null", text)
    return text if plain else f'"{text}"'


def with_client(content: bytes, client: Client, source: str) -> bytes:
    """Return the text of a site file with one more client.

    Raises InvalidInput for a file that is no site, and for one that this
    cannot change without touching more than a line.
    """
    before = sitefile.parse(content, source)
    known = site.parse(before, source)
    if client.name in known.clients:
        raise InvalidInput(
            f"{source}: {client.name} is a client already",
            "choose another name, or change that line by hand",
        )
    text = content.decode("utf-8")
    found = _edited(text, client)
    if found is None or not _is_one_more(before, found, client, source):
        raise InvalidInput(
            f"{source}: its {_KEY} are not written one below the other, so "
            "nothing was changed",
            f"add this yourself: {line(client)}",
        )
    site.parse(sitefile.parse(found, source), source)
    return found


def _edited(text: str, client: Client) -> bytes | None:
    """Return the text with one line more, None where there is no place."""
    root = yaml.compose(text, sitefile._Loader)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return None
    ending = "\r\n" if "\r\n" in text else "\n"
    found = [value for key, value in root.value if key.value == _KEY]
    if not found:
        lines = text.splitlines(keepends=True)
        lines += [*_closed(lines, ending), f"{_KEY}:{ending}"]
        row, indent = len(lines), _INDENT
    elif not isinstance(value := found[0], yaml.MappingNode):
        return None
    elif not value.value:  # {}
        begin, end = value.start_mark, value.end_mark
        if text[begin.index : end.index].strip("{} "):
            return None  # a comment, or lines of their own
        text = text[: begin.index].rstrip(" ") + text[end.index :]
        lines = text.splitlines(keepends=True)
        row, indent = begin.line + 1, _INDENT
    elif not value.flow_style:
        lines = text.splitlines(keepends=True)
        row = _last_row(value) + 1
        indent = " " * value.value[0][0].start_mark.column
    else:
        return None
    head, tail = lines[:row], lines[row:]
    new = f"{indent}{line(client)}{ending}"
    return "".join([*head, *_closed(head, ending), new, *tail]).encode("utf-8")


def _closed(lines: list[str], ending: str) -> list[str]:
    """Return the line ending that the last of these lines lacks."""
    return [ending] if lines and not lines[-1].endswith("\n") else []


def _last_row(node: yaml.Node) -> int:
    """Return the row of a value's last character.

    The end mark of a block is where the next thing begins, after comments.
    """
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _last_row(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.line)


def _is_one_more(
    before: object, found: bytes, client: Client, source: str
) -> bool:
    """Whether a text says what was said before, and the client."""
    try:
        after = sitefile.parse(found, source)
    except InvalidInput:
        return False
    if not isinstance(before, dict):
        return False
    added = {"mac": client.mac, "profile": client.profile}
    clients = {**(before.get(_KEY) or {}), client.name: added}
    return after == {**before, _KEY: clients}


def named(name: str, mac: str, profile: str, known: site.Site) -> Client:
    """Return a new client of these words; InvalidInput when one is wrong."""
    names.parse_name(name, "NAME")
    found = names.parse_mac(mac, "--from-seen")
    if profile not in known.profiles:
        raise InvalidInput(
            f"--profile: {names.printable(profile, 60)!r} is not a profile of "
            "the site",
            f"one of: {', '.join(known.profiles) or 'none is defined'}",
        )
    if has := known.by_mac(found):
        raise InvalidInput(
            f"--from-seen: {found} is the client {has.name} already",
            "'sys-pxe client show' shows what it gets",
        )
    return Client(name, found, profile)
