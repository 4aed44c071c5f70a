"""The owner's Secure Boot keys: make them, export them, sign EFI files.

::

    key/secure-boot/PK.key KEK.key db.key   0600, in a folder of 0700
    key/secure-boot/PK.pem KEK.pem db.pem   their certificates
    secure-boot/NAME.cer NAME.esl NAME.auth what firmware set-up menus take

PK (platform key) is who owns a PC, KEK may change db, db is what the firmware
starts (UEFI specification, chapter 32). RSA with 2048 bits: every firmware has
it, not every one has more.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

from sys_pxe import files, run
from sys_pxe.dom0 import efisig
from sys_pxe.dom0.state import State
from sys_pxe.errors import InvalidInput, SysPxeError, UsageError

NAMES = ("PK", "KEK", "db")
# whose key signs a change of which variable, UEFI specification 8.2.2
SIGNED_BY = {"PK": "PK", "KEK": "PK", "db": "KEK"}
# in days: firmware does not look at the dates, other tools do
VALID_DAYS = 7305
_BITS = 2048
_CERTIFICATE_MAX = 16 << 10
_TIMEOUT = 300
_TOOLS = "install the package sbsigntools (Debian: sbsigntool)"


@dataclass(frozen=True)
class Keys:
    """The db key and its certificate, which sign what firmware starts."""

    key: Path
    certificate: Path


def folder(state: State) -> Path:
    """Return the folder of the private keys, whether it is there or not."""
    return state.key_folder / "secure-boot"


def exports(state: State) -> Path:
    """Return the folder of what goes to the firmware."""
    return state.root / "secure-boot"


def present(state: State) -> Keys | None:
    """Return the keys that sign, or None when none were made."""
    place = folder(state)
    if not place.is_dir():
        return None
    found = Keys(place / "db.key", place / "db.pem")
    for path in (found.key, found.certificate):
        if not path.is_file():
            raise SysPxeError(
                f"there is no {path}, though there are Secure Boot keys",
                "put it back from your backup; to start anew, move "
                f"{place} away, make new keys and enrol them in every PC",
            )
    return found


def create(state: State, now: int) -> str:
    """Make the three keys, export them, return db's fingerprint.

    Raises UsageError when there are some: PCs know them already.
    """
    place = folder(state)
    if place.exists():
        raise UsageError(
            f"there are Secure Boot keys in {place} already",
            "PCs where they are enrolled start nothing else; to start anew, "
            "move that folder away and enrol the new keys in every PC",
        )
    files.make_folder(state.root)
    files.make_folder(state.key_folder, 0o700)
    new = state.key_folder / f"{files.TEMPORARY_PREFIX}secure-boot"
    files.remove(new)
    files.make_folder(new, 0o700)
    try:
        for name in NAMES:
            key, certificate = _new(name)
            files.write(new / f"{name}.key", key, 0o600)
            files.write(new / f"{name}.pem", certificate)
        export(new, exports(state), now)
        files.rename(new, place)
    finally:
        files.remove(new)
    return fingerprint(place / "db.pem")


def _new(name: str) -> tuple[bytes, bytes]:
    """Return a new private key and its own certificate, both PEM."""
    key = run.run(
        ["openssl", "genpkey", "-algorithm", "RSA",
         "-pkeyopt", f"rsa_keygen_bits:{_BITS}"],
        timeout=_TIMEOUT,
    ).stdout  # fmt: skip
    # an empty configuration: a system's own may add extensions
    certificate = run.run(
        ["openssl", "req", "-new", "-x509", "-sha256", "-key", "/dev/stdin",
         "-subj", f"/CN=sys-pxe {name}/", "-days", str(VALID_DAYS),
         "-config", "/dev/null",
         "-addext", "basicConstraints=critical,CA:TRUE"],
        stdin=key,
        timeout=_TIMEOUT,
    ).stdout  # fmt: skip
    return key, certificate


def export(keys: Path, target: Path, now: int) -> None:
    """Write certificates (.cer), lists (.esl) and signed changes (.auth).

    ``keys`` is a folder of keys, ``now`` the time that firmware takes for the
    version of the change: it refuses an older one.
    """
    files.make_folder(target)
    owner = _owner(keys)
    for name in NAMES:
        certificate = der(keys / f"{name}.pem")
        esl = efisig.signature_list(certificate, owner)
        update = _signed_update(keys, name, esl, now)
        files.write(target / f"{name}.cer", certificate)
        files.write(target / f"{name}.esl", esl)
        files.write(target / f"{name}.auth", update)


def _signed_update(keys: Path, name: str, esl: bytes, now: int) -> bytes:
    signer = SIGNED_BY[name]
    pkcs7 = run.run(
        ["openssl", "cms", "-sign", "-binary", "-noattr", "-md", "sha256",
         "-outform", "DER", "-signer", str(keys / f"{signer}.pem"),
         "-inkey", str(keys / f"{signer}.key")],
        stdin=efisig.to_sign(name, esl, now),
        timeout=_TIMEOUT,
    ).stdout  # fmt: skip
    return efisig.signed_update(esl, now, pkcs7)


def _owner(keys: Path) -> UUID:
    """Return the owner that signature lists name: one for each PK."""
    return uuid5(NAMESPACE_URL, fingerprint(keys / "PK.pem"))


def der(certificate: Path) -> bytes:
    """Return the DER form of a certificate in PEM (InvalidInput)."""
    pem = files.read_capped(certificate, _CERTIFICATE_MAX).decode("ascii")
    try:
        body = "".join(
            line for line in pem.splitlines() if not line.startswith("-----")
        )
        return base64.b64decode(body, validate=True)
    except ValueError:
        raise InvalidInput(f"{certificate} is not a PEM certificate") from None


def fingerprint(certificate: Path) -> str:
    """Return SHA-256 (hex) of a certificate's DER form, as firmware shows."""
    return hashlib.sha256(der(certificate)).hexdigest()


def check_tools() -> None:
    """Raise SysPxeError unless sbsign is there."""
    run.run(["sbsign", "--version"], hint=_TOOLS)


def sign_image(source: Path, target: Path, keys: Keys) -> None:
    """Write an EFI file with the db key's signature. SysPxeError."""
    run.run(
        ["sbsign", "--key", str(keys.key), "--cert", str(keys.certificate),
         "--output", str(target), str(source)],
        timeout=_TIMEOUT,
        hint=_TOOLS,
    )  # fmt: skip
    check_signed(target, keys)


def remove_signature(path: Path) -> None:
    """Take the signature off an EFI file that has one. SysPxeError."""
    argv = ["sbattach", "--remove", str(path)]
    run.run(argv, timeout=_TIMEOUT, hint=_TOOLS)


def check_signed(path: Path, keys: Keys) -> None:
    """Raise SysPxeError unless the db key signed this EFI file."""
    run.run(
        ["sbverify", "--cert", str(keys.certificate), str(path)],
        timeout=_TIMEOUT,
        hint=_TOOLS,
    )
