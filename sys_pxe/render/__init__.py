"""What a site becomes for dnsmasq, nginx and iPXE: plans in, text out. Pure.

Shared, as the agent writes these files and ``sys-pxe client render`` in dom0
shows them.
"""

from collections.abc import Mapping

from sys_pxe import plan
from sys_pxe.errors import InvalidInput
from sys_pxe.manifest import Manifest
from sys_pxe.render import dnsmasq, ipxe, nginx
from sys_pxe.render.server import Server
from sys_pxe.site import Site

UNKNOWN = "unknown"

__all__ = ["UNKNOWN", "Server", "client_files", "everything"]


def everything(
    site: Site, active: Mapping[str, Manifest], server: Server
) -> dict[str, str]:
    """Return path -> text of all files of a site.

    ``active`` is channel -> active manifest. Raises InvalidInput when a client
    has the name that is kept for PCs that the site does not know.
    """
    if UNKNOWN in site.clients:
        raise InvalidInput(
            f"site: clients.{UNKNOWN}: this name is kept for PCs that the "
            "site does not know",
            "give the client another name",
        )
    files = {
        "dnsmasq.conf": dnsmasq.configuration(site, server),
        "dnsmasq.hosts": dnsmasq.hosts(site),
        "nginx.conf": nginx.configuration(site, server),
        f"ipxe/{UNKNOWN}.ipxe": ipxe.refusal(site, server),
    }
    for one in plan.all_plans(site, active):
        files[f"ipxe/{one.client}.ipxe"] = ipxe.script(one, site, server)
    return files


def client_files(
    site: Site, name: str, active: Mapping[str, Manifest], server: Server
) -> dict[str, str]:
    """Return path -> text of what one client alone gets: script, DHCP line."""
    client = site.clients[name]
    one = plan.boot_plan(site, client, active)
    return {
        "dnsmasq.hosts": dnsmasq.host(site, client) + "\n",
        f"ipxe/{name}.ipxe": ipxe.script(one, site, server),
    }
