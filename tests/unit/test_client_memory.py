"""RAM for the release: its files, and what there is too little of."""

import os
from pathlib import Path

import pytest

from sys_pxe.client import memory
from sys_pxe.errors import SysPxeError

MIB = 1 << 20


def meminfo(folder: Path, text: str) -> Path:
    path = folder / "meminfo"
    path.write_text(text)
    return path


def test_the_ram_is_read_in_mib(tmp_path: Path) -> None:
    text = "MemTotal:        4028344 kB\nMemFree:  1 kB\n"
    assert memory.total_mib(meminfo(tmp_path, text)) == 3933


@pytest.mark.parametrize("text", ["", "MemFree: 1 kB\n", "MemTotal\n"])
def test_a_kernel_that_does_not_say_is_an_error(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(SysPxeError):
        memory.total_mib(meminfo(tmp_path, text))


def test_a_new_image_has_its_size_and_is_for_root_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "image"
    with memory.new_image(path, MIB) as place:
        os.pwrite(place.fileno(), b"abc", 5)
    content = path.read_bytes()
    assert (len(content), content[5:8]) == (MIB, b"abc")
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_is_there_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"old")
    with pytest.raises(SysPxeError, match="image"):
        memory.new_image(tmp_path / "image", MIB)
    assert (tmp_path / "image").read_bytes() == b"old"


def test_more_than_there_is_fails_before_the_transfer(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SysPxeError, match="no RAM for image") as caught:
        memory.new_image(tmp_path / "image", 1 << 50)
    assert "ram.dom0" in caught.value.hint
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_roomy_tmpfs_is_no_ram(tmp_path: Path) -> None:
    little = meminfo(tmp_path, "MemTotal: 99999 kB\nMemAvailable: 1023 kB\n")
    with pytest.raises(SysPxeError, match="needs 1 MiB, 0 MiB are free"):
        memory.new_image(tmp_path / "image", MIB, little)
    assert not (tmp_path / "image").exists()


def test_the_clients_name_goes_into_the_upper_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "UPPER", tmp_path / "upper")
    memory.write_hostname("desk-01")
    assert (tmp_path / "upper/etc/hostname").read_text() == "desk-01\n"
