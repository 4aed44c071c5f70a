"""Where and as whom the agent serves: what a rendering needs beside the site.

These values come from the agent's command line, never from the network. Pure.
"""

import re
from dataclasses import dataclass

from sys_pxe.errors import InvalidInput
from sys_pxe.site import Site


@dataclass(frozen=True)
class Server:
    """The server's side of a rendering; the defaults are the qube's.

    ``root`` is the agent's folder; dnsmasq and nginx run as ``user`` and
    ``group``, the agent's own; ``ipv6`` says whether this kernel has IPv6.
    Raises InvalidInput for words that would have a meaning of their own in a
    configuration file.
    """

    root: str = "/var/lib/sys-pxe"
    interface: str = "eth0"
    http_port: int = 80
    user: str = "sys-pxe"
    group: str = "sys-pxe"
    ipv6: bool = True

    def __post_init__(self) -> None:
        for value, pattern, what in (
            (self.root, r"/[A-Za-z0-9/_.-]{1,200}", "folder"),
            (self.interface, r"[A-Za-z][A-Za-z0-9_.-]{0,14}", "interface"),
            (self.user, r"[a-z_][a-z0-9_-]{0,31}", "user"),
            (self.group, r"[a-z_][a-z0-9_-]{0,31}", "group"),
        ):
            if not re.fullmatch(pattern, value):
                raise InvalidInput(
                    f"{value[:60]!r} is not a {what} that the configuration "
                    "of dnsmasq and nginx can hold (expected letters, digits "
                    "and _.-)"
                )
        if not 1 <= self.http_port <= 65535:
            raise InvalidInput(f"{self.http_port} is not a TCP port")

    def url(self, site: Site) -> str:
        """Return the start of every URL, without a slash at its end."""
        port = "" if self.http_port == 80 else f":{self.http_port}"
        return f"http://{site.network.address.ip}{port}"
