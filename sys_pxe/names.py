"""Names, numbers and digests that come from outside: length, charset, range.

Pure: values in, values out. Each ``parse_*`` takes an untrusted string and the
place it was found at (for the message), and returns the checked value or
raises :class:`InvalidInput`.
"""

import re
from datetime import UTC, datetime

from sys_pxe.errors import InvalidInput

# Release names travel as qrexec arguments, whose charset is
# A-Za-z0-9_-.+ (qrexec.h, RPCNAME_ALLOWED_CHARSET); ours is a part of it.
NAME_MAX = 48
# a qube's: VALID_NAME of Qubes' core-admin, qubes/vm/__init__.py
QUBE_MAX = 31
MAC_LEN = 17
SIZE_MAX = 1 << 40
# of a PC as its firmware and its reports state it; a site's are far below
REPORTED_RAM_MAX_MIB = 1 << 30
# of a network card, in bytes
MTU_MAX = 1 << 16
SERIAL_MAX = (1 << 31) - 1

_UNITS_MIB = {"MiB": 1, "GiB": 1024}


def parse_name(untrusted_name: str, where: str) -> str:
    """Return the name of a release, channel, profile or client."""
    if not 1 <= len(untrusted_name) <= NAME_MAX:
        raise InvalidInput(
            f"{where}: a name has 1 to {NAME_MAX} characters, "
            f"this one has {len(untrusted_name)}"
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", untrusted_name) or (
        ".." in untrusted_name
    ):
        raise InvalidInput(
            f"{where}: {untrusted_name!a} is not a name "
            "(expected lower-case letters, digits, single dots and dashes)"
        )
    return untrusted_name


def parse_qube(untrusted_qube: str, where: str) -> str:
    """Return the name of a qube, by the rule of Qubes OS."""
    if not 1 <= len(untrusted_qube) <= QUBE_MAX or not re.fullmatch(
        r"[a-zA-Z][a-zA-Z0-9_.-]*", untrusted_qube
    ):
        raise InvalidInput(
            f"{where}: {untrusted_qube[: QUBE_MAX + 10]!a} is not the name of "
            f"a qube (expected a letter, then at most {QUBE_MAX - 1} letters, "
            "digits and _.-)"
        )
    return untrusted_qube


def parse_mac(untrusted_mac: str, where: str) -> str:
    """Return a unicast MAC address as six lower-case hex pairs with colons."""
    shown = untrusted_mac[: 2 * MAC_LEN]
    if len(untrusted_mac) != MAC_LEN or not re.fullmatch(
        r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", untrusted_mac
    ):
        raise InvalidInput(
            f"{where}: {shown!a} is not a MAC address (expected six hex pairs)",
            "write it as on the label of the PC, for example 52:54:00:00:00:01",
        )
    if int(untrusted_mac[:2], 16) & 1:
        raise InvalidInput(
            f"{where}: {shown!a} is a group address (expected the address "
            "of one network card)"
        )
    return untrusted_mac.lower()


def parse_sha256(untrusted_digest: str, where: str) -> str:
    """Return a SHA-256 digest as 64 lower-case hex digits."""
    if len(untrusted_digest) != 64 or not re.fullmatch(
        r"[0-9a-f]{64}", untrusted_digest
    ):
        raise InvalidInput(
            f"{where}: {untrusted_digest[:70]!a} is not a SHA-256 digest "
            "(expected 64 lower-case hex digits)"
        )
    return untrusted_digest


def parse_int(untrusted: str, where: str, low: int, high: int) -> int:
    """Return a decimal number without sign or leading zero, in low..high."""
    if not 1 <= len(untrusted) <= 20 or not re.fullmatch(
        r"0|[1-9][0-9]*", untrusted
    ):
        raise InvalidInput(
            f"{where}: {untrusted[:24]!a} is not a decimal number"
        )
    value = int(untrusted)
    if not low <= value <= high:
        raise InvalidInput(f"{where}: {value} is not in {low} to {high}")
    return value


def parse_ram(untrusted: str, where: str) -> int:
    """Return a RAM size such as ``2GiB`` or ``768MiB`` in MiB."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})(MiB|GiB)", untrusted[:16])
    if match is None or len(untrusted) > 16:
        raise InvalidInput(
            f"{where}: {untrusted[:24]!a} is not a size of RAM "
            "(expected a number and MiB or GiB)",
            "write it as 768MiB or 2GiB",
        )
    return int(match[1]) * _UNITS_MIB[match[2]]


def parse_time(untrusted: str, where: str) -> int:
    """Return seconds since 1970 for ``YYYY-MM-DDTHH:MM:SSZ`` (RFC 3339)."""
    if not re.fullmatch(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z",
        untrusted[:24],
    ):
        raise InvalidInput(
            f"{where}: {untrusted[:24]!a} is not a time "
            "(expected YYYY-MM-DDTHH:MM:SSZ)"
        )
    try:
        moment = datetime.fromisoformat(untrusted[:-1]).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(
            f"{where}: {untrusted!a} is not a time ({error})"
        ) from None
    seconds = int(moment.timestamp())
    # one way to write a time: years have four digits, no day has an hour 24
    if seconds < 0 or format_time(seconds) != untrusted:
        raise InvalidInput(
            f"{where}: {untrusted!a} is not a time (expected 1970 or later)"
        )
    return seconds


def format_time(seconds: int) -> str:
    """Return ``YYYY-MM-DDTHH:MM:SSZ`` for seconds since 1970."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def printable(untrusted: str, limit: int) -> str:
    """Return at most ``limit`` characters with all but printable ASCII as ?."""
    return "".join(c if " " <= c <= "~" else "?" for c in untrusted[:limit])
