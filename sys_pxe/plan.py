"""Boot plans: what one client gets, resolved before anything is rendered.

Pure: a site and the manifests of its channels in, plans out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sys_pxe.errors import InvalidInput
from sys_pxe.manifest import BOOT_ROLES, Manifest, QubeSet
from sys_pxe.site import Client, Profile, Site

DEFAULT_DOM0_MIB = 4096
DEFAULT_OVERLAY_MIB = 256
DEFAULT_POOL_MIB = 1024
_QUBES_SHOWN = 10

# No disk is looked at, resumed from or unlocked, and no root shell is given:
# systemd-gpt-auto-generator(8), dracut.cmdline(7).
KERNEL_OPTIONS = (
    *("rd.systemd.gpt_auto=0", "systemd.gpt_auto=0", "rd.luks=0", "rd.lvm=0"),
    *("rd.md=0", "rd.dm=0", "noresume", "rd.shell=0", "rd.emergency=reboot"),
    # the client program speaks to the person at the PC, systemd of failures
    *("quiet", "rd.systemd.show_status=error"),
)


@dataclass(frozen=True)
class Settings:
    """A profile with all that it inherits. RAM sizes are in MiB."""

    profile: str
    channel: str
    qubes: tuple[str, ...]
    dom0_mib: int
    overlay_mib: int
    pool_mib: int
    xen_options: tuple[str, ...]
    kernel_options: tuple[str, ...]
    storage_visible: bool


@dataclass(frozen=True)
class BootFiles:
    """The digests of the files that the loader fetches."""

    release: str
    serial: int
    xen: str
    kernel: str
    initramfs: str


@dataclass(frozen=True)
class BootPlan:
    """What one client gets; ``mac`` is None for unknown clients.

    ``boot`` is None while the client's channel names no release.
    """

    client: str
    mac: str | None
    settings: Settings
    boot: BootFiles | None

    @property
    def xen_options(self) -> tuple[str, ...]:
        """Xen's options; dom0's memory is fixed (no ballooning into tmpfs)."""
        size = self.settings.dom0_mib
        return (f"dom0_mem={size}M,max:{size}M", *self.settings.xen_options)

    @property
    def kernel_options(self) -> tuple[str, ...]:
        """The dom0 kernel's options."""
        return (*KERNEL_OPTIONS, *self.settings.kernel_options)


def settings(site: Site, profile: str) -> Settings:
    """Return a profile's settings: single values from the nearest profile
    that has one; qubes and options of all, those of the farthest first."""
    line = site.ancestry(profile)
    channel = _nearest(line, "channel")
    if not isinstance(channel, str):
        raise InvalidInput(f"site: profiles.{profile}.channel: missing")
    dom0 = _nearest(line, "dom0_mib")
    overlay = _nearest(line, "overlay_mib")
    pool = _nearest(line, "pool_mib")
    back = list(reversed(line))
    return Settings(
        profile=profile,
        channel=channel,
        qubes=tuple(dict.fromkeys(q for p in back for q in p.qubes)),
        dom0_mib=dom0 if isinstance(dom0, int) else DEFAULT_DOM0_MIB,
        overlay_mib=overlay
        if isinstance(overlay, int)
        else DEFAULT_OVERLAY_MIB,
        pool_mib=pool if isinstance(pool, int) else DEFAULT_POOL_MIB,
        xen_options=tuple(o for p in back for o in p.xen_options),
        kernel_options=tuple(o for p in back for o in p.kernel_options),
        storage_visible=bool(_nearest(line, "storage_visible")),
    )


def _nearest(line: list[Profile], field: str) -> str | int | bool | None:
    for profile in line:
        value: str | int | bool | None = getattr(profile, field)
        if value is not None:
            return value
    return None


def qube_set(settings: Settings, release: Manifest) -> QubeSet | None:
    """Return the set that has a profile's qubes, no more and no fewer.

    None for a profile without qubes. Raises InvalidInput when the release was
    built without such a set.
    """
    if not settings.qubes:
        return None
    wanted = tuple(sorted(settings.qubes))
    for one in release.sets:
        if one.qubes == wanted:
            return one
    shown = ", ".join(wanted[:_QUBES_SHOWN])
    raise InvalidInput(
        f"release {release.release} has no set of the qubes of profile "
        f"{settings.profile}: {shown}"
        + (", ..." if len(wanted) > _QUBES_SHOWN else ""),
        "a set is made for each profile when a release is built: build a "
        "release now, push it and set the channel to it",
    )


def boot_plan(
    site: Site, client: Client, active: Mapping[str, Manifest]
) -> BootPlan:
    """Return a client's plan; ``active`` is channel -> active manifest."""
    return _plan(site, client.name, client.mac, client.profile, active)


def unknown_plan(site: Site, active: Mapping[str, Manifest]) -> BootPlan | None:
    """Return the plan of clients that the site does not name, or None."""
    if site.unknown_clients is None:
        return None
    return _plan(site, "unknown", None, site.unknown_clients, active)


def all_plans(site: Site, active: Mapping[str, Manifest]) -> list[BootPlan]:
    """Return every plan of a site, in the order of the clients' names."""
    plans = [
        boot_plan(site, client, active)
        for _, client in sorted(site.clients.items())
    ]
    unknown = unknown_plan(site, active)
    return [*plans, unknown] if unknown else plans


def _plan(
    site: Site,
    name: str,
    mac: str | None,
    profile: str,
    active: Mapping[str, Manifest],
) -> BootPlan:
    found = settings(site, profile)
    release = active.get(found.channel)
    return BootPlan(name, mac, found, boot_files(release) if release else None)


def boot_files(release: Manifest) -> BootFiles:
    """Return the digests of the boot files, each of which is one chunk.

    The loader fetches whole files by their digest; the store keeps chunks.
    """
    digests = []
    for role in BOOT_ROLES:
        artifact = release.find(role)
        if len(artifact.digests) != 1:
            raise InvalidInput(
                f"release {release.release}: {artifact.name} has "
                f"{len(artifact.digests)} chunks (expected one, a loader "
                "fetches it whole)",
                "build the release again",
            )
        digests.append(artifact.digests[0])
    return BootFiles(release.release, release.serial, *digests)
