"""The frame of the command line: nouns, verbs, and what each one runs."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from sys_pxe.dom0.context import Context
from sys_pxe.errors import UsageError

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction["Parser"]

Args = argparse.Namespace
Handler = Callable[[Context, Args], None]


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError, so that only ``main`` exits."""

    def error(self, message: str) -> NoReturn:
        """Raise the UsageError for a wrong call."""
        raise UsageError(message, f"see '{self.prog} --help'")


@dataclass(frozen=True)
class Nouns:
    """The top of the command line, where modules add their noun."""

    below: "Verbs"

    def noun(self, name: str, text: str) -> "Verbs":
        """Add a noun and return the place for its verbs."""
        parser = self.below.add_parser(name, help=text, description=text)
        return parser.add_subparsers(metavar="VERB", required=True)


def only(nouns: Nouns, name: str, text: str, handler: Handler) -> Parser:
    """Add a noun that has no verbs and only reads; it has --json."""
    return reader(nouns.below, name, text, handler)


def verb(verbs: "Verbs", name: str, text: str, handler: Handler) -> Parser:
    """Add a verb that changes something and return its parser."""
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(handler=handler)
    return parser


def reader(verbs: "Verbs", name: str, text: str, handler: Handler) -> Parser:
    """Add a verb that reads; it has --json."""
    parser = verb(verbs, name, text, handler)
    parser.add_argument(
        "--json", action="store_true", help="print JSON, for programs"
    )
    return parser
