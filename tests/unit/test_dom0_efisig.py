"""Signature lists and signed changes, byte for byte as UEFI has them."""

from uuid import UUID

import pytest

from sys_pxe import names
from sys_pxe.dom0 import efisig
from sys_pxe.errors import InvalidInput

OWNER = UUID("11223344-5566-7788-99aa-bbccddeeff00")
ESL = efisig.signature_list(b"DER", OWNER)
# ContentInfo, object identifier, [0], then SignedData: an empty sequence
PKCS7 = bytes.fromhex("300f06092a864886f70d010702a0023000")


def test_a_list_has_the_form_of_the_specification() -> None:
    assert ESL.hex() == (
        "a159c0a5e494a74a87b5ab155c2bf072"  # EFI_CERT_X509_GUID
        "2f000000" "00000000" "13000000"  # all, header, one entry
        "44332211665588779" "9aabbccddeeff00"  # owner
        "444552"
    )  # fmt: skip
    assert efisig.certificate_of(ESL) == (OWNER, b"DER")


@pytest.mark.parametrize(
    "wrong",
    [b"", ESL[:44], ESL[:-1], ESL + b"x", b"x" + ESL[1:], ESL + ESL,
     ESL[:24] + b"\x12" + ESL[25:], ESL[:20] + b"\x01" + ESL[21:]],
)  # fmt: skip
def test_what_is_not_one_list_of_one_certificate_is_refused(
    wrong: bytes,
) -> None:
    with pytest.raises(InvalidInput, match="EFI signature list"):
        efisig.certificate_of(wrong)


def test_a_month_is_a_month() -> None:
    # sbvarsign of sbsigntool 0.9.4 counts them from 0
    at = names.parse_time("2027-01-02T03:04:05Z", "test")
    assert efisig.efi_time(at).hex() == "eb070102030405000000000000000000"


def test_what_is_signed_names_the_variable() -> None:
    text = efisig.to_sign("db", ESL, 0)
    assert text.startswith(b"d\0b\0\xcb\xb2\x19\xd7\x3a\x3d\x96\x45")
    assert text[20:24] == b"\x27\0\0\0"
    assert text[24:40] == efisig.efi_time(0)
    assert text[40:] == ESL
    assert efisig.to_sign("KEK", ESL, 0) != text


def test_a_signed_change_holds_the_bare_signature() -> None:
    made = efisig.signed_update(ESL, 0, PKCS7)
    assert made[:16] == efisig.efi_time(0)
    assert made[16:24].hex() == "1a0000000002f10e"
    assert UUID(bytes_le=made[24:40]) == efisig.PKCS7
    assert made[40:] == b"\x30\x00" + ESL


@pytest.mark.parametrize(
    "wrong",
    [b"", PKCS7[:-1], PKCS7 + b"x", b"\x31" + PKCS7[1:],
     PKCS7[:12] + b"\x03" + PKCS7[13:], b"\x30\x84" + PKCS7[1:]],
)  # fmt: skip
def test_what_is_no_signature_is_refused(wrong: bytes) -> None:
    with pytest.raises(InvalidInput, match="PKCS #7"):
        efisig.signed_data(wrong)
