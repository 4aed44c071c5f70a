"""nginx's part: exact URLs, static files, one small POST. Pure."""

from sys_pxe import loaders
from sys_pxe.render.engine import fill
from sys_pxe.render.server import Server
from sys_pxe.site import Site

REPORT_MAX = 4096
# of each worker; the system's limit of open files has to allow twice as many
CONNECTIONS = 4096
# of one address at a time
CONNECTIONS_OF_ONE = 32


def configuration(
    site: Site, server: Server, untaken_socket: str | None = None
) -> str:
    """Return nginx's configuration.

    ``untaken_socket`` is a path of a Unix socket to listen on instead: for
    ``nginx -t``, which binds what it checks, and may run where the LAN's
    address is not.
    """
    return fill(
        "nginx.conf.j2",
        server=server,
        network=site.network.address.network,
        listen=f"{site.network.address.ip}:{server.http_port}"
        if untaken_socket is None
        else f"unix:{untaken_socket}",
        loaders=tuple(loaders.UEFI.values()),
        report_max=REPORT_MAX,
        connections=CONNECTIONS,
        connections_of_one=CONNECTIONS_OF_ONE,
    )
