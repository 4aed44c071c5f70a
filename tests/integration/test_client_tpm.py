"""A PC's TPM, by swtpm: what is measured into it, and its quotes.

openssl checks what the TPM signed; nothing here knows how to sign.
"""

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sys_pxe import measured, run, tpm2
from sys_pxe.client import tpm
from sys_pxe.dom0 import quote as checks
from sys_pxe.errors import SysPxeError, VerificationError
from tests.integration.tpm_room import powered

MANIFEST = b"format = 1\nserial = 7\n"
EVENTS = measured.events(MANIFEST, "office")
NONCE = bytes(range(32))
# TPM2_PCR_Allocate by the platform, which takes SHA-1 only (Part 3, 22.5)
SHA1_ONLY = bytes.fromhex(
    "8002000000370000012b4000000c00000009400000090000000000"
    "00000004 0004 03 ffffff 000b 03 000000 000c 03 000000 000d 03 000000"
)
SHUTDOWN_CLEAR = bytes.fromhex("80010000000c000001450000")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[tpm.Device]:
    with powered(tmp_path / "tpm") as found:
        yield found


@pytest.fixture(scope="module")
def quoted(tmp_path_factory: pytest.TempPathFactory) -> tpm2.Quote:
    """A quote after the events of a boot."""
    state = tmp_path_factory.mktemp("quoted")
    with powered(state) as found:
        tpm.extend(found, EVENTS)
        return tpm.quote(found, NONCE)


def test_the_pcr_is_what_the_events_make(quoted: tpm2.Quote) -> None:
    zeros = {pcr: bytes(32) for pcr in measured.BOOT_PCRS}
    assert quoted.pcrs == zeros | {measured.PCR: measured.value(EVENTS)}


def test_a_quote_holds(quoted: tpm2.Quote) -> None:
    checks.verify(quoted, NONCE)
    attest = tpm2.parse_attest(quoted.attest)
    assert (attest.nonce, attest.resets) == (NONCE, 1)
    sizes = [len(quoted.attest), len(quoted.signature), len(quoted.public_key)]
    assert sizes == [145, 64, 64]


def test_openssl_knows_the_key_as_one_of_p256(quoted: tpm2.Quote) -> None:
    said = run.run(
        ["openssl", "pkey", "-pubin", "-inform", "DER", "-noout", "-text"],
        stdin=tpm2.subject_public_key_info(quoted.public_key),
    )
    assert b"prime256v1" in said.stdout


def test_no_other_byte_holds(quoted: tpm2.Quote) -> None:
    for at in range(0, len(quoted.attest), 12):
        attest = bytearray(quoted.attest)
        attest[at] ^= 1
        with pytest.raises(VerificationError, match="signature"):
            checks.verify(replace(quoted, attest=bytes(attest)), NONCE)


@pytest.mark.parametrize(
    ("change", "nonce", "message"),
    [
        ({}, bytes(32), "another nonce"),
        ({}, NONCE[:31], "another nonce"),
        ({}, b"", "another nonce"),
        ({"signature": bytes(64)}, NONCE, "signature of the TPM's quote"),
        ({"signature": b""}, NONCE, "a signature of 0 bytes"),
        ({"public_key": bytes(64)}, NONCE, "signature of the TPM's quote"),
        ({"public_key": b"x"}, NONCE, "a public key of 1 bytes"),
        ({"attest": b""}, NONCE, "signature of the TPM's quote"),
        ({"pcrs": {}}, NONCE, "is about the PCRs 0, 2, 4, 7, 13"),
        (
            {"pcrs": {pcr: bytes(32) for pcr in measured.BOOT_PCRS}},
            NONCE,
            "not those that the TPM signed",
        ),
    ],
)
def test_a_forged_quote_does_not_hold(
    quoted: tpm2.Quote, change: dict[str, Any], nonce: bytes, message: str
) -> None:
    with pytest.raises(VerificationError, match=message) as caught:
        checks.verify(replace(quoted, **change), nonce)
    assert "boot the client again" in caught.value.hint


def test_a_quote_of_fewer_pcrs_does_not_hold(device: tpm.Device) -> None:
    key = tpm2.parse_key(device.ask(tpm2.create_attestation_key()))
    asked = tpm2.quote(key.handle, NONCE, (0,))
    attest, signature = tpm2.parse_quoted(device.ask(asked))
    fewer = tpm2.Quote(key.point, attest, signature, {0: bytes(32)})
    with pytest.raises(VerificationError, match="not about the PCRs of"):
        checks.verify(fewer, NONCE)


def test_what_a_tpm_signed_as_no_quote_does_not_hold(tmp_path: Path) -> None:
    """A key outside of a TPM signs anything; only its form is refused."""
    run.run(
        [
            *("openssl", "genpkey", "-algorithm", "EC"),
            *("-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-out", str(tmp_path / "key")),
        ]
    )
    (tmp_path / "text").write_bytes(b"\xffTCG\x80\x17")
    public = run.run(
        [
            *("openssl", "pkey", "-in", str(tmp_path / "key")),
            *("-pubout", "-outform", "DER"),
        ]
    ).stdout
    der = run.run(
        [
            *("openssl", "dgst", "-sha256", "-sign", str(tmp_path / "key")),
            str(tmp_path / "text"),
        ]
    ).stdout
    first = der[4 : 4 + der[3]]
    second = der[6 + der[3] :]
    signature = first[-32:].rjust(32, b"\0") + second[-32:].rjust(32, b"\0")
    forged = tpm2.Quote(public[-64:], b"\xffTCG\x80\x17", signature, {})
    assert tpm2.subject_public_key_info(forged.public_key) == public
    assert tpm2.ecdsa_der(signature) == der
    with pytest.raises(VerificationError, match="type is 0x8017"):
        checks.verify(forged, NONCE)


def test_a_tpm_has_one_key_and_counts_its_resets(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        with powered(tmp_path / "one") as device:
            found.append(tpm.quote(device, NONCE))
    assert found[0].public_key == found[1].public_key
    resets = [tpm2.parse_attest(quote.attest).resets for quote in found]
    assert resets[1] == resets[0] + 1
    with powered(tmp_path / "other") as device:
        other = tpm.quote(device, NONCE)
    assert other.public_key != found[0].public_key
    with pytest.raises(VerificationError, match="signature"):
        checks.verify(replace(other, public_key=found[0].public_key), NONCE)


def test_no_key_is_left_in_the_tpm(device: tpm.Device) -> None:
    for _ in range(10):
        checks.verify(tpm.quote(device, NONCE), NONCE)
    for _ in range(10):
        with pytest.raises(SysPxeError, match="nonce"):
            tpm.quote(device, bytes(33))
    key = tpm2.parse_key(device.ask(tpm2.create_attestation_key()))
    assert key.handle == 0x80000000
    tpm2.parse_flushed(device.ask(tpm2.flush_context(key.handle)))
    with pytest.raises(SysPxeError, match="refused TPM2_FlushContext"):
        tpm2.parse_flushed(device.ask(tpm2.flush_context(key.handle)))


def test_our_pcr_cannot_be_reset(device: tpm.Device) -> None:
    tpm.extend(device, EVENTS)
    session = "00000009 40000009 0000 00 0000"
    reset = bytes.fromhex(
        f"8002 0000001b 0000013d {measured.PCR:08x} {session}"
    )
    # TPM_RC_LOCALITY
    assert device.ask(reset)[6:].hex() == "00000907"
    assert tpm.quote(device, NONCE).pcrs[measured.PCR] == measured.value(EVENTS)


def test_a_tpm_without_sha256_says_so(tmp_path: Path) -> None:
    with powered(tmp_path / "old") as device:
        assert device.ask(SHA1_ONLY)[6:10] == bytes(4)
        assert device.ask(SHUTDOWN_CLEAR)[6:10] == bytes(4)
    with powered(tmp_path / "old") as device:
        tpm.extend(device, EVENTS)
        with pytest.raises(SysPxeError, match="no SHA-256 PCRs"):
            tpm.quote(device, NONCE)


def test_a_tpm_that_went_away_is_told() -> None:
    ours, its = socket.socketpair()
    its.close()
    with (
        tpm.Device(ours.detach()) as device,
        pytest.raises(SysPxeError, match="the TPM does not answer"),
    ):
        tpm.extend(device, EVENTS)


def test_a_tpm_that_says_nothing_is_told() -> None:
    ours, its = socket.socketpair()

    def hang_up() -> None:
        its.recv(tpm2.ANSWER_MAX)
        its.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with (
        tpm.Device(ours.detach()) as device,
        pytest.raises(SysPxeError, match="cut off"),
    ):
        tpm.extend(device, EVENTS)
    thread.join()


def test_a_tpm_is_found_by_its_version(tmp_path: Path) -> None:
    absent, node = tmp_path / "tpmrm0", tmp_path / "tpm0"
    version = tmp_path / "tpm_version_major"
    assert tpm.find((absent, node), version) is None
    version.write_bytes(b"2\n")
    assert tpm.find((absent, node), version) is None
    node.mkdir()
    assert tpm.find((absent, node), version) is None
    node.rmdir()
    node.write_bytes(b"")
    found = tpm.find((absent, node), version)
    assert found is not None
    # a file that takes a command and answers nothing
    with found, pytest.raises(SysPxeError, match="cut off"):
        tpm.extend(found, EVENTS)
    assert node.read_bytes() == tpm2.pcr_extend(measured.PCR, EVENTS[0])
    version.write_bytes(b"1\n")
    assert tpm.find((absent, node), version) is None
