"""The RAM plan: what takes a client's RAM, at boot and at the limit.

Whether a release fits is decided here and nowhere else: for ``sys-pxe plan``,
for ``site check``, and in the client before the download. Pure; all sizes are
in MiB. What takes RAM in dom0 is one more row in ``plan``.
"""

from dataclasses import dataclass

from sys_pxe import names
from sys_pxe.errors import SysPxeError
from sys_pxe.manifest import SET_ROLES, Manifest, Role
from sys_pxe.plan import Settings, qube_set

MIB = 1 << 20
# Measured in the lab: userspace of a dom0 without qubes, its peak at boot too.
RUNNING_MIB = 320
# What of dom0_mem never shows up in MemTotal: the kernel, its page structs and
# page tables. Measured with Linux 6.12 (Debian 13) as a PV dom0: 114 MiB of
# 384, 139 MiB of 1536; rounded up to a fixed part and a share.
KERNEL_FIXED_MIB = 112
KERNEL_SHARE = 40
# What Xen sets aside for DMA buffers where it sizes dom0 itself (dom0_mem in
# xen-command-line), and its tables, per page of 4 KiB: 32 bytes of page_info,
# 12 of M2P, 8 of IOMMU table; 52/4096 is less than 1/64.
XEN_FIXED_MIB = 128
XEN_SHARE = 64
# What the pool takes beside what is written to it: zram's table (16 bytes a
# page) and what its allocator loses (measured: 32 MiB written took 32.8 MiB);
# at boot that table and btrfs' own trees.
POOL_SHARE = 32


@dataclass(frozen=True)
class Part:
    """One row of a plan: what a part takes at boot, and at most."""

    name: str
    boot_mib: int
    limit_mib: int


@dataclass(frozen=True)
class RamPlan:
    """What a release takes with the settings of a profile.

    ``dom0_mib`` is dom0_mem; ``parts`` share what its kernel leaves of it.
    """

    profile: str
    release: str
    dom0_mib: int
    parts: tuple[Part, ...]
    qubes_boot_mib: int = 0
    qubes_all_mib: int = 0

    @property
    def need_mib(self) -> int:
        """What all parts need at the limit, to be compared with MemTotal."""
        return sum(part.limit_mib for part in self.parts)

    @property
    def kernel_mib(self) -> int:
        """What dom0's kernel keeps for itself."""
        return KERNEL_FIXED_MIB + _up(self.dom0_mib, KERNEL_SHARE)

    @property
    def have_mib(self) -> int:
        """What dom0's kernel leaves of dom0_mem: MemTotal, or a bit less."""
        return max(self.dom0_mib - self.kernel_mib, 0)

    @property
    def fits_dom0(self) -> bool:
        """Whether all parts fit into the profile's dom0_mem."""
        return self.have_mib >= self.need_mib

    @property
    def least_dom0_mib(self) -> int:
        """The smallest dom0_mem in which all parts fit."""
        return _holding(self.need_mib, KERNEL_FIXED_MIB, KERNEL_SHARE)

    @property
    def smallest_mib(self) -> int:
        """The smallest PC whose RAM holds Xen, the whole of dom0_mem, and the
        qubes that start with the system."""
        content = self.dom0_mib + self.qubes_boot_mib
        return _holding(content, XEN_FIXED_MIB, XEN_SHARE)

    @property
    def smallest_for_all_mib(self) -> int:
        """The smallest PC on which all qubes can run at once."""
        content = self.dom0_mib + self.qubes_all_mib
        return _holding(content, XEN_FIXED_MIB, XEN_SHARE)

    def left_mib(self, pc_mib: int) -> int:
        """What a PC has left after its boot; less than 0: it lacks it."""
        beside = pc_mib - xen_mib(pc_mib) - self.dom0_mib
        return beside - self.qubes_boot_mib

    def rows(self, pc_mib: int) -> tuple[Part, ...]:
        """Return all that lies in the RAM of a PC; the sum is all of it."""
        kernel, boot = self.kernel_mib, sum(p.boot_mib for p in self.parts)
        free = self.dom0_mib - kernel
        xen, left = xen_mib(pc_mib), self.left_mib(pc_mib)
        qubes = Part("qubes", self.qubes_boot_mib, self.qubes_all_mib)
        later = qubes.limit_mib - qubes.boot_mib
        return (
            *self.parts,
            Part("dom0 kernel", kernel, kernel),
            Part("free in dom0", free - boot, free - self.need_mib),
            Part("Xen", xen, xen),
            *([qubes] if qubes.limit_mib else []),
            Part("free beside dom0", left, left - later),
        )


def _up(number: int, divisor: int) -> int:
    """Return the quotient, rounded up."""
    return -(-number // divisor)


def _holding(content_mib: int, fixed_mib: int, share: int) -> int:
    """Return the least n of which a fixed part and 1/share (rounded up) can
    be taken, so that the content still fits."""
    return _up(share * (content_mib + fixed_mib), share - 1)


def xen_mib(pc_mib: int) -> int:
    """Return what Xen keeps for itself of a PC's RAM."""
    return XEN_FIXED_MIB + _up(pc_mib, XEN_SHARE)


def plan(settings: Settings, release: Manifest) -> RamPlan:
    """Return the plan of a profile with a release.

    Raises InvalidInput when the release lacks the root or the profile's qubes.
    """
    root = _up(release.find(Role.DOM0_ROOT).size, MIB)
    parts = [
        Part("running system", RUNNING_MIB, RUNNING_MIB),
        Part(Role.DOM0_ROOT.value, root, root),
        Part("overlay", 0, settings.overlay_mib),
    ]
    chosen = qube_set(settings, release)
    if chosen is not None:
        held = sum(release.of_set(chosen, role).size for role in SET_ROLES)
        volumes, pool = _up(held, MIB), settings.pool_mib
        extra = _up(pool, POOL_SHARE)
        parts += [
            Part(Role.VOLUMES.value, volumes, volumes),
            Part("VM pool", extra, pool + extra),
        ]
    return RamPlan(
        settings.profile,
        release.release,
        settings.dom0_mib,
        tuple(parts),
        chosen.boot_mib if chosen else 0,
        chosen.all_mib if chosen else 0,
    )


def check_dom0(
    found: RamPlan, have_mib: int, giver: str = "this PC", hint: str = ""
) -> None:
    """Raise SysPxeError, with both numbers, if dom0 has too little RAM.

    ``have_mib`` is MemTotal where it is known, else the plan's ``have_mib``.
    """
    if have_mib >= found.need_mib:
        return
    parts = ", ".join(f"{p.limit_mib} {p.name}" for p in found.parts)
    raise SysPxeError(
        f"release {names.printable(found.release, names.NAME_MAX)} needs "
        f"{found.need_mib} MiB of RAM in dom0 ({parts}), {giver} gives it "
        f"{have_mib} MiB",
        hint
        or f"set ram.dom0 in the client's profile to {found.least_dom0_mib}MiB "
        "or more, or put more RAM into the PC",
    )


def check_profile(found: RamPlan) -> None:
    """Raise SysPxeError if the profile's dom0_mem is too little on any PC."""
    check_dom0(
        found,
        found.have_mib,
        f"profile {found.profile}",
        f"set ram.dom0 in the profile to {found.least_dom0_mib}MiB or more",
    )


def check_pc(found: RamPlan, pc_mib: int) -> None:
    """Raise SysPxeError, with both numbers, if a plan does not fit a PC."""
    check_profile(found)
    if found.left_mib(pc_mib) >= 0:
        return
    least = found.smallest_mib
    qubes = f", {found.qubes_boot_mib} qubes" if found.qubes_boot_mib else ""
    raise SysPxeError(
        f"profile {found.profile} needs a PC with {least} MiB of RAM "
        f"({found.dom0_mib} dom0, {xen_mib(least)} Xen{qubes}), this one has "
        f"{pc_mib} MiB",
        f"release {found.release} fits from ram.dom0: "
        f"{found.least_dom0_mib}MiB on; or put more RAM into the PC",
    )
