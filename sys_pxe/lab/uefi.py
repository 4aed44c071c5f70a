"""UEFI firmware for the lab's PCs: OVMF, with keys of its own or without.

OVMF keeps its variables in a flash file of each machine, in the format of
edk2's MdeModulePkg/Include/Guid/VariableFormat.h. Secure Boot is on where a PK
is in it; the firmware that enforces it wants SMM, which QEMU has on q35.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sys_pxe import files
from sys_pxe.dom0 import efisig
from sys_pxe.errors import SysPxeError

FOLDER = Path("/usr/share/OVMF")
CODE = FOLDER / "OVMF_CODE_4M.fd"
SECURE_CODE = FOLDER / "OVMF_CODE_4M.secboot.fd"
EMPTY_VARIABLES = FOLDER / "OVMF_VARS_4M.fd"
BOARD = "q35,smm=on"
# OvmfPkg's switches of its network: no PXE, so that it boots by HTTP
HTTP_ONLY = (
    *("-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"),
    *("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"),
)
_VARIABLES_MAX = 4 << 20

# "on" for the firmware's own set-up menu, and its usual, not custom, mode
_ENABLE = UUID("f0a30bc7-af08-4556-99c4-001009c93a44")
_CUSTOM = UUID("c076ec0c-7028-4399-a072-71ee5c448b9f")
_KEPT = 0x03

_STORE = UUID("aaf32c78-947b-439a-a180-2e144ec37792")
_STORE_HEAD = struct.Struct("<16sIBB6x")
_FORMATTED, _HEALTHY = 0x5A, 0xFE
_HEAD = struct.Struct("<HBBIQ16sIII16s")
_START, _ADDED = 0x55AA, 0x3F


@dataclass(frozen=True)
class Variable:
    """A variable of the firmware."""

    name: str
    vendor: UUID
    attributes: int
    data: bytes


def plain(variables: Path) -> tuple[str, ...]:
    """Return the options of firmware without Secure Boot; ``variables`` is
    made anew."""
    return _options(CODE, variables, ())


def secure(
    variables: Path, keys: Mapping[str, bytes], now: int
) -> tuple[str, ...]:
    """Return the options of firmware that enforces Secure Boot.

    ``keys`` are the signature lists of PK, KEK and db, as ``key create
    --secure-boot`` exports them (.esl); ``now`` is their time.
    """
    found = [
        Variable(name, efisig.VARIABLES[name], efisig.ATTRIBUTES, keys[name])
        for name in ("PK", "KEK", "db")
    ]
    found.append(Variable("SecureBootEnable", _ENABLE, _KEPT, b"\1"))
    found.append(Variable("CustomMode", _CUSTOM, _KEPT, b"\0"))
    return _options(SECURE_CODE, variables, tuple(found), now)


def setup_mode(variables: Path) -> tuple[str, ...]:
    """Return the options of firmware that can enforce Secure Boot and has no
    keys yet: in setup mode. ``variables`` is made anew."""
    return _options(SECURE_CODE, variables, ())


def kept(variables: Path) -> tuple[str, ...]:
    """Return the options for another power-on after :func:`setup_mode`."""
    return _drives(SECURE_CODE, variables)


def _options(
    code: Path, variables: Path, found: tuple[Variable, ...], now: int = 0
) -> tuple[str, ...]:
    if not code.is_file() or not EMPTY_VARIABLES.is_file():
        raise SysPxeError(f"{code} is not there", "install the package ovmf")
    empty = files.read_capped(EMPTY_VARIABLES, _VARIABLES_MAX)
    files.write(variables, with_variables(empty, found, now))
    return _drives(code, variables)


def _drives(code: Path, variables: Path) -> tuple[str, ...]:
    made = [
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}"),
        *("-drive", f"if=pflash,format=raw,unit=1,file={variables}"),
    ]
    if code == SECURE_CODE:
        made += ["-global", "ICH9-LPC.disable_s3=1"]
        made += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return tuple(made)


def with_variables(
    flash: bytes, added: tuple[Variable, ...], now: int
) -> bytes:
    """Return a flash file with more variables; SysPxeError if it is none."""
    (start,) = struct.unpack_from("<H", flash, 48)
    guid, size, form, state = _STORE_HEAD.unpack_from(flash, start)
    if (guid, form, state) != (_STORE.bytes_le, _FORMATTED, _HEALTHY):
        raise SysPxeError("this is no file of OVMF's authenticated variables")
    at = start + _STORE_HEAD.size
    while struct.unpack_from("<H", flash, at)[0] == _START:
        *_, name_size, data_size, _ = _HEAD.unpack_from(flash, at)
        at += _aligned(_HEAD.size + name_size + data_size)
    new = b"".join(_variable(one, now) for one in added)
    if at + len(new) > start + size:
        raise SysPxeError("the variables do not fit into OVMF's flash file")
    return flash[:at] + new + flash[at + len(new) :]


def _variable(one: Variable, now: int) -> bytes:
    name = one.name.encode("utf-16-le") + b"\0\0"
    timed = one.attributes == efisig.ATTRIBUTES
    head = _HEAD.pack(
        *(_START, _ADDED, 0, one.attributes, 0),
        efisig.efi_time(now) if timed else bytes(16),
        *(0, len(name), len(one.data), one.vendor.bytes_le),
    )
    whole = head + name + one.data
    return whole.ljust(_aligned(len(whole)), b"\xff")


def _aligned(size: int) -> int:
    return -(-size // 4) * 4
