"""dnsmasq's part: addresses, who is answered, and which loader whom. Pure.

A client is known to dnsmasq by a tag made from its name. The name itself never
stands alone in a ``dhcp-host`` line: dnsmasq would take some names for an
address, a lease time or the word ``ignore`` (dnsmasq(8), --dhcp-host).
"""

from sys_pxe.render.engine import fill
from sys_pxe.render.server import Server
from sys_pxe.site import Client, Site

# Client architecture (option 93, RFC 4578 2.1 and IANA's list): tag, loader in
# the TFTP folder. By number: dnsmasq's names for 7 and 9 changed places once.
LOADERS = {
    0: ("bios", "undionly.kpxe"),
    7: ("efi7", "snponly.efi"),
    9: ("efi9", "snponly.efi"),
}


def tag(client: Client) -> str:
    """Return the tag that dnsmasq knows a client by."""
    return f"c-{client.name}"


def host(client: Client) -> str:
    """Return a client's line of the hosts file."""
    parts = [client.mac, f"set:{tag(client)}"]
    if client.address is not None:
        parts.append(str(client.address))
    return ",".join(parts)


def hosts(site: Site) -> str:
    """Return the hosts file: dnsmasq reads it anew on SIGHUP."""
    lines = [host(client) for _, client in sorted(site.clients.items())]
    return "".join(f"{line}\n" for line in lines)


def configuration(site: Site, server: Server) -> str:
    """Return the main file: dnsmasq has to be restarted for a new one."""
    return fill(
        "dnsmasq.conf.j2",
        server=server,
        url=server.url(site),
        address=site.network.address.ip,
        network=site.network.address.network,
        pool=site.network.pool,
        loaders=LOADERS,
        refuse=site.unknown_clients is None,
        tags={c.name: tag(c) for _, c in sorted(site.clients.items())},
    )
