"""The options that Xen and the kernel were started with, by a UEFI image.

xen.efi takes words from whoever loads it, under Secure Boot too: those before
``--`` choose another section of its configuration, or none, those after it go
to Xen (efi_start in xen/common/efi/boot.c; seen with 4.20). iPXE has them from
a script that nobody signed. So what was started is held against the signed
site before anything else of it is used.
"""

import array
import fcntl
import os
import struct
from pathlib import Path

from sys_pxe import names, run
from sys_pxe.errors import SysPxeError, VerificationError
from sys_pxe.plan import Settings

UEFI = Path("/sys/firmware/efi")
KERNEL = Path("/proc/cmdline")
PRIVCMD = Path("/dev/xen/privcmd")
# Linux include/uapi/xen/privcmd.h: _IOC(_IOC_NONE, 'P', 0, 48), a number and
# five arguments
_HYPERCALL, _CALL = 0x00305000, struct.Struct("=6Q")
# Xen's public/xen.h and public/version.h: char[1024]
_XEN_VERSION, _COMMAND_LINE, _SIZE = 17, 9, 1024
_SHOWN = 100
_HINT = (
    "restart this PC; if it stays so, somebody changes on this network what "
    "PCs are told to start"
)


def check(settings: Settings) -> None:
    """Raise VerificationError where UEFI started other options than these.

    BIOS has all options from a script; nothing is checked there.
    """
    if not UEFI.is_dir():
        return
    kernel = KERNEL.read_text("ascii", "replace").split()
    # Xen puts the name of the image's section first
    if kernel[:1] == ["kernel"]:
        del kernel[0]
    _compare("Xen", xen_options(), settings.all_xen_options, settings)
    _compare("The kernel", kernel, settings.all_kernel_options, settings)


def _compare(
    who: str, found: list[str], wanted: tuple[str, ...], settings: Settings
) -> None:
    if tuple(found) == wanted:
        return
    more = [word for word in found if word not in wanted]
    less = [word for word in wanted if word not in found]
    shown = ", ".join(
        f"{what} {names.printable(' '.join(words), _SHOWN)!r}"
        for what, words in (("with", more), ("without", less))
        if words
    )
    raise VerificationError(
        f"{who} was started with other options than profile "
        f"{settings.profile} has: {shown or 'in another order'}",
        _HINT,
    )


def xen_options() -> list[str]:
    """Return the words of Xen's command line.

    Raises SysPxeError where Xen does not say it, and as :func:`parse`.
    """
    run.run(["modprobe", "xen-privcmd"], check=False, timeout=60)
    # written once, so that Xen finds it in memory
    line = array.array("B", bytes(_SIZE))
    address, _ = line.buffer_info()
    call = _CALL.pack(_XEN_VERSION, _COMMAND_LINE, address, 0, 0, 0)
    try:
        fd = os.open(PRIVCMD, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _HYPERCALL, bytearray(call))
        finally:
            os.close(fd)
    except OSError as error:
        raise SysPxeError(
            f"Xen does not say how it was started: {error.strerror}",
            "the kernel of this release lacks the module xen-privcmd",
        ) from None
    return parse(line.tobytes())


def parse(untrusted: bytes) -> list[str]:
    """Return the words of what Xen has written, up to a NUL.

    Xen uses a longer line than it tells, and what is added comes last: one that
    fills the room may go on unseen, and is a VerificationError.
    """
    text = untrusted.partition(b"\0")[0]
    if len(text) >= _SIZE - 1:
        raise VerificationError(
            "Xen was started with more options than it can tell (expected "
            f"less than {_SIZE - 1} characters)",
            _HINT,
        )
    return text.decode("ascii", "replace").split()
