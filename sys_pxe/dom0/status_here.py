"""``sys-pxe status`` on a client: its release, and how full its RAM is.

A client has no way to the server any more; what is shown is what its own
watcher has written down.
"""

import time
from pathlib import Path

from sys_pxe import files, usage
from sys_pxe.dom0.context import Context, mib
from sys_pxe.errors import SysPxeError

RUN = Path("/run/sys-pxe")
_BOOT_MAX = 64 << 10
# the watcher writes every minute
OLD = 180
_WATCHER = "see 'systemctl status sys-pxe-watch'"


def applies(context: Context) -> bool:
    """Whether this is a client, and nobody asked for another machine."""
    return context.transport_spec is None and (RUN / "boot.json").exists()


def _read(name: str, limit: int, hint: str) -> bytes:
    path = RUN / name
    try:
        return files.read_capped(path, limit)
    except OSError as error:
        raise SysPxeError(f"{path}: {error.strerror}", hint) from None


def uptime() -> int:
    """Return the seconds since power-on."""
    return int(time.monotonic())


def show(context: Context) -> None:
    """Print the client's state."""
    boot = usage.parse_boot(_read("boot.json", _BOOT_MAX, "restart this PC"))
    state = usage.parse(_read("usage.json", usage.STATE_MAX, _WATCHER))
    if (age := uptime() - state.uptime) > OLD:
        context.warn(
            f"these numbers are {age} s old, nobody watches; {_WATCHER}"
        )
    if context.json:
        context.show_json(
            {
                "client": boot.client,
                "release": boot.release,
                "serial": boot.serial,
                **usage.data(state),
            }
        )
        return
    context.show(f"client    {boot.client}")
    context.show(f"release   {boot.release} (serial {boot.serial})")
    for place in state.places:
        context.show(f"{place.usage.name:<9} {_row(place)}")
    if state.ram_bytes is not None:
        kept = "" if state.reserve else "; its reserve is in use"
        context.show(
            f"{'':<9} the pool takes {mib(state.ram_bytes)} of RAM{kept}"
        )
    if state.paused:
        context.show(f"paused    {', '.join(state.paused)}")
    rows = [
        (place.usage.name, taker.name, mib(taker.used_bytes))
        for place in state.places
        for taker in place.largest
    ]
    if rows:
        context.show("")
        context.show_table(("PLACE", "LARGEST", "TAKES"), rows)


def _row(place: usage.Place) -> str:
    """Return one place in words."""
    found = place.usage
    return (
        f"{found.percent} % full, {mib(found.used_bytes)} of "
        f"{mib(found.limit_bytes)}: {place.level.name.lower()}"
    )
