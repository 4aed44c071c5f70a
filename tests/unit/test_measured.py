"""What is measured of a boot, and the text in which a quote travels."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import measured
from sys_pxe.errors import InvalidInput
from sys_pxe.tpm2 import Quote

TEXT = b"sys-pxe manifest 1\n"


def test_a_boot_is_a_chain_of_digests() -> None:
    one, two = measured.events(TEXT, "office")
    assert one == hashlib.sha256(TEXT).digest()
    assert two == hashlib.sha256(b"sys-pxe profile\0office").digest()
    assert measured.value([]) == bytes(32)
    first = hashlib.sha256(bytes(32) + one).digest()
    assert measured.value([one]) == first
    assert measured.value([one, two]) == hashlib.sha256(first + two).digest()
    assert measured.value([two, one]) != measured.value([one, two])


def test_no_manifest_is_taken_for_a_nonce_or_a_profile() -> None:
    marks = {measured.nonce(TEXT), *measured.events(TEXT, "office")}
    marks |= {measured.nonce(b"other"), *measured.events(b"other", "small")}
    assert len(marks) == 6


numbers = st.binary(min_size=32, max_size=32)


@given(
    key=st.binary(min_size=64, max_size=64),
    mark=st.binary(min_size=64, max_size=64),
    values=st.lists(numbers, min_size=5, max_size=5),
    attest=st.binary(min_size=1, max_size=400),
)
def test_a_quote_comes_back_from_its_text(
    key: bytes, mark: bytes, values: list[bytes], attest: bytes
) -> None:
    pcrs = dict(zip(measured.BOOT_PCRS, values, strict=True))
    quote = Quote(key, attest, mark, pcrs)
    text = measured.encode(quote)
    assert len(text) <= measured.TEXT_MAX
    assert measured.decode(text, "test") == quote


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "report.quote: 0 bytes are no quote"),
        ("A" * 1028, "not base64 of at most 1024"),
        ("?" * 400, "not base64"),
        ("AAA", "not base64"),
        (base64.b64encode(bytes(288)).decode(), "288 bytes are no quote"),
        ("Ä" * 400, "not base64"),
    ],
)
def test_what_is_no_quote_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        measured.decode(text, "report.quote")
