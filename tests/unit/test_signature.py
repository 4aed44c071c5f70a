"""Signatures: the exact bytes or nothing. Each openssl call costs time."""

import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sys_pxe import manifest, run, signature
from sys_pxe.errors import InvalidInput, SysPxeError, VerificationError
from tests import documents

DOCUMENT = manifest.write(documents.release())


@dataclass(frozen=True)
class Keys:
    private: Path
    public: Path
    stranger: Path
    signed: bytes


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    private, public = signature.new_key()
    (folder / "private.pem").write_bytes(private)
    (folder / "key.pem").write_bytes(public)
    (folder / "stranger.pem").write_bytes(signature.new_key()[1])
    return Keys(
        folder / "private.pem",
        folder / "key.pem",
        folder / "stranger.pem",
        signature.signed(DOCUMENT, folder / "private.pem"),
    )


def test_what_was_signed_is_opened(keys: Keys) -> None:
    assert signature.opened(keys.signed, keys.public, "it") == DOCUMENT


def test_an_empty_signature_is_refused(keys: Keys) -> None:
    with pytest.raises(VerificationError, match="has 0 bytes"):
        signature.opened(b"signature \n" + DOCUMENT, keys.public, "it")


def test_another_key_does_not_open_it(keys: Keys) -> None:
    with pytest.raises(VerificationError) as caught:
        signature.opened(keys.signed, keys.stranger, "release r1")
    assert caught.value.message == (
        "the signature of release r1 does not match the key stranger.pem"
    )
    assert "compare the keys" in caught.value.hint


def sampled(signed: bytes) -> Iterator[bytes]:
    """Yield mutations of the text: a few, spread over all of it."""
    start = signed.index(b"\n") + 1
    places = random.Random(1).sample(range(start, len(signed)), 10)
    for i in (start, len(signed) - 1, *places):
        yield signed[:i] + bytes([signed[i] ^ 1]) + signed[i + 1 :]
    yield signed + b"\n"
    yield signed[:-1]
    yield signed[:start] + b"\n" + signed[start:]


def test_a_changed_document_is_refused(keys: Keys) -> None:
    for wrong in sampled(keys.signed):
        with pytest.raises(VerificationError, match="does not match the key"):
            signature.opened(wrong, keys.public, "it")


def test_a_changed_signature_is_refused(keys: Keys) -> None:
    mark = base64.b64decode(keys.signed.split()[1])
    for i in (0, 31, 32, 63):
        other = mark[:i] + bytes([mark[i] ^ 1]) + mark[i + 1 :]
        line = b"signature " + base64.b64encode(other) + b"\n"
        with pytest.raises(VerificationError, match="does not match the key"):
            signature.opened(line + DOCUMENT, keys.public, "it")


def second_spelling(line: bytes) -> bytes:
    """Return base64 that decodes to the same bytes (unused bits set)."""
    alphabet = (
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    )
    last = alphabet.index(line[-3])
    return line[:-3] + bytes([alphabet[last + 1]]) + b"=="


def test_anything_but_the_one_first_line_is_refused(keys: Keys) -> None:
    line, _, rest = keys.signed.partition(b"\n")
    wrong_lines = [
        *(b"", b"signature", line[:-1], line + b" "),
        *(line + b"\r", line.upper(), b" " + line, line.replace(b" ", b"\t")),
        *(line[:10] + b"\xff" + line[11:], line[10:], second_spelling(line)),
    ]
    for wrong in wrong_lines:
        assert wrong != line
        with pytest.raises(VerificationError) as caught:
            signature.opened(wrong + b"\n" + rest, keys.public, "it")
        assert caught.value.message == "it does not begin with a signature"


@pytest.mark.parametrize("untrusted", [b"", b"\n", b"x", DOCUMENT])
def test_a_document_without_a_signature(untrusted: bytes, keys: Keys) -> None:
    with pytest.raises(VerificationError, match="does not begin with"):
        signature.opened(untrusted, keys.public, "it")


def test_a_cut_first_line_without_a_document(keys: Keys) -> None:
    line = keys.signed.partition(b"\n")[0]
    with pytest.raises(VerificationError, match="does not begin with"):
        signature.opened(line, keys.public, "it")


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_size(size: int, keys: Keys) -> None:
    with pytest.raises(VerificationError, match=f"has {size} bytes"):
        signature.verify(DOCUMENT, bytes(size), keys.public, "it")


def test_a_missing_public_key_refuses(keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(VerificationError):
        signature.opened(keys.signed, tmp_path / "none.pem", "it")


def test_a_public_key_cannot_sign(keys: Keys) -> None:
    with pytest.raises(SysPxeError):
        signature.sign(DOCUMENT, keys.public)


def test_a_key_of_another_kind_cannot_sign(tmp_path: Path) -> None:
    kind = ["openssl", "genpkey", "-algorithm", "ed448"]
    (tmp_path / "key.pem").write_bytes(run.run(kind).stdout)
    with pytest.raises(InvalidInput, match="is not an Ed25519 key"):
        signature.sign(DOCUMENT, tmp_path / "key.pem")
