"""The PC's TPM: what was booted goes into it, and its signed word comes out.

The kernel's resource manager (tpmrm0) keeps the keys of programs apart; it is
there for each TPM 2.0. tpm0 is the bare device, of a TPM 1.2 too.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from sys_pxe import files, measured, tpm2
from sys_pxe.errors import SysPxeError

NODES = (Path("/dev/tpmrm0"), Path("/dev/tpm0"))
VERSION = Path("/sys/class/tpm/tpm0/tpm_version_major")
_HINT = "switch the PC off and on; if it stays so, its TPM is broken"


class Device:
    """A TPM behind a descriptor, which it owns and closes at its end.

    A command is one write, its answer one read, as tpm(4)'s driver has it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def ask(self, command: bytes) -> bytes:
        """Return the answer to a command, unchecked.

        Raises SysPxeError when the device fails.
        """
        try:
            written = os.write(self._fd, command)
            if written != len(command):
                raise SysPxeError(
                    f"the TPM took {written} of {len(command)} bytes", _HINT
                )
            return os.read(self._fd, tpm2.ANSWER_MAX)
        except OSError as error:
            raise SysPxeError(
                f"the TPM does not answer: {error.strerror}", _HINT
            ) from error


def find(
    nodes: Sequence[Path] = NODES, version: Path = VERSION
) -> Device | None:
    """Return the PC's TPM 2.0, or None where there is none to be opened."""
    try:
        if files.read_capped(version, 16).strip() != b"2":
            return None
    except (OSError, SysPxeError):
        return None
    for node in nodes:
        try:
            return Device(os.open(node, os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            continue
    return None


def extend(device: Device, events: Iterable[bytes]) -> None:
    """Measure events (SHA-256 digests) into our PCR, in their order."""
    for event in events:
        tpm2.parse_extended(device.ask(tpm2.pcr_extend(measured.PCR, event)))


def quote(device: Device, nonce: bytes) -> tpm2.Quote:
    """Return the TPM's signed word on the PCRs of the boot.

    ``nonce`` (1 to 32 bytes) comes from who is to believe it. Raises
    SysPxeError when the TPM cannot, with no key left in it.
    """
    pcrs = _pcrs(device)
    key = tpm2.parse_key(device.ask(tpm2.create_attestation_key()))
    try:
        asked = tpm2.quote(key.handle, nonce, measured.BOOT_PCRS)
        attest, signature = tpm2.parse_quoted(device.ask(asked))
    finally:
        tpm2.parse_flushed(device.ask(tpm2.flush_context(key.handle)))
    return tpm2.Quote(key.point, attest, signature, pcrs)


def _pcrs(device: Device) -> dict[int, bytes]:
    pcrs = tpm2.parse_pcrs(device.ask(tpm2.pcr_read(measured.BOOT_PCRS)))
    if tuple(pcrs) != measured.BOOT_PCRS:
        raise SysPxeError(
            "the TPM has no SHA-256 PCRs",
            "switch its SHA-256 bank on in the firmware's setup",
        )
    return pcrs
