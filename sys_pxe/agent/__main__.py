"""``python3 -m sys_pxe.agent --root DIR run``: the daemon's command line."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from sys_pxe.agent import apply, loaders
from sys_pxe.agent.daemon import Daemon
from sys_pxe.agent.store import Store
from sys_pxe.errors import SysPxeError

DEFAULT_ROOT = "/var/lib/sys-pxe"


def _log(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sys-pxe-agent",
        description="Serve releases to PCs that boot from the network.",
    )
    parser.add_argument(
        "--root", default=DEFAULT_ROOT, help="the agent's folder"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="serve until SIGTERM or Ctrl-C")
    run.add_argument(
        "--interface", help="the LAN's network interface (default: as last)"
    )
    run.add_argument(
        "--http-port", type=int, help="nginx's TCP port (default: as last, 80)"
    )
    run.add_argument(
        "--loaders", help="the folder that iPXE's loaders are taken from"
    )
    return parser


def _serve(options: argparse.Namespace) -> None:
    store = Store(Path(options.root))
    store.prepare()
    before = apply.load_server(store)
    server = replace(
        before,
        interface=options.interface or before.interface,
        http_port=options.http_port or before.http_port,
    )
    apply.save_server(store, server)
    folders = (options.loaders,) if options.loaders else loaders.FOLDERS
    loaders.install(store, folders, _log)
    Daemon(store, server, _log).run()


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon; returns the exit status."""
    try:
        _serve(_parser().parse_args(arguments))
    except SysPxeError as error:
        _log(error.explain())
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
