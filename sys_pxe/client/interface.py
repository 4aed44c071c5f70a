"""One network interface: up, carrier, address, down; by ioctl (netdevice(7)).

The initramfs holds no ip(8); these six calls are all that a boot needs.
"""

import fcntl
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from sys_pxe.errors import SysPxeError

SYS_NET = Path("/sys/class/net")
LOOPBACK = "lo"

# linux/sockios.h, linux/if.h, linux/route.h
_SIOCADDRT = 0x890B
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_IFF_UP = 0x1
_RTF_UP_GATEWAY = 0x3


def _ioctl(request: int, argument: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, request, argument)


def _address(address: IPv4Address) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, address.packed)


def _set_up(name: str, up: bool) -> None:
    key = struct.pack("16sH14x", name.encode("ascii"), 0)
    flags = struct.unpack_from("H", _ioctl(_SIOCGIFFLAGS, key), 16)[0]
    flags = flags | _IFF_UP if up else flags & ~_IFF_UP
    _ioctl(_SIOCSIFFLAGS, struct.pack("16sH14x", name.encode("ascii"), flags))


def mac(name: str) -> str:
    """Return the interface's MAC address, lower case with colons."""
    return (SYS_NET / name / "address").read_text("ascii").strip().lower()


def mtu(name: str) -> int:
    """Return the largest packet that the interface takes, in bytes."""
    return int((SYS_NET / name / "mtu").read_text("ascii"))


def bring_up(name: str) -> None:
    """Switch the interface on (OSError)."""
    _set_up(name, True)


def has_carrier(name: str) -> bool:
    """Whether a cable with a live port at its other end is plugged in."""
    try:
        return (SYS_NET / name / "carrier").read_text("ascii").strip() == "1"
    except OSError:
        return False


def wait_for_carrier(
    name: str, patience: float, waiting: Callable[[int], None]
) -> None:
    """Wait up to ``patience`` seconds; ``waiting`` is told the seconds left.

    Raises SysPxeError if there is no link by then.
    """
    end = time.monotonic() + patience
    while not has_carrier(name):
        left = end - time.monotonic()
        if left <= 0:
            raise SysPxeError(
                f"no link on {name} ({mac(name)}) after {patience:g} s",
                "check the network cable and the switch port",
            )
        waiting(int(left))
        time.sleep(0.2)


def set_address(
    name: str, address: IPv4Interface, gateway: IPv4Address | None
) -> None:
    """Give the interface its address and, if there is one, the gateway."""
    key = name.encode("ascii")
    _ioctl(_SIOCSIFADDR, struct.pack("16s16s", key, _address(address.ip)))
    _ioctl(
        _SIOCSIFNETMASK, struct.pack("16s16s", key, _address(address.netmask))
    )
    if gateway is not None and gateway in address.network:
        any_address = _address(IPv4Address(0))
        route = struct.pack(
            "=8x16s16s16sH62x",
            any_address,
            _address(gateway),
            any_address,
            _RTF_UP_GATEWAY,
        )
        _ioctl(_SIOCADDRT, route)


def take_down(name: str) -> None:
    """Remove the interface's address and switch it off (OSError)."""
    key = name.encode("ascii")
    _ioctl(_SIOCSIFADDR, struct.pack("16s16s", key, _address(IPv4Address(0))))
    _set_up(name, False)


def present() -> list[str]:
    """Return the names of all network interfaces, sorted."""
    return sorted(p.name for p in SYS_NET.iterdir() if p.is_dir())
