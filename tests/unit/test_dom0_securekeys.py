"""Secure Boot keys: made once, kept secret, exported as firmware takes them."""

from pathlib import Path

import pytest

from sys_pxe import files, run
from sys_pxe.dom0 import efisig, securekeys
from sys_pxe.dom0.state import State
from sys_pxe.errors import InvalidInput, SysPxeError, UsageError
from tests.dom0_world import NOW


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    made = State(tmp_path_factory.mktemp("state") / "here")
    assert securekeys.present(made) is None
    securekeys.create(made, NOW)
    return made


def test_private_keys_are_for_nobody_else(state: State) -> None:
    place = securekeys.folder(state)
    assert place.stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in place.iterdir()) == [
        *("KEK.key", "KEK.pem", "PK.key", "PK.pem", "db.key", "db.pem"),
    ]
    for name in securekeys.NAMES:
        assert (place / f"{name}.key").stat().st_mode & 0o777 == 0o600
    for path in securekeys.exports(state).iterdir():
        assert b"PRIVATE" not in path.read_bytes()


def test_the_signature_of_each_export_is_its_signer_s(
    state: State, tmp_path: Path
) -> None:
    place, out = securekeys.folder(state), securekeys.exports(state)
    for name, signer in securekeys.SIGNED_BY.items():
        esl = (out / f"{name}.esl").read_bytes()
        der = (out / f"{name}.cer").read_bytes()
        assert efisig.certificate_of(esl)[1] == der
        auth = (out / f"{name}.auth").read_bytes()
        assert auth.startswith(efisig.efi_time(NOW)) and auth.endswith(esl)
        data = auth[40 : len(auth) - len(esl)]
        # EDK2 looks for SHA-256 at this very offset of a SignedData
        assert data[13:22] == bytes.fromhex("608648016503040201")
        files.write(tmp_path / "text", efisig.to_sign(name, esl, NOW))
        for other in securekeys.NAMES:
            status = verify(data, tmp_path / "text", place / f"{other}.pem")
            assert (status == 0) == (other == signer)


def verify(data: bytes, text: Path, certificate: Path) -> int:
    inner = b"\xa0\x82" + len(data).to_bytes(2, "big") + data
    content = bytes.fromhex("06092a864886f70d010702") + inner
    whole = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    done = run.run(
        ["openssl", "cms", "-verify", "-binary", "-inform", "DER",
         "-content", str(text), "-certfile", str(certificate),
         "-CAfile", str(certificate), "-nointern", "-purpose", "any",
         "-out", "/dev/null"],
        stdin=whole,
        check=False,
    )  # fmt: skip
    return done.status


def test_there_is_one_owner_and_one_db(state: State) -> None:
    out = securekeys.exports(state)
    owners = {
        efisig.certificate_of((out / f"{name}.esl").read_bytes())[0]
        for name in securekeys.NAMES
    }
    assert len(owners) == 1
    found = securekeys.present(state)
    assert found is not None
    assert len(securekeys.fingerprint(found.certificate)) == 64


def test_keys_that_pcs_know_are_not_replaced(state: State) -> None:
    before = securekeys.fingerprint(securekeys.folder(state) / "db.pem")
    with pytest.raises(UsageError, match="already") as caught:
        securekeys.create(state, NOW)
    assert "enrol" in caught.value.hint
    after = securekeys.fingerprint(securekeys.folder(state) / "db.pem")
    assert before == after


def test_a_lost_key_is_no_reason_to_build_without_signature(
    tmp_path: Path,
) -> None:
    lost = State(tmp_path)
    files.make_folder(securekeys.folder(lost))
    with pytest.raises(SysPxeError, match=r"there is no .*db\.key"):
        securekeys.present(lost)


def test_a_failure_leaves_no_half_set_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise SysPxeError("no openssl")

    monkeypatch.setattr(securekeys, "export", fail)
    with pytest.raises(SysPxeError, match="no openssl"):
        securekeys.create(State(tmp_path), NOW)
    assert list((tmp_path / "key").iterdir()) == []


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    files.write(tmp_path / "x.pem", b"-----BEGIN X-----\n*\n")
    with pytest.raises(InvalidInput, match="not a PEM certificate"):
        securekeys.der(tmp_path / "x.pem")
