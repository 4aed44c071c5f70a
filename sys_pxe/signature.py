"""Ed25519 signatures over exact bytes, by the ``openssl`` command.

Used the same way in dom0, in the sys-pxe qube and in the initramfs. Signatures
are checked before the bytes are parsed. Nothing is written to a disk: openssl
reads the document and the signature from memory files (memfd_create(2)), as
``pkeyutl -rawin`` wants a file whose size it can ask for.

A signed document is kept and sent as one file, so that text and signature
never come apart: a line ``signature BASE64``, then the document's bytes.
"""

import base64
import binascii
import os
from contextlib import ExitStack
from pathlib import Path

from sys_pxe import run
from sys_pxe.errors import InvalidInput, VerificationError

SIGNATURE_SIZE = 64
_PREFIX = b"signature "
_LINE_SIZE = len(_PREFIX) + 88 + 1
_HINT = "install the package openssl"


def memory_file(stack: ExitStack, content: bytes) -> int:
    """Return a descriptor of a file in RAM, which ``stack`` closes."""
    fd = os.memfd_create("sys-pxe")
    stack.callback(os.close, fd)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    return fd


def verify(
    document: bytes, untrusted_signature: bytes, public_key: Path, what: str
) -> None:
    """Return if the signature (64 bytes, RFC 8032) is the key's.

    Raises VerificationError otherwise; ``what`` names the document in it.
    """
    if len(untrusted_signature) != SIGNATURE_SIZE:
        raise VerificationError(
            f"the signature of {what} has {len(untrusted_signature)} bytes "
            f"(expected {SIGNATURE_SIZE})",
            "push it again; the signature was damaged or is of another kind",
        )
    with ExitStack() as stack:
        text = memory_file(stack, document)
        mark = memory_file(stack, untrusted_signature)
        result = run.run(
            [
                *("openssl", "pkeyutl", "-verify", "-pubin", "-rawin"),
                *("-inkey", str(public_key)),
                *("-in", f"/proc/self/fd/{text}"),
                *("-sigfile", f"/proc/self/fd/{mark}"),
            ],
            check=False,
            pass_fds=(text, mark),
            timeout=60,
            hint=_HINT,
        )
    if result.status != 0:
        raise VerificationError(
            f"the signature of {what} does not match the key {public_key.name}",
            "it was changed after signing, or signed with another key; "
            "compare the keys and push again",
        )


def sign(document: bytes, private_key: Path) -> bytes:
    """Return the key's signature (64 bytes) of the document."""
    with ExitStack() as stack:
        text = memory_file(stack, document)
        result = run.run(
            [
                *("openssl", "pkeyutl", "-sign", "-rawin"),
                *("-inkey", str(private_key)),
                *("-in", f"/proc/self/fd/{text}"),
            ],
            pass_fds=(text,),
            timeout=60,
            hint=_HINT,
        )
    if len(result.stdout) != SIGNATURE_SIZE:
        raise InvalidInput(f"{private_key} is not an Ed25519 key")
    return result.stdout


def signed(document: bytes, private_key: Path) -> bytes:
    """Return the signed form of a document."""
    mark = base64.b64encode(sign(document, private_key))
    return _PREFIX + mark + b"\n" + document


def opened(untrusted: bytes, public_key: Path, what: str) -> bytes:
    """Return the document of a signed form after checking its signature.

    Raises VerificationError, whatever is wrong with it.
    """
    untrusted_line, newline, untrusted_document = untrusted.partition(b"\n")
    mark = b""
    if len(untrusted_line) + 1 == _LINE_SIZE and newline:
        try:
            mark = base64.b64decode(
                untrusted_line.removeprefix(_PREFIX), validate=True
            )
        except binascii.Error:
            mark = b""
    # a second spelling of the same bits would be a second text for one document
    if _PREFIX + base64.b64encode(mark) != untrusted_line:
        raise VerificationError(
            f"{what} does not begin with a signature",
            "it was damaged, or not signed by 'sys-pxe'; push it again",
        )
    verify(untrusted_document, mark, public_key, what)
    return untrusted_document


def new_key() -> tuple[bytes, bytes]:
    """Return a new Ed25519 key pair as PEM: private, public."""
    private = run.run(
        ["openssl", "genpkey", "-algorithm", "ed25519"], timeout=60, hint=_HINT
    ).stdout
    public = run.run(
        ["openssl", "pkey", "-pubout"], stdin=private, timeout=60
    ).stdout
    return private, public
