"""The pointer: which release a channel names, in a small signed text.

Its own serial only grows, so an older pointer of the same channel cannot take
the place of a newer one in the store. ``rollback yes`` is the administrator's
word that a release below the channel's floor is wanted. ``floor`` is the one
that the channel had then: a floor that is raised later ends the rollback. Pure.
"""

from dataclasses import dataclass

from sys_pxe import document, names
from sys_pxe.errors import InvalidInput


@dataclass(frozen=True)
class Pointer:
    """A channel's pointer. ``created`` is in seconds since 1970 (UTC)."""

    channel: str
    serial: int
    created: int
    release: str
    release_serial: int
    rollback: bool
    floor: int = 1


def parse(untrusted: bytes) -> Pointer:
    """Return the pointer that these bytes are, or raise InvalidInput."""
    reader = document.Reader(untrusted, "pointer")
    channel = names.parse_name(reader.word("channel"), reader.where)
    serial = names.parse_int(
        reader.word("serial"), reader.where, 1, names.SERIAL_MAX
    )
    created = names.parse_time(reader.word("created"), reader.where)
    release, number = reader.words("release", 2)
    names.parse_name(release, reader.where)
    release_serial = names.parse_int(number, reader.where, 1, names.SERIAL_MAX)
    rollback = reader.word("rollback")
    if rollback not in ("yes", "no"):
        raise InvalidInput(f"{reader.where}: expected 'yes' or 'no'")
    floor = names.parse_int(
        reader.word("floor"), reader.where, 1, names.SERIAL_MAX
    )
    reader.end()
    return Pointer(
        channel,
        serial,
        created,
        release,
        release_serial,
        rollback == "yes",
        floor,
    )


def write(pointer: Pointer) -> bytes:
    """Return the one text of a pointer; ``parse`` gives it back."""
    return document.write(
        "pointer",
        [
            f"channel {pointer.channel}",
            f"serial {pointer.serial}",
            f"created {names.format_time(pointer.created)}",
            f"release {pointer.release} {pointer.release_serial}",
            f"rollback {'yes' if pointer.rollback else 'no'}",
            f"floor {pointer.floor}",
        ],
    )
