"""``sys-pxe media``: build."""

import stat
from pathlib import Path

from sys_pxe import files
from sys_pxe.dom0 import media, profiles, securekeys, stopping
from sys_pxe.dom0.context import Context, mib
from sys_pxe.dom0.parsing import Args, Nouns, verb
from sys_pxe.errors import UsageError


def add(nouns: Nouns) -> None:
    """Add the noun and its verbs to the parser."""
    verbs = nouns.noun("media", "make boot sticks")
    made = verb(
        verbs,
        "build",
        "write the image of a boot stick, for PCs that cannot boot from the "
        "network or have no Secure Boot",
        _build,
    )
    made.add_argument("file", metavar="FILE", type=Path)
    made.add_argument(
        "--profile",
        metavar="PROFILE",
        required=True,
        help="whose options Xen and the kernel get",
    )
    made.add_argument(
        "--release",
        metavar="RELEASE",
        help="whose Xen and kernel it has (default: that of the profile's "
        "channel)",
    )


def _build(context: Context, args: Args) -> None:
    target: Path = args.file
    _check_target(target)
    site = context.site()
    settings = profiles.settings(site, args.profile, "--profile")
    found = profiles.release(context.state, settings.channel, args.release)
    order = media.Order(
        release=found,
        folder=context.state.release_folder(found.release),
        settings=settings,
        server=site.network.address.ip,
    )
    keys = securekeys.present(context.state)
    # beside the image: /tmp of dom0 is in RAM
    scratch = files.scratch(files.TEMPORARY_PREFIX, target.parent)
    with stopping.stoppable(), scratch as work:
        made = media.build(order, target, work, keys, context.reporter)
    starts = "BIOS and UEFI" if made.uefi else "BIOS only"
    signed = ", signed for Secure Boot" if made.signed else ""
    context.show(
        f"{target}: {mib(made.size)}, for {starts}{signed}; server "
        f"{order.server}\nSHA-256 {made.sha256}\n"
        f"it starts release {found.release} and every other one with the same "
        "Xen and kernel\n"
        f"next: write it to a stick, 'dd if={target} of=/dev/sdX bs=4M "
        "conv=fsync', and make the stick read-only"
    )


def _check_target(target: Path) -> None:
    """Raise UsageError for what a file cannot take the place of."""
    if not target.parent.is_dir():
        raise UsageError(f"FILE: {target.parent} is not a folder")
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        raise UsageError(
            f"FILE: {target} is not a file",
            "name a file for the image, and write that to the stick",
        )
