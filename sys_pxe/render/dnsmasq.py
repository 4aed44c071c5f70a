"""dnsmasq's part: addresses, who is answered, and which loader whom. Pure.

A client is known to dnsmasq by a tag made from its name. The name itself never
stands alone in a ``dhcp-host`` line: dnsmasq would take some names for an
address, a lease time or the word ``ignore`` (dnsmasq(8), --dhcp-host).
"""

from dataclasses import dataclass

from sys_pxe import loaders
from sys_pxe.loaders import Loaders
from sys_pxe.render.engine import fill
from sys_pxe.render.server import Server
from sys_pxe.site import Client, Site

# Client architecture (option 93, RFC 4578 2.1 and IANA's list): tag, firmware.
# By number: dnsmasq's names for 7 and 9 changed places once.
ARCHITECTURES = {0: ("bios", "bios"), 7: ("efi7", "uefi"), 9: ("efi9", "uefi")}
# x86-64 UEFI that boots by HTTP; only with the vendor class HTTPClient
HTTP_ARCHITECTURE = (16, "efi16")
# dnsmasq's own limit is 50; each takes a socket, of the usual 1024 files
TFTP_MAX = 600
FIRMWARES = {"bios": loaders.BIOS, "uefi": loaders.UEFI}


@dataclass(frozen=True)
class Choice:
    """A loader's file, and the tag or missing tag of who gets it."""

    condition: str
    file: str


def choices(firmware: str) -> list[Choice]:
    """Return a firmware's loaders: the default's, and the other with a tag."""
    default, *others = FIRMWARES[firmware].items()
    return [
        Choice(",".join(f"tag:!{firmware}-{w}" for w, _ in others), default[1]),
        *(Choice(f"tag:{firmware}-{word}", file) for word, file in others),
    ]


def loader_tags(chosen: Loaders) -> list[str]:
    """Return the tags of who gets other loaders than the default."""
    return [
        f"{firmware}-{word}"
        for firmware, word in (("bios", chosen.bios), ("uefi", chosen.uefi))
        if word is not None and word != next(iter(FIRMWARES[firmware]))
    ]


def tag(client: Client) -> str:
    """Return the tag that dnsmasq knows a client by."""
    return f"c-{client.name}"


def host(site: Site, client: Client) -> str:
    """Return a client's line of the hosts file."""
    chosen = site.loaders(client.profile, client.loader)
    tags = [tag(client), *loader_tags(chosen)]
    parts = [client.mac, *(f"set:{t}" for t in tags)]
    if client.address is not None:
        parts.append(str(client.address))
    return ",".join(parts)


def hosts(site: Site) -> str:
    """Return the hosts file: dnsmasq reads it anew on SIGHUP."""
    lines = [host(site, client) for _, client in sorted(site.clients.items())]
    return "".join(f"{line}\n" for line in lines)


def configuration(site: Site, server: Server) -> str:
    """Return the main file: dnsmasq has to be restarted for a new one."""
    unknown = site.unknown_clients
    return fill(
        "dnsmasq.conf.j2",
        server=server,
        url=server.url(site),
        address=site.network.address.ip,
        network=site.network.address.network,
        pool=site.network.pool,
        architectures=[
            (number, arch, choices(firmware))
            for number, (arch, firmware) in ARCHITECTURES.items()
        ],
        tftp_max=TFTP_MAX,
        http=HTTP_ARCHITECTURE,
        http_choices=choices("uefi"),
        refuse=unknown is None,
        unknown_tags=loader_tags(site.loaders(unknown)) if unknown else [],
        tags={c.name: tag(c) for _, c in sorted(site.clients.items())},
    )
