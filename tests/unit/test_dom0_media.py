"""The boot stick: its options, its label, the calls, and what is refused."""

import shutil
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sys_pxe import files, plan, run
from sys_pxe.dom0 import cli, media
from sys_pxe.dom0.media import Order
from sys_pxe.dom0.state import State
from sys_pxe.errors import SysPxeError
from tests import documents
from tests.dom0_world import SITE, keep_release, new_state

SETTINGS = plan.Settings(
    *("office", "stable", (), 2048, 256, 1024, ("loglvl=all",), ("nomodeset",)),
    storage_visible=False,
)
SERVER = IPv4Address("192.0.2.1")
ORDER = Order(documents.release(), Path("/releases/r1"), SETTINGS, SERVER)


def test_grub_starts_xen_with_the_options_and_the_server() -> None:
    script = media.grub_cfg(ORDER)
    lines = script.decode("ascii").splitlines()
    assert lines[1:4] == [
        "if multiboot2 /boot/xen dom0_mem=2048M,max:2048M loglvl=all; then",
        f"if module2 /boot/kernel {' '.join(plan.KERNEL_OPTIONS)} nomodeset "
        "syspxe.server=http://192.0.2.1; then",
        "if module2 /boot/initramfs; then",
    ]
    # a person reads what follows a load that failed, or a boot that came back
    assert lines[5:10] == ["boot", *["fi"] * 3, lines[9]]
    assert lines[9].startswith("echo 'sys-pxe: this boot stick could not be")
    assert lines[-1] == "reboot"


def test_uefi_gets_the_same_options() -> None:
    assert b"nomodeset syspxe.server=http://192.0.2.1\nramdisk" in plan.xen_cfg(
        ORDER.stick_settings
    )


def test_without_an_image_for_uefi_there_is_no_partition_for_it() -> None:
    tree, target = Path("/tree"), Path("/stick.img")
    whole = media.arguments(ORDER, tree, Path("/uefi.img"), target)
    bios = media.arguments(ORDER, tree, None, target)
    at = whole.index("-append_partition")
    assert whole[at : at + 4] == ["-append_partition", "2", "0xef", "/uefi.img"]
    assert [*whole[:at], whole[-1]] == bios


Call = Callable[..., int]


@pytest.fixture
def state(tmp_path: Path) -> State:
    return new_state(tmp_path / "state")


@pytest.fixture
def call(state: State, tmp_path: Path) -> Call:
    path = tmp_path / "site.yaml"
    files.write(path, SITE.encode())
    first = ("--state", str(state.root), "--site", str(path), "media", "build")

    return lambda *words: cli.main([*first, *words])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["/dev/null"], 2, "/dev/null is not a file\nhint: name a file for"),
        (["/nowhere/stick.img"], 2, "/nowhere is not a folder"),
        (["x.img", "--profile", "offce"], 3, "'offce' is not a profile of the"),
        (["x.img"], 1, "channel stable names no release yet\nhint: run 'sys"),
        (["x.img", "--release", "r7"], 1, "there is no release r7"),
        (["x.img", "--release", "../r"], 3, "--release: '../r'"),
    ],
)
def test_a_wrong_call_is_refused_with_what_to_do(
    call: Call,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = words if "--profile" in words else [*words, "--profile", "office"]
    assert call(*given) == code
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.img"))


def test_a_missing_tool_is_named_before_anything_is_made(
    call: Call,
    state: State,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_release(state, "r1")
    openssl = shutil.which("openssl")
    assert openssl is not None
    programs = files.make_folder(tmp_path / "programs")
    files.link_to(programs / "openssl", openssl)
    # /usr/sbin, or it would be added together with /usr/bin
    monkeypatch.setenv("PATH", f"{programs}:/usr/sbin")
    target = tmp_path / "stick.img"
    words = (str(target), "--profile", "office", "--release", "r1")
    assert call(*words) == 1
    said = capsys.readouterr().err
    assert "the program 'xorriso' is not installed\nhint: install" in said
    assert not list(tmp_path.glob(f"{files.TEMPORARY_PREFIX}*"))
    assert not target.exists()


def test_grub_for_bios_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(media, "GRUB", tmp_path)
    monkeypatch.setattr(run, "run", lambda *_, **__: None)
    with pytest.raises(SysPxeError, match="does not hold GRUB"):
        media.check_tools()
