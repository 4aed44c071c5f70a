"""The static iPXE script of a client: multiboot on BIOS, one file on UEFI.

Pure. Values come from checked types only: no word in them holds a space, a
quote or one of iPXE's ``${}|&``.
"""

from sys_pxe.plan import BootPlan
from sys_pxe.render.engine import fill
from sys_pxe.render.server import Server
from sys_pxe.site import Site

TRIES = 5
PAUSE = 10
REBOOT_PAUSE = 60


def script(plan: BootPlan, site: Site, server: Server) -> str:
    """Return the script that boots a client, or says why it cannot."""
    return fill(
        "client.ipxe.j2" if plan.boot else "waiting.ipxe.j2",
        plan=plan,
        boot=plan.boot,
        url=server.url(site),
        tries=TRIES,
        pause=PAUSE,
        reboot_pause=REBOOT_PAUSE,
    )


def refusal(site: Site, server: Server) -> str:
    """Return the script for a PC that the site does not name."""
    return fill(
        "refused.ipxe.j2", url=server.url(site), reboot_pause=REBOOT_PAUSE
    )
