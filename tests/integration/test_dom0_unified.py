"""Unified images with the real objcopy, sbsign and sbverify."""

import struct
from pathlib import Path

import pytest

from sys_pxe import files, run
from sys_pxe.dom0 import firststage, securekeys, unified
from sys_pxe.dom0.securekeys import Keys
from sys_pxe.dom0.state import State
from sys_pxe.dom0.unified import Parts, Wanted
from sys_pxe.errors import SysPxeError
from tests.dom0_world import NOW, QUIET
from tests.efi_files import linked_efi

KERNEL, INITRAMFS = b"a kernel" * 5000, b"an initramfs" * 9000
OPTIONS = b"[global]\ndefault=sys-pxe\n"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    made = State(tmp_path_factory.mktemp("state"))
    securekeys.create(made, NOW)
    return made


@pytest.fixture
def keys(state: State) -> Keys:
    found = securekeys.present(state)
    assert found is not None
    return found


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    linked_efi(tmp_path / "golden.efi")
    files.write(tmp_path / "kernel", KERNEL)
    files.write(tmp_path / "initramfs", INITRAMFS)
    return Parts(*(tmp_path / n for n in ("golden.efi", "kernel", "initramfs")))


def build(parts: Parts, folder: Path, keys: Keys | None) -> Path:
    images = [Wanted("base", OPTIONS)]
    (made,) = unified.build_all(images, parts, folder, folder, keys, QUIET)
    return folder / made.artifact


def test_the_sections_hold_what_they_should(
    parts: Parts, tmp_path: Path
) -> None:
    path = build(parts, tmp_path, None)
    found = unified.read(path)
    before = unified.read(parts.xen)
    assert found.certificates == 0
    end = before.end
    for name, content in (
        (".config", OPTIONS), (".kernel", KERNEL), (".ramdisk", INITRAMFS),
    ):  # fmt: skip
        section = found.find(name)
        assert section is not None
        assert section.address % unified.PAGE == 0
        assert section.address >= end
        end = section.address + section.size
        start = section.raw_offset
        assert path.read_bytes()[start : start + section.size] == content
    assert found.image_size >= end


def test_a_signed_image_is_the_owner_s(
    parts: Parts, tmp_path: Path, keys: Keys
) -> None:
    path = build(parts, tmp_path, keys)
    assert unified.read(path).certificates > 0
    securekeys.check_signed(path, keys)


@pytest.mark.parametrize("section", [".config", ".kernel", ".ramdisk"])
def test_a_changed_byte_breaks_the_signature(
    parts: Parts, tmp_path: Path, keys: Keys, section: str
) -> None:
    path = build(parts, tmp_path, keys)
    found = unified.read(path).find(section)
    assert found is not None
    content = bytearray(path.read_bytes())
    content[found.raw_offset + found.size - 1] ^= 1
    files.write(path, bytes(content))
    with pytest.raises(SysPxeError, match="sbverify"):
        securekeys.check_signed(path, keys)


def test_another_key_s_signature_is_not_the_owner_s(
    parts: Parts, tmp_path: Path, keys: Keys
) -> None:
    other = State(tmp_path / "other")
    securekeys.create(other, NOW)
    theirs = securekeys.present(other)
    path = build(parts, tmp_path, theirs)
    with pytest.raises(SysPxeError, match="sbverify"):
        securekeys.check_signed(path, keys)


def test_the_signed_loader_is_checked_and_named(
    tmp_path: Path, keys: Keys
) -> None:
    sources = firststage.find((Path("/"),))
    made = firststage.build_all(sources, tmp_path, keys, QUIET)
    assert "snponly.efi" in made
    for name in made:
        securekeys.check_signed(tmp_path / name, keys)


def test_the_exports_are_what_other_tools_make(
    state: State, tmp_path: Path
) -> None:
    """sbsiglist's list is ours but for the owner, byte for byte."""
    place, out = securekeys.folder(state), securekeys.exports(state)
    for name in securekeys.NAMES:
        ours = (out / f"{name}.esl").read_bytes()
        (size,) = struct.unpack_from("<I", ours, 16)
        assert size == len(ours)
        made = tmp_path / f"{name}.esl"
        owner = "11111111-2222-3333-4444-555555555555"
        run.run(
            ["sbsiglist", "--owner", owner, "--type", "x509",
             "--output", str(made), str(out / f"{name}.cer")]
        )  # fmt: skip
        theirs = made.read_bytes()
        assert theirs[:28] == ours[:28] and theirs[44:] == ours[44:]
    assert (place / "PK.key").exists()
