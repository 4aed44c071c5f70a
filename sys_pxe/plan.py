"""Boot plans: what one client gets, resolved before anything is rendered.

Pure: a site and the manifests of its channels in, plans out.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from sys_pxe.errors import InvalidInput
from sys_pxe.manifest import BOOT_ROLES, Artifact, Manifest, QubeSet
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

    @property
    def all_xen_options(self) -> tuple[str, ...]:
        """Xen's options; dom0's memory is fixed (no ballooning into tmpfs)."""
        size = self.dom0_mib
        return (f"dom0_mem={size}M,max:{size}M", *self.xen_options)

    @property
    def all_kernel_options(self) -> tuple[str, ...]:
        """The dom0 kernel's options."""
        return (*KERNEL_OPTIONS, *self.kernel_options)


@dataclass(frozen=True)
class BootFiles:
    """The digests of the files that the loader fetches.

    ``unified`` is that of the one file for UEFI; None where the release has no
    image with the options of the client's profile.
    """

    release: str
    serial: int
    xen: str
    kernel: str
    initramfs: str
    unified: str | None = None


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
        """Xen's options."""
        return self.settings.all_xen_options

    @property
    def kernel_options(self) -> tuple[str, ...]:
        """The dom0 kernel's options."""
        return self.settings.all_kernel_options


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


def xen_cfg(settings: Settings) -> bytes:
    """Return the configuration in a unified image: all options of a profile.

    The form is xen.efi's own (docs/misc/efi.pandoc of Xen). Nothing in it
    differs between clients of a profile, or between profiles with the same
    options: the server comes from DHCP, the profile from the signed site.
    """
    xen = " ".join(settings.all_xen_options)
    kernel = " ".join(settings.all_kernel_options)
    return (
        "[global]\ndefault=sys-pxe\n\n[sys-pxe]\n"
        f"options={xen}\nkernel=vmlinuz {kernel}\nramdisk=initramfs\n"
    ).encode("ascii")


def options_digest(settings: Settings) -> str:
    """Return the SHA-256 that names a profile's options in a manifest."""
    return hashlib.sha256(xen_cfg(settings)).hexdigest()


def unified(settings: Settings, release: Manifest) -> Artifact | None:
    """Return the unified image with a profile's options, None if none has."""
    wanted = options_digest(settings)
    for image in release.images:
        if image.options == wanted:
            return release.of_image(image)
    return None


def check_unified(settings: Settings, release: Manifest) -> None:
    """Raise InvalidInput where UEFI PCs of a profile have nothing to boot."""
    if unified(settings, release) is None:
        raise InvalidInput(
            f"release {release.release} has no unified image with the options "
            f"of profile {settings.profile}: its PCs boot by BIOS, not by UEFI",
            "an image is made for each profile's ram.dom0 and options when a "
            "release is built: build a release now, push it and set the "
            "channel to it",
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
    boot = boot_files(release, found) if release else None
    return BootPlan(name, mac, found, boot)


def boot_files(
    release: Manifest, settings: Settings | None = None
) -> BootFiles:
    """Return the digests of the boot files, each of which is one chunk.

    The loader fetches whole files by their digest; the store keeps chunks.
    ``settings`` choose the unified image; without them there is none.
    """
    own = [release.find(role) for role in BOOT_ROLES]
    for artifact in (*own, *map(release.of_image, release.images)):
        if len(artifact.digests) != 1:
            raise InvalidInput(
                f"release {release.release}: {artifact.name} has "
                f"{len(artifact.digests)} chunks (expected one, a loader "
                "fetches it whole)",
                "build the release again",
            )
    image = unified(settings, release) if settings is not None else None
    xen, kernel, initramfs = (artifact.digests[0] for artifact in own)
    return BootFiles(
        release=release.release,
        serial=release.serial,
        xen=xen,
        kernel=kernel,
        initramfs=initramfs,
        unified=image.digests[0] if image is not None else None,
    )
