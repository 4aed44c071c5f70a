"""The ``sys-pxe`` command: noun, then verb.

Exit codes: 0 done, 1 failed, 2 usage, 3 invalid input, 4 verification failed,
5 busy, 130 stopped by Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sys_pxe.dom0 import (
    cmd_channel,
    cmd_client,
    cmd_doctor,
    cmd_key,
    cmd_media,
    cmd_plan,
    cmd_release,
    cmd_site,
    cmd_status,
)
from sys_pxe.dom0.context import SITE_FILE, STATE_FOLDER, Context
from sys_pxe.dom0.parsing import Nouns, Parser
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.state import State
from sys_pxe.dom0.transport import ENVIRONMENT
from sys_pxe.errors import SysPxeError

INTERRUPTED = 130
_NOUNS = (
    *(cmd_key, cmd_release, cmd_channel, cmd_client, cmd_site, cmd_media),
    *(cmd_plan, cmd_status, cmd_doctor),
)


def parser() -> Parser:
    """Return the parser of the whole command line."""
    top = Parser(
        prog="sys-pxe",
        description="Qubes OS for rooms of PCs that have no disk.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 invalid input, "
        "4 verification failed, 5 busy.",
    )
    top.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        default=STATE_FOLDER,
        help="keys and releases (default: %(default)s)",
    )
    top.add_argument(
        "--site",
        metavar="FILE",
        type=Path,
        default=SITE_FILE,
        help="the site file (default: %(default)s)",
    )
    top.add_argument(
        "--transport",
        metavar="SPEC",
        default=os.environ.get(ENVIRONMENT),
        help="how to reach the sys-pxe qube: qubes[:QUBE] from dom0, "
        "qrexec[:QUBE] from a qube, local:FOLDER for an agent on this machine "
        f"(default: {ENVIRONMENT} in the environment, else by where it runs)",
    )
    top.add_argument("--quiet", action="store_true", help="show no progress")
    top.add_argument(
        "--debug", action="store_true", help="show where an error came from"
    )
    nouns = Nouns(top.add_subparsers(metavar="NOUN", required=True))
    for module in _NOUNS:
        module.add(nouns)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in given
    try:
        args = parser().parse_args(given)
        args.handler(_context(args), args)
        sys.stdout.flush()
    except SysPxeError as error:
        if debug:
            raise
        return _complain(error)
    except KeyboardInterrupt:
        sys.stderr.write("\nsys-pxe: stopped\n")
        return INTERRUPTED
    except SystemExit as end:  # argparse after --help
        return end.code if isinstance(end.code, int) else 1
    except BrokenPipeError:
        # the reader of our output has gone; nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        return _complain(_unexpected(error))
    return 0


def _context(args: argparse.Namespace) -> Context:
    return Context(
        state=State(args.state),
        site_file=args.site,
        transport_spec=args.transport,
        reporter=Reporter(quiet=args.quiet),
        json=getattr(args, "json", False),
    )


def _unexpected(error: Exception) -> SysPxeError:
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        hint = "call it with sudo" if isinstance(error, PermissionError) else ""
        return SysPxeError(f"{place}{error.strerror}", hint)
    return SysPxeError(
        f"unexpected {type(error).__name__}: {error}",
        "this is a fault of sys-pxe; --debug shows where it happened",
    )


def _complain(error: SysPxeError) -> int:
    sys.stderr.write(f"sys-pxe: error: {error.explain()}\n")
    return error.exit_code
