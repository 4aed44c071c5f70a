"""A profile that a command names, and the release that the command is about."""

from sys_pxe import names, plan
from sys_pxe.dom0 import channels
from sys_pxe.dom0.state import State
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Manifest
from sys_pxe.plan import Settings
from sys_pxe.site import Site

_SHOWN = 20


def settings(site: Site, name: str, where: str) -> Settings:
    """Return the settings of a profile; ``where`` names the argument.

    Raises InvalidInput for one that the site does not have.
    """
    names.parse_name(name, where)
    if name not in site.profiles:
        raise InvalidInput(
            f"{where}: {name!r} is not a profile of the site",
            f"one of: {', '.join(list(site.profiles)[:_SHOWN])}",
        )
    return plan.settings(site, name)


def release(state: State, channel: str, name: str | None) -> Manifest:
    """Return the release of ``--release``, else the one that a channel names.

    Raises SysPxeError when there is none.
    """
    if name is not None:
        return state.release(names.parse_name(name, "--release"))
    pointer = channels.current(state, channel)
    if pointer is None:
        raise SysPxeError(
            f"channel {channel} names no release yet",
            f"run 'sys-pxe channel set {channel} RELEASE', or name one with "
            "--release",
        )
    return state.release(pointer.release)
