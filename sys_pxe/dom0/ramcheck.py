"""Warnings before PCs are restarted: where RAM will not do. Pure."""

from collections.abc import Mapping

from sys_pxe import plan, ram
from sys_pxe.errors import SysPxeError
from sys_pxe.manifest import Manifest
from sys_pxe.ram import RamPlan
from sys_pxe.site import Site


def plans(site: Site, active: Mapping[str, Manifest]) -> dict[str, RamPlan]:
    """Return profile -> RAM plan, of the profiles that a client uses and
    whose channel names a release; ``active`` is channel -> manifest."""
    used = {client.profile for client in site.clients.values()}
    if site.unknown_clients is not None:
        used.add(site.unknown_clients)
    found = {}
    for name in sorted(used):
        settings = plan.settings(site, name)
        if settings.channel in active:
            found[name] = ram.plan(settings, active[settings.channel])
    return found


def warnings(site: Site, active: Mapping[str, Manifest]) -> list[str]:
    """Return a line for each profile whose dom0 has too little RAM."""
    found = []
    for one in plans(site, active).values():
        try:
            ram.check_profile(one)
        except SysPxeError as error:
            found.append(f"{error.message}; {error.hint}")
    return found
