"""What dom0 makes of a quote: a real TPM (swtpm), real EFI files, signed."""

import base64
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sys_pxe import files, manifest, measured, plan, run, signature, tpm2
from sys_pxe.client import tpm
from sys_pxe.dom0 import artifacts, attest, pe, securekeys
from sys_pxe.dom0.attest import Match, Verdict
from sys_pxe.dom0.state import MANIFEST, State
from sys_pxe.errors import InvalidInput
from sys_pxe.manifest import Image, Manifest, Role
from tests.dom0_world import DAY, NOW, new_state
from tests.efi_files import linked_efi
from tests.integration.tpm_room import powered

SETTINGS = plan.Settings(
    *("office", "stable", (), 2048, 256, 1024, (), ()), storage_visible=False
)
LOADER, IMAGE = "snponly.efi", "unified-office"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    """A state with r1, which has a signed loader and image, and bare r2."""
    made = new_state(tmp_path_factory.mktemp("state"))
    securekeys.create(made, NOW)
    keys = securekeys.present(made)
    assert keys is not None
    folder = files.make_folder(made.release_folder("r1"))
    for name, mark in ((LOADER, b"loader"), (IMAGE, b"image")):
        plain = linked_efi(folder / "plain")
        with open(plain, "ab") as stream:
            stream.write(mark.ljust(64))
        securekeys.sign_image(plain, folder / name, keys)
    image = Image("office", plan.options_digest(SETTINGS))
    keep(made, "r1", {IMAGE: Role.UNIFIED, LOADER: Role.LOADER}, (image,))
    keep(made, "r2", {}, ())
    return made


def keep(
    state: State, name: str, more: dict[str, Role], images: tuple[Image, ...]
) -> None:
    folder = files.make_folder(state.release_folder(name))
    for role in (*manifest.BOOT_ROLES, Role.DOM0_ROOT):
        files.write(folder / role, role.encode())
    roles = {role.value: role for role in manifest.BOOT_ROLES}
    roles |= more | {"dom0-root": Role.DOM0_ROOT}
    made = Manifest(name, state.take_serial("release"), NOW, NOW + DAY, tuple(
        artifacts.describe(folder / part, role, whole=True)
        for part, role in roles.items()), images=images)  # fmt: skip
    signed = signature.signed(manifest.write(made), state.private_key)
    files.write(folder / MANIFEST, signed)


def started(state: State, *names: str) -> list[bytes]:
    """Return what firmware measures when it starts files of r1."""
    folder = state.release_folder("r1")
    return [
        attest._CALLING,
        attest._SEPARATOR,
        *(pe.authenticode((folder / n).read_bytes(), n) for n in names),
    ]


@contextmanager
def booted(
    folder: Path, firmware: Iterable[bytes], events: Iterable[bytes]
) -> Iterator[tpm.Device]:
    """A PC that has booted: its TPM."""
    with powered(folder) as device:
        for event in firmware:
            asked = tpm2.pcr_extend(measured.LOADER_PCR, event)
            tpm2.parse_extended(device.ask(asked))
        tpm.extend(device, events)
        yield device


def quoted(
    folder: Path, state: State, firmware: Iterable[bytes], name: str = "r1"
) -> str:
    text = state.manifest_text(name)
    with booted(folder, firmware, measured.events(text, "office")) as device:
        return measured.encode(tpm.quote(device, measured.nonce(text)))


def judge(text: str, state: State, release: str | None = "r1") -> Verdict:
    return attest.judge(text, release, "office", state)


@pytest.mark.parametrize("loads", [1, 2, 4])
def test_a_boot_of_the_release_is_known(
    state: State, tmp_path: Path, loads: int
) -> None:
    files_started = (LOADER, *[IMAGE] * loads)
    text = quoted(tmp_path / "tpm", state, started(state, *files_started))
    found = judge(text, state)
    assert found.fault is None
    assert (found.release, found.boot_files) == (Match.EQUAL, Match.EQUAL)
    assert found.started == (LOADER, IMAGE)
    assert found.resets is not None
    # the same TPM again has the same key, another one has not
    again = judge(quoted(tmp_path / "tpm", state, []), state)
    other = judge(quoted(tmp_path / "other", state, []), state)
    assert again.key == found.key != other.key
    assert again.resets == found.resets + 1


@pytest.mark.parametrize(
    "names",
    [(), (IMAGE,), (LOADER,), (IMAGE, LOADER), (LOADER, LOADER, IMAGE)],
)
def test_other_boot_files_are_told(
    state: State, tmp_path: Path, names: tuple[str, ...]
) -> None:
    text = quoted(tmp_path / "tpm", state, started(state, *names))
    found = judge(text, state)
    assert (found.fault, found.release) == (None, Match.EQUAL)
    assert (found.boot_files, found.started) == (Match.DIFFERENT, ())


def test_another_profile_or_manifest_is_told(
    state: State, tmp_path: Path
) -> None:
    text = state.manifest_text("r1")
    for number, events in enumerate((
        measured.events(text, "small"),
        measured.events(text + b" ", "office"),
        measured.events(text, "office")[::-1],
        [*measured.events(text, "office"), bytes(32)],
        [],
    )):  # fmt: skip
        with booted(tmp_path / str(number), [], events) as device:
            said = measured.encode(tpm.quote(device, measured.nonce(text)))
        found = judge(said, state)
        assert (found.fault, found.release) == (None, Match.DIFFERENT)


def test_without_a_loader_in_the_release_nothing_is_said_of_it(
    state: State, tmp_path: Path
) -> None:
    found = judge(quoted(tmp_path / "tpm", state, [], "r2"), state, "r2")
    assert (found.fault, found.release) == (None, Match.EQUAL)
    assert found.boot_files is Match.UNKNOWN
    assert found.trouble.startswith("release r2 has no signed loader")


def test_a_quote_that_does_not_hold_says_why(
    state: State, tmp_path: Path
) -> None:
    text = quoted(tmp_path / "tpm", state, started(state, LOADER, IMAGE))
    whole = bytearray(base64.b64decode(text))
    for at, said in ((80, "signature"), (130, "values"), (-1, "signature")):
        changed = bytearray(whole)
        changed[at] ^= 1
        found = judge(base64.b64encode(changed).decode(), state)
        assert said in str(found.fault)
        assert (found.release, found.boot_files) == (Match.UNKNOWN,) * 2
    # of another release than the client says
    assert "another nonce" in str(judge(text, state, "r2").fault)
    assert "there is no release r9" in str(judge(text, state, "r9").fault)
    assert judge(text, state, None).fault == "the client named no release"
    with pytest.raises(InvalidInput, match="quote"):
        judge("AAAA", state)


@pytest.mark.parametrize("left", [0, 100])
def test_a_file_that_is_damaged_in_dom0_is_no_measure(
    state: State, tmp_path: Path, left: int
) -> None:
    path = state.release_folder("r1") / LOADER
    whole = path.read_bytes()
    text = quoted(tmp_path / "tpm", state, started(state, LOADER, IMAGE))
    files.remove(path)
    if left:
        files.write(path, whole[:left])
    try:
        found = judge(text, state)
    finally:
        files.write(path, whole)
    said = f"{LOADER} is not what" if left else f"{LOADER} is missing"
    assert said in found.trouble
    assert (found.release, found.boot_files) == (Match.EQUAL, Match.UNKNOWN)


def test_the_digest_is_the_one_that_is_signed(
    state: State, tmp_path: Path
) -> None:
    """sbsign writes it into the signature (SpcIndirectDataContent)."""
    path = state.release_folder("r1") / IMAGE
    mark = tmp_path / "signature"
    run.run(["sbattach", "--detach", str(mark), str(path)])
    digest = pe.authenticode(path.read_bytes(), "image")
    assert digest in mark.read_bytes()
    with pytest.raises(InvalidInput, match="not an EFI file"):
        pe.authenticode(b"#!ipxe\n" + bytes(2000), "script")
