"""What the initramfs carries of its own: identity, key, command line.

The builder appends the identity to the initramfs, so that boot files know the
one release that they belong to, and a boot stick those that suit it.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from sys_pxe import names
from sys_pxe.client.fetch import Server
from sys_pxe.errors import InvalidInput
from sys_pxe.trust import Identity, Pinned, StickIdentity

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


def read(path: Path = IDENTITY) -> Pinned:
    """Return what this initramfs belongs to (InvalidInput): a release, or on a
    boot stick a Xen and a kernel."""
    words = [line.split(" ") for line in path.read_text("ascii").splitlines()]
    where = str(path)
    match words:
        case [["release", name], ["serial", number]]:
            return Identity(
                names.parse_name(name, where),
                names.parse_int(number, where, 1, names.SERIAL_MAX),
            )
        case [["xen", xen], ["kernel", kernel]]:
            return StickIdentity(
                names.parse_sha256(xen, where),
                names.parse_sha256(kernel, where),
            )
    raise InvalidInput(
        f"{path}: expected lines 'release NAME' and 'serial N', or 'xen "
        "SHA256' and 'kernel SHA256'",
        "this initramfs was not built by 'sys-pxe release build'",
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
