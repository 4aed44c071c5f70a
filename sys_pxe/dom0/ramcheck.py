"""Warnings before PCs are restarted: where RAM will not do. Pure."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from sys_pxe import plan, ram
from sys_pxe.dom0.answer_status import RemoteClient
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Manifest
from sys_pxe.ram import RamPlan
from sys_pxe.site import Site

CLIENTS_SHOWN = 20


def plans(site: Site, active: Mapping[str, Manifest]) -> dict[str, RamPlan]:
    """Return profile -> RAM plan, of the profiles that a client uses and
    whose channel names a release; ``active`` is channel -> manifest."""
    found = {}
    for name in site.used_profiles:
        try:
            settings = plan.settings(site, name)
            if settings.channel in active:
                found[name] = ram.plan(settings, active[settings.channel])
        except InvalidInput:
            continue  # no channel, root or set: who uses them refuses them
    return found


def lacking_sets(site: Site, active: Mapping[str, Manifest]) -> list[str]:
    """Return a line for each profile whose release lacks its set of qubes, or
    a unified image with its options, though it has some for others."""
    found: list[str] = []
    for name in site.used_profiles:
        try:
            settings = plan.settings(site, name)
        except InvalidInput:
            continue
        release = active.get(settings.channel)
        if release is not None:
            found += _said(partial(plan.qube_set, settings, release))
            # one without any was built for BIOS alone, which the build said
            if release.images:
                found += _said(partial(plan.check_unified, settings, release))
    return found


def warnings(
    site: Site,
    active: Mapping[str, Manifest],
    reports: Iterable[RemoteClient] = (),
) -> list[str]:
    """Return a line for each profile whose release lacks its qubes or image, or
    whose dom0 has too little RAM, and for each client whose last report shows
    too little for its profile."""
    found = lacking_sets(site, active)
    known = plans(site, active)
    for one in known.values():
        found += _said(partial(ram.check_profile, one))
    lacking: list[str] = []
    for report in sorted(reports, key=lambda r: (r.client or "", r.mac)):
        client = site.by_mac(report.mac)
        profile = client.profile if client else site.unknown_clients
        name = client.name if client else report.mac
        plan_of = known.get(profile or "")
        # a profile that is too small was told of above
        if plan_of is not None and plan_of.fits_dom0:
            said = _said(partial(_check, plan_of, report))
            lacking += [f"{name}: {text}" for text in said]
    more = len(lacking) - CLIENTS_SHOWN
    if more > 0:
        lacking[CLIENTS_SHOWN:] = [f"and {more} more clients have too little"]
    return found + lacking


def _said(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except SysPxeError as error:
        return [f"{error.message}; {error.hint}"]
    return []


def _check(found: RamPlan, report: RemoteClient) -> None:
    """Raise SysPxeError if a report shows too little RAM for a plan.

    What its dom0 had counts only where the RAM of the PC is not known: it was
    what its profile gave it then.
    """
    if report.pc_mib is not None:
        ram.check_pc(found, report.pc_mib)
    elif report.dom0_mib is not None:
        ram.check_dom0(
            found,
            report.dom0_mib,
            hint="so it was at its last boot; put more RAM into the PC, unless "
            "ram.dom0 was raised since then",
        )
