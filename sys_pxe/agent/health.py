"""What 'sys-pxe doctor' wants to know of this qube. The daemon alone can say:
it has the capabilities, and dnsmasq's log.
"""

import json
import selectors
from collections.abc import Mapping
from pathlib import Path

from sys_pxe import run
from sys_pxe.agent import firewall
from sys_pxe.agent.bootfiles import BootFiles
from sys_pxe.agent.neighbours import Neighbours, mtu_of
from sys_pxe.agent.store import Store
from sys_pxe.errors import SysPxeError
from sys_pxe.manifest import Manifest
from sys_pxe.render import Server
from sys_pxe.site import Site

_TIMEOUT = 5.0
_NFT = ("nft", "--json", "list", "ruleset")


class Health:
    """The state of card, LAN, firewall and files, looked at when asked."""

    def __init__(
        self, selector: selectors.BaseSelector, store: Store, server: Server
    ) -> None:
        self._store = store
        self._server = server
        self._files = BootFiles()
        self.neighbours = Neighbours(selector, server.interface)

    def look(
        self,
        site: Site | None,
        served: Mapping[str, Manifest],
        now: float,
    ) -> dict[str, object]:
        """Return what is known now, and begin to ask the LAN.

        ``now`` is monotonic. What the LAN says is there for the next look.
        """
        mode = None
        if site is not None:
            mode = "server" if site.network.pool else "proxy"
            self.neighbours.ask(str(site.network.address.ip), now)
        return {
            "mtu": mtu_of(self._server.interface),
            "ports": _ports(self._server, mode),
            "dhcp": {"mode": mode, **self.neighbours.state(now)},
            "boot_files": self._files.rows(self._store, served),
        }


def _ports(server: Server, mode: str | None) -> list[dict[str, object]]:
    """Return each port that clients need, and whether it is open."""
    wanted = [("udp", 67), ("udp", 69), ("tcp", server.http_port)]
    if mode == "proxy":
        # what a proxy offered is asked for there, PXE 2.1
        wanted.append(("udp", 4011))
    rules = _ruleset()
    group = _group(server.interface)
    return [
        {
            "protocol": protocol,
            "port": port,
            "open": rules
            and rules.lets_in(
                firewall.Packet(server.interface, group, protocol, port)
            ),
        }
        for protocol, port in wanted
    ]


def _ruleset() -> firewall.Ruleset | None:
    """Return the firewall's rules; None where they cannot be seen."""
    try:
        found = run.run(_NFT, timeout=_TIMEOUT).stdout
        return firewall.Ruleset(json.loads(found))
    except (SysPxeError, ValueError):
        return None


def _group(interface: str) -> int:
    try:
        path = Path("/sys/class/net", interface, "netdev_group")
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return 0
