"""Whether a TPM's quote holds: its signature, its nonce, its PCR values.

It says nothing of whose key signed it: that is compared with the key that the
client is known by.
"""

from contextlib import ExitStack

from sys_pxe import measured, run, signature, tpm2
from sys_pxe.errors import InvalidInput, VerificationError

_HINT = "boot the client again; if it stays so, its TPM or its boot is forged"


def verify(quote: tpm2.Quote, nonce: bytes) -> tpm2.Attest:
    """Return what a quote says if it holds and answers this nonce.

    Raises VerificationError that says what does not: the signature (checked
    first, by openssl, before the rest is parsed), the nonce, or the values.
    """
    try:
        _check_signature(quote)
        attest = tpm2.parse_attest(quote.attest)
        if not nonce or attest.nonce != nonce:
            raise VerificationError(
                "the TPM's quote is the answer to another nonce"
            )
        if attest.selection != measured.BOOT_PCRS:
            raise VerificationError(
                "the TPM's quote is not about the PCRs of the boot"
            )
        tpm2.check_pcrs(attest, quote.pcrs)
        return attest
    except (InvalidInput, VerificationError) as error:
        raise VerificationError(error.message, error.hint or _HINT) from error


def _check_signature(quote: tpm2.Quote) -> None:
    with ExitStack() as stack:
        key, mark, text = (
            signature.memory_file(stack, content)
            for content in (
                tpm2.subject_public_key_info(quote.public_key),
                tpm2.ecdsa_der(quote.signature),
                quote.attest,
            )
        )
        result = run.run(
            [
                *("openssl", "pkeyutl", "-verify", "-pubin"),
                *("-keyform", "DER", "-inkey", f"/proc/self/fd/{key}"),
                *("-rawin", "-digest", "sha256"),
                *("-in", f"/proc/self/fd/{text}"),
                *("-sigfile", f"/proc/self/fd/{mark}"),
            ],
            check=False,
            pass_fds=(key, mark, text),
            timeout=60,
            hint="install the package openssl",
        )
    if result.status != 0:
        raise VerificationError(
            "the signature of the TPM's quote does not match its key"
        )
