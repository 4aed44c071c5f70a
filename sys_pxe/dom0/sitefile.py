"""Reads ``site.yaml``: YAML with all that surprises taken out of it.

YAML 1.1 would read ``52:54:00:00:00:01`` as a number in base 60, ``1e3`` as a
float, ``no`` as false and a date as a time. Here a plain word is text; only
decimal numbers, ``true``, ``false`` and ``null`` have a type. Keys are text.
A key that stands twice, anchors, aliases, merge keys and tags are refused:
what is written is what counts.
"""

import re
from pathlib import Path

import yaml

from sys_pxe import files, names, site
from sys_pxe.document import DOCUMENT_MAX
from sys_pxe.errors import InvalidInput
from sys_pxe.site import Site

_DEPTH_MAX = 16
_TAG = "tag:yaml.org,2002:"
_PLAIN = (
    ("int", re.compile(r"(?:0|-?[1-9][0-9]{0,17})\Z"), "-0123456789"),
    ("bool", re.compile(r"(?:true|false)\Z"), "tf"),
    ("null", re.compile(r"(?:null|~|)\Z"), "n~"),
)


class _Loader(yaml.SafeLoader):
    """The loader; a YAMLError with a mark says what is wrong and where."""

    # not the resolvers of YAML 1.1
    depth = 0

    def compose_node(
        self, parent: yaml.Node | None, index: int
    ) -> yaml.Node | None:
        """Refuse what points elsewhere, names a type or nests deeply."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _problem("aliases are not allowed", event.start_mark)
        if getattr(event, "anchor", None) is not None:
            raise _problem("anchors are not allowed", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _problem("tags are not allowed", event.start_mark)
        if self.depth >= _DEPTH_MAX:
            raise _problem("nested too deeply", event.start_mark)
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_table(self, node: yaml.MappingNode) -> dict[str, object]:
        """Return a table whose keys are texts, each there once."""
        table: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem("a key must be a word", key_node.start_mark)
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                raise _problem(
                    "merge keys are not allowed", key_node.start_mark
                )
            if key in table:
                shown = names.printable(key, 60)
                raise _problem(
                    f"the key {shown!r} stands twice", key_node.start_mark
                )
            table[key] = self.construct_object(value_node, deep=True)
        return table


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, list(_first))
# an empty value has no first character
_Loader.add_implicit_resolver(_TAG + "null", _PLAIN[2][1], [""])
_Loader.add_constructor(_TAG + "map", _Loader.construct_table)


def _problem(text: str, mark: object) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=mark)  # type: ignore[arg-type]


def load(path: Path) -> tuple[object, Site]:
    """Return the checked data of a site file and the site that it is.

    Raises InvalidInput with file, line and column, or with the key's path.
    """
    data = parse(_content(path), path.name)
    return data, site.parse(data, path.name)


def read(path: Path) -> tuple[bytes, Site]:
    """Return the bytes of a site file and the site; raises as load does."""
    content = _content(path)
    return content, site.parse(parse(content, path.name), path.name)


def _content(path: Path) -> bytes:
    try:
        return files.read_capped(path, DOCUMENT_MAX)
    except FileNotFoundError:
        raise InvalidInput(
            f"{path} does not exist",
            "write it, or name the right file with --site",
        ) from None


def parse(untrusted: bytes, source: str) -> object:
    """Return the data of a YAML text, or raise InvalidInput."""
    try:
        text = untrusted.decode("utf-8")
    except UnicodeDecodeError as error:
        line = untrusted[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{source}: line {line}: not UTF-8") from None
    try:
        data: object = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _explained(error, source) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise InvalidInput(
            f"{source}: line {line}: a control character"
        ) from None
    return data


def _explained(error: yaml.MarkedYAMLError, source: str) -> InvalidInput:
    mark = error.problem_mark or error.context_mark
    place = f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    text = error.problem or error.context or "not YAML"
    if text.startswith("but ") and error.context:
        text = f"{error.context}, {text}"
    hint = ""
    if "'\\t'" in text:
        hint = "indent with spaces, not with tabs"
    elif "not allowed" in text:
        hint = "write the values out"
    return InvalidInput(f"{source}{place}: {names.printable(text, 200)}", hint)
