"""What the initramfs carries of its own: release, serial, key, command line.

The builder appends the identity to the initramfs, so that boot files know the
one release that they belong to.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from sys_pxe import names
from sys_pxe.client.fetch import Server
from sys_pxe.errors import InvalidInput
from sys_pxe.trust import Identity

INSIDE = Path("/usr/lib/sys-pxe")
KEY = INSIDE / "key.pem"
IDENTITY = INSIDE / "identity"
HTTP_PORT = 80


@dataclass(frozen=True)
class Hints:
    """What the loader said on the kernel command line; never trusted.

    ``mac`` names the card that the firmware booted from (BOOTIF, pxelinux's
    form ``01-52-54-…``), ``server`` is where to fetch from.
    """

    mac: str | None
    server: Server | None


def read(path: Path = IDENTITY) -> Identity:
    """Return the release that this initramfs belongs to (InvalidInput)."""
    words = [line.split(" ") for line in path.read_text("ascii").splitlines()]
    form = [(w[0], len(w)) for w in words]
    if form != [("release", 2), ("serial", 2)]:
        raise InvalidInput(
            f"{path}: expected a line 'release NAME' and a line 'serial N'",
            "this initramfs was not built by 'sys-pxe release build'",
        )
    return Identity(
        names.parse_name(words[0][-1], str(path)),
        names.parse_int(words[1][-1], str(path), 1, names.SERIAL_MAX),
    )


def hints(untrusted_command_line: str) -> Hints:
    """Return what can be used of the kernel command line."""
    mac = None
    server = None
    for untrusted in untrusted_command_line.split():
        key, _, untrusted_value = untrusted.partition("=")
        if key == "BOOTIF":
            mac = _boot_mac(untrusted_value)
        if key == "syspxe.server":
            server = _server(untrusted_value)
    return Hints(mac, server)


def _boot_mac(untrusted: str) -> str | None:
    if not re.fullmatch(r"01(-[0-9a-fA-F]{2}){6}", untrusted):
        return None
    return untrusted[3:].replace("-", ":").lower()


def _server(untrusted: str) -> Server | None:
    match = re.fullmatch(r"http://([0-9.]{7,15})(?::([0-9]{1,5}))?", untrusted)
    if match is None:
        return None
    port = int(match[2] or HTTP_PORT)
    try:
        address = str(IPv4Address(match[1]))
    except AddressValueError:
        return None
    return (address, port) if 1 <= port <= 65535 else None
