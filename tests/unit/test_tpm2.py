"""The words of a TPM 2.0: their exact bytes, and answers that are none."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import tpm2
from sys_pxe.errors import InvalidInput, SysPxeError, VerificationError
from sys_pxe.measured import BOOT_PCRS

NONCE = b"n" * 32
X = bytes.fromhex(
    "c141ac115701dba0031b36f0f1d5ab7847e4d4577c45991d2c29a563b46fe131"
)
Y = bytes.fromhex(
    "e807e0781b0ff8a01eea86acc95b393dcdb3e75413fbc268ffc23c6189e84590"
)
# answers of swtpm 0.7.1 (libtpms 0.9.2)
EXTENDED = bytes.fromhex("80020000001300000000000000000000010000")
FLUSHED = bytes.fromhex("80010000000a00000000")
REFUSED = bytes.fromhex("80010000000a000001cb")
KEY = bytes.fromhex(
    "80020000013800000000800000000000012100580023000b00050472000000100018"
    "000b000300100020" + X.hex() + "0020" + Y.hex() + "00370000000000"
    "20e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    "01001000044000000b00044000000b0000002028d026fafd749106743e27c4280551"
    "585e5d17668eb521835ed60127effc05d480214000000b00401aa32d091e0c2a04b5"
    "19b6c0d2be65ffc4db497760eb537d26f1d10774476486b89d01200f28b8c56fc7c8"
    "01d7f02e3122ca96ad670b3c16eafd45f866bd56440022000b96f977932ad8fb9900"
    "8436e383f099b2131675cba16208196cdd061396ca485b0000010000"
)
ATTEST = bytes.fromhex(
    "ff54434780180022000b89427b386b0e584394e0e30d366caaffef0ed61cac835a4a"
    "e032be54c5ce02ca0020" + NONCE.hex() + "000000000000000f000000010000"
    "00000120191023001636360000000100 0b039520000020b552d272cae6c9e11248"
    "73c5f618642b105c4bd436bcbc8cfb3b9bd6caa20a2e"
)
SIGNATURE = bytes.fromhex(
    "ba784e1558d5332e998cc1e9205d57f83e3e907881e5dcf54bc9f5a9d249e1b7"
    "9ff25c11ebafd09302c8ac5c77bbe3303b7d39fe3745770efd92aeafdbc9bf19"
)
QUOTED = (
    bytes.fromhex("8002000000ee00000000000000db0091")
    + ATTEST
    + bytes.fromhex("0018000b0020")
    + SIGNATURE[:32]
    + bytes.fromhex("0020")
    + SIGNATURE[32:]
    + bytes.fromhex("0000010000")
)
OURS = bytes.fromhex(
    "1be91e70d3cb4c4754719f484b83f1a3b60698283b03166afa28a9215e966bbd"
)
PCRS = {pcr: bytes(32) for pcr in (0, 2, 4, 7)} | {13: OURS}
READ = bytes.fromhex(
    "8001000000c6000000000000001700000001000b03952000 00000005"
) + b"".join(b"\0\x20" + value for value in PCRS.values())

PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "TPM2_PCR_Extend": (tpm2.parse_extended, EXTENDED),
    "TPM2_FlushContext": (tpm2.parse_flushed, FLUSHED),
    "TPM2_CreatePrimary": (tpm2.parse_key, KEY),
    "TPM2_Quote": (tpm2.parse_quoted, QUOTED),
    "TPM2_PCR_Read": (tpm2.parse_pcrs, READ),
}
EACH = pytest.mark.parametrize("what", PARSERS)


def resized(answer: bytes) -> bytes:
    """Return an answer whose header tells its size as it is."""
    return answer[:2] + len(answer).to_bytes(4, "big") + answer[6:]


def changed(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            tpm2.pcr_extend(13, b"\1" * 32),
            "8002 00000041 00000182 0000000d 00000009 40000009 0000 00 0000"
            "00000001 000b" + "01" * 32,
        ),
        (
            tpm2.create_attestation_key(),
            "8002 00000041 00000131 4000000b 00000009 40000009 0000 00 0000"
            "0004 0000 0000"
            "0018 0023 000b 00050472 0000 0010 0018 000b 0003 0010 0000 0000"
            "0000 00000000",
        ),
        (
            tpm2.quote(0x80000000, NONCE, BOOT_PCRS),
            "8002 00000049 00000158 80000000 00000009 40000009 0000 00 0000"
            "0020" + NONCE.hex() + "0010 00000001 000b 03 952000",
        ),
        (
            tpm2.flush_context(0x80000001),
            "8001 0000000e 00000165 80000001",
        ),
        (
            tpm2.pcr_read((23, 0)),
            "8001 00000014 0000017e 00000001 000b 03 010080",
        ),
    ],
)
def test_commands_have_these_bytes(command: bytes, expected: str) -> None:
    assert command.hex() == expected.replace(" ", "")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tpm2.pcr_extend(24, bytes(32)), "PCR 24"),
        (lambda: tpm2.pcr_extend(-1, bytes(32)), "PCR -1"),
        (lambda: tpm2.pcr_extend(13, bytes(20)), "with 20 bytes"),
        (lambda: tpm2.pcr_read((0, 24)), "no PCR 24"),
        (lambda: tpm2.quote(1, b"", (0,)), "nonce of 0 bytes"),
        (lambda: tpm2.quote(1, bytes(33), (0,)), "nonce of 33 bytes"),
        (lambda: tpm2.subject_public_key_info(b"x"), "key of 1 bytes"),
        (lambda: tpm2.ecdsa_der(bytes(63)), "signature of 63 bytes"),
    ],
)
def test_what_no_tpm_knows_is_not_asked(
    make: Callable[[], bytes], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()


def test_answers_are_read() -> None:
    tpm2.parse_extended(EXTENDED)
    tpm2.parse_flushed(FLUSHED)
    assert tpm2.parse_key(KEY) == tpm2.Key(0x80000000, X + Y)
    assert tpm2.parse_quoted(QUOTED) == (ATTEST, SIGNATURE)
    assert tpm2.parse_pcrs(READ) == PCRS
    assert tpm2.parse_attest(ATTEST) == tpm2.Attest(
        NONCE, 1, BOOT_PCRS, ATTEST[-32:]
    )


def test_a_tpm_without_our_bank_has_no_values() -> None:
    empty = "8001000000180000000000000017 00000001 000b 03 000000 00000000"
    none = resized(bytes.fromhex(empty))
    assert tpm2.parse_pcrs(none) == {}


@EACH
def test_each_byte_of_an_answer_is_missed(what: str) -> None:
    parse, answer = PARSERS[what]
    for size in range(len(answer)):
        with pytest.raises(InvalidInput, match=what):
            parse(answer[:size])
        if size >= 10:
            with pytest.raises(InvalidInput, match=what):
                parse(resized(answer[:size]))


@EACH
def test_a_byte_too_many_is_refused(what: str) -> None:
    parse, answer = PARSERS[what]
    with pytest.raises(InvalidInput, match="it says"):
        parse(answer + b"\0")
    with pytest.raises(InvalidInput, match="1 bytes too many"):
        parse(resized(answer + b"\0"))


@EACH
def test_another_tag_is_refused(what: str) -> None:
    parse, answer = PARSERS[what]
    with pytest.raises(InvalidInput, match=f"{what}: its tag is 0xc4"):
        parse(changed(answer, 0, b"\0\xc4"))
    other = {b"\x80\1": b"\x80\2", b"\x80\2": b"\x80\1"}[answer[:2]]
    with pytest.raises(InvalidInput, match="its tag is"):
        parse(changed(answer, 0, other))


@EACH
def test_a_code_is_told(what: str) -> None:
    parse, _ = PARSERS[what]
    message = f"^the TPM refused {what} with code 0x1cb$"
    with pytest.raises(SysPxeError, match=message) as caught:
        parse(REFUSED)
    assert not isinstance(caught.value, InvalidInput)
    assert caught.value.hint
    # a TPM 1.2: TPM_BADTAG
    with pytest.raises(SysPxeError, match=r"with code 0x1e$"):
        parse(bytes.fromhex("00c40000000a0000001e"))


@given(st.sampled_from(sorted(PARSERS)), st.data())
def test_a_changed_byte_is_no_other_error(
    what: str, data: st.DataObject
) -> None:
    parse, answer = PARSERS[what]
    at = data.draw(st.integers(0, len(answer) - 1))
    other = data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(answer)))
    content = changed(answer, at, bytes([answer[at] ^ other]))
    for untrusted in (content, content[:cut]):
        try:
            parse(untrusted)
        except SysPxeError:
            continue


@pytest.mark.parametrize(
    ("parse", "answer", "at", "value", "message"),
    [
        (tpm2.parse_extended, EXTENDED, 10, b"\0\0\1\0", "cut off"),
        (tpm2.parse_extended, EXTENDED, 14, b"\0\1", "session's nonce is 0x1"),
        (tpm2.parse_extended, EXTENDED, 17, b"\0\1", "session's password"),
        (tpm2.parse_key, KEY, 20, b"\0\1", "its type is 0x1 "),
        (tpm2.parse_key, KEY, 22, b"\0\4", "its hash"),
        (tpm2.parse_key, KEY, 24, b"\0\4", "its attributes is 0x40472 "),
        (tpm2.parse_key, KEY, 28, b"\0\1", "its policy"),
        (tpm2.parse_key, KEY, 30, b"\0\6", "its cipher"),
        (tpm2.parse_key, KEY, 32, b"\0\x1a", "its scheme is 0x1a "),
        (tpm2.parse_key, KEY, 34, b"\0\4", "its scheme's hash"),
        (tpm2.parse_key, KEY, 36, b"\0\4", "its curve is 0x4 "),
        (tpm2.parse_key, KEY, 38, b"\0\7", "its derivation"),
        (tpm2.parse_key, KEY, 40, b"\0\0", "a number of 0 bytes"),
        (tpm2.parse_key, KEY, 40, b"\0\x21", "a number of 33 bytes"),
        (tpm2.parse_quoted, QUOTED, 161, b"\0\x14", "signature's scheme"),
        (tpm2.parse_quoted, QUOTED, 163, b"\0\4", "signature's hash"),
        (tpm2.parse_pcrs, READ, 14, b"\0\0\0\2", "count of PCR banks is 0x2"),
        (tpm2.parse_pcrs, READ, 18, b"\0\4", "its PCR bank is 0x4 "),
        (tpm2.parse_pcrs, READ, 20, b"\2", "size of its PCR selection"),
        (tpm2.parse_pcrs, READ, 21, b"\0", "its count of values is 0x5"),
        (tpm2.parse_pcrs, READ, 28, b"\0\x14", "a digest of 20 bytes"),
        (tpm2.parse_attest, ATTEST, 0, b"\xfe", "its magic is 0xfe544347"),
        (tpm2.parse_attest, ATTEST, 4, b"\x80\x17", "its type is 0x8017"),
        (tpm2.parse_attest, ATTEST + b"\0", 0, b"\xff", "1 bytes too many"),
        (tpm2.parse_attest, ATTEST[:-1], 0, b"\xff", "quote: cut off"),
        (tpm2.parse_attest, b"", 0, b"", "quote: cut off"),
    ],
)
def test_another_field_is_refused(
    parse: Callable[[bytes], object],
    answer: bytes,
    at: int,
    value: bytes,
    message: str,
) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse(changed(answer, at, value))


@given(st.integers(0, len(ATTEST) - 1))
def test_a_cut_attest_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput):
        tpm2.parse_attest(ATTEST[:size])


def test_a_number_without_its_zeros_is_filled_up() -> None:
    short = QUOTED[:165] + b"\0\1\7" + QUOTED[199:]
    size = int.from_bytes(QUOTED[10:14], "big") - 31
    answer = resized(changed(short, 10, size.to_bytes(4, "big")))
    _, signature = tpm2.parse_quoted(answer)
    assert signature == bytes(31) + b"\7" + SIGNATURE[32:]


def test_the_values_that_were_signed_hold() -> None:
    tpm2.check_pcrs(tpm2.parse_attest(ATTEST), PCRS)


def test_other_values_do_not_hold() -> None:
    attest = tpm2.parse_attest(ATTEST)
    swapped = PCRS | {7: OURS, 13: bytes(32)}
    for wrong in (PCRS | {4: b"\1" * 32}, swapped):
        with pytest.raises(VerificationError, match="not those that"):
            tpm2.check_pcrs(attest, wrong)
    digest = attest.digest[:-1] + b"\0"
    with pytest.raises(VerificationError, match="not those that"):
        tpm2.check_pcrs(replace(attest, digest=digest), PCRS)


@pytest.mark.parametrize(
    ("pcrs", "message"),
    [
        ({}, "0, 2, 4, 7, 13 .expected none"),
        ({13: OURS}, "expected 13"),
        (PCRS | {14: bytes(32)}, "expected 0, 2, 4, 7, 13, 14"),
    ],
)
def test_other_pcrs_do_not_hold(pcrs: dict[int, bytes], message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        tpm2.check_pcrs(tpm2.parse_attest(ATTEST), pcrs)


def test_der_has_the_sign_and_no_zeros_at_the_start() -> None:
    high = b"\x80" + bytes(31)
    low = bytes(31) + b"\x7f"
    assert tpm2.ecdsa_der(high + low).hex() == (
        "3026" + "022100" + high.hex() + "02017f"
    )
    assert tpm2.ecdsa_der(bytes(64)).hex() == "3006020100020100"
    assert len(tpm2.ecdsa_der(b"\xff" * 64)) == 72
