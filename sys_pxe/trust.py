"""The rules that decide whether a signed release may be used. No I/O.

Whoever calls has checked the signature over the exact bytes already, and then
parsed them. The rules, in the order in which they are applied:

1. The manifest is the one that the boot files belong to (client only). Those
   of a boot stick belong to every release with their Xen and kernel: there it
   is the one that the channel's signed pointer names.
2. It is not from the future: a clock before its creation proves nothing.
3. It has not expired.
4. Its serial is not below the floor that the signed site gives the channel,
   unless a signed pointer of the channel says ``rollback yes`` for it and was
   signed when the floor was as high already: else an old one could be replayed
   after the floor was raised.
"""

from dataclasses import dataclass

from sys_pxe import names
from sys_pxe.errors import VerificationError
from sys_pxe.manifest import Manifest, Role
from sys_pxe.pointer import Pointer

# A PC's clock may be somewhat slow without being dead.
CLOCK_PATIENCE = 86_400
# how to set a wrong clock, where the rule is applied
CLIENT_CLOCK = "set the date and time in the firmware setup of this PC"
QUBE_CLOCK = (
    "correct the clock of dom0, then restart the sys-pxe qube, which takes "
    "its time from there"
)
_SHOWN = {Role.XEN: "Xen", Role.KERNEL: "kernel"}


@dataclass(frozen=True)
class Identity:
    """The release that a netboot initramfs was built for."""

    release: str
    serial: int


@dataclass(frozen=True)
class StickIdentity:
    """The Xen and the kernel on a boot stick: SHA-256 of each, in hex."""

    xen: str
    kernel: str


Pinned = Identity | StickIdentity


def check_identity(manifest: Manifest, pinned: Identity) -> None:
    """Rule 1. Raises VerificationError."""
    if (manifest.release, manifest.serial) != (pinned.release, pinned.serial):
        raise VerificationError(
            f"the server's manifest is of release {manifest.release} "
            f"(serial {manifest.serial}), the boot files belong to "
            f"{pinned.release} (serial {pinned.serial})",
            "restart this PC so that it loads matching boot files; if that "
            "does not help, push the release again",
        )


def check_stick(manifest: Manifest, pinned: StickIdentity) -> None:
    """Rule 1 on a boot stick. Raises VerificationError."""
    for role, digest in ((Role.XEN, pinned.xen), (Role.KERNEL, pinned.kernel)):
        if manifest.find(role).sha256 != digest:
            raise VerificationError(
                f"release {manifest.release} (serial {manifest.serial}) has "
                f"another {_SHOWN[role]} than this boot stick",
                "write a new stick: 'sys-pxe media build' on the server PC",
            )


def check_dates(manifest: Manifest, now: int, clock: str) -> None:
    """Rules 2 and 3; ``now`` in seconds since 1970. VerificationError.

    ``clock`` says how to set a wrong clock.
    """
    if now < manifest.created - CLOCK_PATIENCE:
        raise VerificationError(
            f"the clock says {names.format_time(now)}, but release "
            f"{manifest.release} was made at "
            f"{names.format_time(manifest.created)}",
            clock,
        )
    if now >= manifest.expires:
        raise VerificationError(
            f"release {manifest.release} expired at "
            f"{names.format_time(manifest.expires)}, the clock says "
            f"{names.format_time(now)}",
            f"build and push a new release; if it is not expired, {clock}",
        )


def check_floor(
    manifest: Manifest, floor: int, pointer: Pointer | None
) -> None:
    """Rule 4. Raises VerificationError."""
    if manifest.serial >= floor:
        return
    wanted = (True, manifest.release, manifest.serial)
    if pointer is not None and wanted == (
        pointer.rollback,
        pointer.release,
        pointer.release_serial,
    ):
        if pointer.floor >= floor:
            return
        raise VerificationError(
            f"the rollback to release {manifest.release} was signed when the "
            f"floor was {pointer.floor}, the site accepts {floor} and above",
            "activate a newer release, or sign the rollback again with "
            "'sys-pxe channel rollback'",
        )
    raise VerificationError(
        f"release {manifest.release} has serial {manifest.serial}, the site "
        f"accepts {floor} and above",
        "activate a newer release, or sign a rollback with "
        "'sys-pxe channel rollback'",
    )


def check_pointer(
    pointer: Pointer, current: Pointer | None, manifest: Manifest
) -> None:
    """A pointer is newer than the current one and names this manifest."""
    if current is not None and pointer.serial <= current.serial:
        raise VerificationError(
            f"pointer {pointer.serial} of channel {pointer.channel} is not "
            f"newer than the current one ({current.serial})",
            "sign a new pointer; an old one cannot be used again",
        )
    check_named(pointer, manifest)


def check_named(pointer: Pointer, manifest: Manifest) -> None:
    """A pointer names this manifest. Raises VerificationError."""
    named = (pointer.release, pointer.release_serial)
    if named != (manifest.release, manifest.serial):
        raise VerificationError(
            f"the pointer names release {pointer.release} (serial "
            f"{pointer.release_serial}), the store has serial "
            f"{manifest.serial} under that name"
        )
