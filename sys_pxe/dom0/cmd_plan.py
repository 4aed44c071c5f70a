"""``sys-pxe plan``: what takes a client's RAM, and the smallest PC for it."""

from dataclasses import asdict

from sys_pxe import names, ram
from sys_pxe.dom0 import profiles
from sys_pxe.dom0.context import Context
from sys_pxe.dom0.parsing import Args, Nouns, only
from sys_pxe.errors import SysPxeError
from sys_pxe.plan import Settings
from sys_pxe.ram import Part, RamPlan


def add(nouns: Nouns) -> None:
    """Add the command to the parser."""
    parser = only(
        nouns, "plan", "show what takes the RAM of a profile's PCs", _plan
    )
    parser.add_argument("profile", metavar="PROFILE")
    parser.add_argument(
        "--ram",
        metavar="SIZE",
        help="the RAM of a PC, such as 16GiB: does it fit, what is left; "
        "exit code 1 if it does not fit",
    )
    parser.add_argument(
        "--release",
        metavar="RELEASE",
        help="default: what the profile's channel names",
    )


def _plan(context: Context, args: Args) -> None:
    pc_mib = None if args.ram is None else names.parse_ram(args.ram, "--ram")
    settings = profiles.settings(context.site(), args.profile, "PROFILE")
    release = profiles.release(context.state, settings.channel, args.release)
    found = ram.plan(settings, release)
    try:
        if pc_mib is None:
            ram.check_profile(found)
        else:
            ram.check_pc(found, pc_mib)
    except SysPxeError:
        # the sum is what explains a refusal
        _show(context, settings, found, pc_mib, fits=False)
        raise
    _show(context, settings, found, pc_mib, fits=True)


def _show(
    context: Context,
    settings: Settings,
    found: RamPlan,
    pc_mib: int | None,
    *,
    fits: bool,
) -> None:
    smallest = found.smallest_mib if found.fits_dom0 else None
    rows = found.rows(found.smallest_mib if pc_mib is None else pc_mib)
    left = None if pc_mib is None else found.left_mib(pc_mib)
    if context.json:
        context.show_json(
            {
                "profile": settings.profile,
                "channel": settings.channel,
                "release": found.release,
                "parts": [asdict(row) for row in rows],
                "dom0_mib": found.dom0_mib,
                "least_dom0_mib": found.least_dom0_mib,
                "needed_mib": found.need_mib,
                "smallest_pc_mib": smallest,
                "smallest_pc_all_qubes_mib": found.smallest_for_all_mib
                if found.fits_dom0
                else None,
                "qubes_boot_mib": found.qubes_boot_mib,
                "qubes_all_mib": found.qubes_all_mib,
                "pc_mib": pc_mib,
                "left_mib": left,
                "fits": fits,
            }
        )
        return
    _show_text(context, found, rows, pc_mib)


def _show_text(
    context: Context,
    found: RamPlan,
    rows: tuple[Part, ...],
    pc_mib: int | None,
) -> None:
    context.show(f"profile {found.profile}, release {found.release}\n")
    sizes = [(row.name, row.boot_mib, row.limit_mib) for row in rows]
    total = (
        "sum",
        sum(row.boot_mib for row in rows),
        sum(row.limit_mib for row in rows),
    )
    context.show_table(
        ("MIB OF RAM", "AT BOOT", "AT THE LIMIT"), [*sizes, total]
    )
    context.show(
        f"\ndom0         {found.dom0_mib} MiB (ram.dom0), needs at least "
        f"{found.least_dom0_mib} MiB"
    )
    if found.fits_dom0:
        all_qubes = (
            f", with all qubes running {found.smallest_for_all_mib} MiB"
            if found.qubes_all_mib
            else ""
        )
        context.show(f"smallest PC  {found.smallest_mib} MiB{all_qubes}")
    if pc_mib is not None:
        left = found.left_mib(pc_mib)
        lacks = found.smallest_mib - pc_mib
        verdict = f"{left} MiB left" if left >= 0 else f"lacks {lacks} MiB"
        context.show(f"this PC      {pc_mib} MiB, {verdict}")
