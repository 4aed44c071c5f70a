"""The command line as data, read from its own parser."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from sys_pxe.dom0 import cli


@dataclass(frozen=True)
class Command:
    """One command: option -> its metavar ("" for a switch), and arguments."""

    options: dict[str, str]
    arguments: tuple[str, ...]
    below: tuple[str, ...]
    defaults: dict[str, str]


def _command(parser: argparse.ArgumentParser) -> Command:
    options, defaults = {}, {}
    arguments: list[str] = []
    below: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below += action.choices
        elif not action.option_strings:
            arguments.append(str(action.metavar))
        elif action.dest != "help":
            (option,) = action.option_strings
            takes = action.nargs != 0
            options[option] = str(action.metavar) if takes else ""
            if takes and action.default is not None:
                defaults[option] = str(action.default)
    return Command(options, tuple(arguments), tuple(below), defaults)


def _walk(
    parser: argparse.ArgumentParser, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Command]]:
    yield words, _command(parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from _walk(child, (*words, name))


def commands() -> dict[tuple[str, ...], Command]:
    """Return words -> command; () is the top, ("key",) a noun with verbs."""
    return dict(_walk(cli.parser(), ()))
