"""The netboot initramfs: made on an overlay, nothing stays behind. Root."""

from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.dom0 import initramfs, initramfs_build
from sys_pxe.errors import SysPxeError
from tests import golden_tree
from tests.golden_tree import DRACUT, dracut

PRIVATE = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a shell, its libraries, and a stand-in for dracut."""
    return golden_tree.make(tmp_path / "tree,with:odd=name")


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "module-setup.sh").write_text("#!/bin/sh\n")
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "public.pem"
    path.write_text("the public key\n")
    return path


def snapshot(tree: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(tree)): p.read_bytes() if p.is_file() else None
        for p in sorted(tree.rglob("*"))
    }


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def test_dracut_sees_module_program_and_key_and_the_tree_stays_as_it_is(
    tree: Path, module: Path, key: Path, tmp_path: Path
) -> None:
    work = files.make_folder(tmp_path / "work")
    before = snapshot(tree), mounts()
    made = initramfs.build(tree, "6.12.1", key, module, work)
    said = made.read_text()
    assert "--kver 6.12.1 /var/tmp/netboot-initramfs" in said
    for path in (
        *("/usr/lib/sys-pxe/key.pem", "/usr/lib/sys-pxe/sys_pxe/trust.py"),
        "/usr/lib/sys-pxe/sys_pxe/client/__init__.py",
        "/usr/lib/dracut/modules.d/90sys-pxe/module-setup.sh",
        *("/dev/null", "/proc/self/status"),
    ):
        assert f"sees {path}\n" in said
    assert "the public key" in said
    assert (snapshot(tree), mounts()) == before
    files.remove(work)
    assert not work.exists()


def test_a_dracut_that_fails_is_told_and_leaves_no_mount(
    tree: Path, module: Path, key: Path, tmp_path: Path
) -> None:
    dracut(tree, "#!/bin/sh\necho no such module >&2\nexit 3\n")
    work = files.make_folder(tmp_path / "work")
    before = mounts()
    with pytest.raises(SysPxeError, match="no such module") as caught:
        initramfs.build(tree, "6.12.1", key, module, work)
    assert "dracut" in caught.value.hint
    assert mounts() == before


def test_a_dracut_that_leaves_the_client_out_is_told(
    tree: Path, module: Path, key: Path, tmp_path: Path
) -> None:
    text = DRACUT.replace(": > /usr/lib/sys-pxe/complete", "")
    dracut(tree, text.replace('> "$last"', '> "$last"; echo no python3 >&2'))
    work = files.make_folder(tmp_path / "work")
    with pytest.raises(SysPxeError, match="client program") as caught:
        initramfs.build(tree, "6.12.1", key, module, work)
    assert "no python3" in str(caught.value)


def test_a_secret_that_dracut_takes_ends_the_build_with_its_name(
    tree: Path, module: Path, key: Path, tmp_path: Path
) -> None:
    golden_tree.put(tree, "etc/modprobe.d/tls.conf", PRIVATE)
    # dracut leaves this one where it is
    golden_tree.put(tree, "etc/other/tls.pem", PRIVATE)
    work = files.make_folder(tmp_path / "work")
    before = mounts()
    with pytest.raises(SysPxeError, match="1 file must not") as caught:
        initramfs.build(tree, "6.12.1", key, module, work)
    assert "/etc/modprobe.d/tls.conf: a private key" in caught.value.message
    assert "/etc/modprobe.d/tls.conf: remove it" in caught.value.hint
    # what it is told is to the point
    assert "python3" not in caught.value.explain()
    assert not (work / initramfs.RESULT).exists()
    assert mounts() == before


def test_what_was_packed_does_not_stay_until_the_end_of_the_build(
    tree: Path, module: Path, key: Path, tmp_path: Path
) -> None:
    work = files.make_folder(tmp_path / "work")
    initramfs.build(tree, "6.12.1", key, module, work)
    assert list(work.rglob("dracut.*/initramfs")) == []


def test_a_dracut_that_leaves_nothing_to_look_through_is_told(
    tree: Path, module: Path, key: Path, tmp_path: Path
) -> None:
    dracut(tree, DRACUT.replace("/var/tmp/dracut.", "/var/tmp/other."))
    work = files.make_folder(tmp_path / "work")
    with pytest.raises(SysPxeError, match="nothing to look through") as caught:
        initramfs.build(tree, "6.12.1", key, module, work)
    assert "dracut" in caught.value.hint


def test_a_tree_without_dracut_is_told(
    tree: Path, module: Path, key: Path, tmp_path: Path
) -> None:
    (tree / "usr/bin/dracut").unlink()
    work = files.make_folder(tmp_path / "work")
    with pytest.raises(SysPxeError, match="dracut"):
        initramfs.build(tree, "6.12.1", key, module, work)


def test_an_old_copy_of_the_module_in_the_tree_is_not_mixed_in(
    tree: Path, module: Path, key: Path
) -> None:
    old = tree / "usr/lib/dracut/modules.d/90sys-pxe"
    old.mkdir(parents=True)
    (old / "stale.sh").write_text("x")
    initramfs_build.install(tree, module, key)
    assert [p.name for p in old.iterdir()] == ["module-setup.sh"]
