"""The signing key of this installation: make it, show its fingerprint."""

import base64
import binascii
import hashlib
from pathlib import Path

from sys_pxe import files, signature
from sys_pxe.dom0.state import State
from sys_pxe.errors import InvalidInput, UsageError

_KEY_MAX = 4096


def create(state: State) -> str:
    """Make the key pair and return its fingerprint.

    Raises UsageError when there is a key: releases that were signed with it
    could not be checked any more.
    """
    folder = state.key_folder
    private, public = folder / "private.pem", folder / "public.pem"
    if private.exists() or public.exists():
        raise UsageError(
            f"there is a key in {folder} already",
            "all clients trust it; to start anew, move that folder away, "
            "then build, sign and push everything again",
        )
    files.make_folder(state.root)
    files.make_folder(folder, 0o700)
    private_pem, public_pem = signature.new_key()
    # public first: a private key alone would stop the next try for nothing
    files.write(public, public_pem)
    files.write(private, private_pem, 0o600)
    return fingerprint(public)


def fingerprint(public_key: Path) -> str:
    """Return SHA-256 (hex) of the public key's DER form (RFC 8410)."""
    pem = files.read_capped(public_key, _KEY_MAX)
    body = b"".join(
        line for line in pem.splitlines() if not line.startswith(b"-----")
    )
    try:
        der = base64.b64decode(body, validate=True)
    except binascii.Error:
        raise InvalidInput(f"{public_key} is not a PEM public key") from None
    return hashlib.sha256(der).hexdigest()
