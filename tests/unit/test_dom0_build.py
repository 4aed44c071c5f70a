"""What goes into a release: boot files, chunks, and what is refused."""

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from sys_pxe import files, manifest
from sys_pxe.dom0 import build, initramfs, seal, squash
from sys_pxe.dom0.build import Order
from sys_pxe.dom0.state import State
from sys_pxe.errors import Busy, InvalidInput, SysPxeError, UsageError
from sys_pxe.manifest import CHUNK_SIZE, Role
from tests.dom0_world import DAY, NOW, QUIET, new_state


@pytest.fixture
def state(tmp_path: Path) -> State:
    return new_state(tmp_path / "state")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with two kernels and two Xens; the higher ones are newer."""
    root = tmp_path / "tree"
    for version in ("6.12.9", "6.12.10"):
        put(root, f"boot/vmlinuz-{version}", b"kernel " + version.encode())
        put(root, f"lib/modules/{version}/modules.dep", b"x\n")
    for version in ("4.9", "4.19"):
        packed = gzip.compress(b"xen " + version.encode())
        put(root, f"boot/xen-{version}.gz", packed)
    (root / "boot/xen.gz").symlink_to("xen-4.9.gz")
    (root / "boot/vmlinuz-9").symlink_to("vmlinuz-6.12.9")
    put(root, "etc/hostname", b"dom0\n")
    put(root, "usr/bin/true", b"x")
    return root


def put(root: Path, name: str, content: bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for root, dracut and mksquashfs, which unit tests lack."""

    def fake_initramfs(
        tree: Path, version: str, key: Path, module: Path, work: Path
    ) -> Path:
        assert key.is_file()
        files.write(work / "netboot", f"initramfs {version}\n".encode())
        return work / "netboot"

    def fake_squash(
        tree: Path, target: Path, work: Path, level: int, reporter: object
    ) -> None:
        files.write(target, f"squashfs {level}".encode())

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(initramfs, "dracut_module", lambda: Path("/module"))
    monkeypatch.setattr(initramfs, "build", fake_initramfs)
    monkeypatch.setattr(squash, "build", fake_squash)


def left_over(state: State) -> list[str]:
    return [p.name for p in state.releases_folder.iterdir()]


def order(tree: Path, name: str = "r1", **options: int) -> Order:
    return Order(name, tree, NOW, **options)


@pytest.mark.usefixtures("tools")
def test_a_release_is_built_signed_and_kept(state: State, tree: Path) -> None:
    made = build.build(state, order(tree, valid_days=3), QUIET)
    assert made == state.release("r1")
    assert (made.serial, made.expires - made.created) == (1, 3 * DAY)
    folder = state.release_folder("r1")
    assert (folder / "xen").read_bytes() == b"xen 4.19"
    assert (folder / "kernel").read_bytes() == b"kernel 6.12.10"
    initial = (folder / "initramfs").read_bytes()
    assert initial.startswith(b"initramfs 6.12.10\n" + bytes(2) + b"070701")
    assert b"release r1\nserial 1\n" in initial
    assert sorted(p.name for p in folder.iterdir()) == [
        *("dom0-root", "initramfs", "kernel", "manifest", "xen"),
    ]
    assert left_over(state) == ["r1"]


@pytest.mark.usefixtures("tools")
def test_each_release_gets_a_new_serial(state: State, tree: Path) -> None:
    build.build(state, order(tree), QUIET)
    assert build.build(state, order(tree, "r2"), QUIET).serial == 2


@pytest.mark.usefixtures("tools")
def test_a_name_that_exists_is_refused(state: State, tree: Path) -> None:
    first = build.build(state, order(tree), QUIET)
    with pytest.raises(UsageError, match="r1 already"):
        build.build(state, order(tree), QUIET)
    assert state.release("r1") == first


@pytest.mark.usefixtures("tools")
def test_a_broken_build_leaves_nothing_and_its_serial_is_not_used_again(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(squash, "build", fail)
        with pytest.raises(KeyboardInterrupt):
            build.build(state, order(tree), QUIET)
    assert left_over(state) == []
    assert build.build(state, order(tree), QUIET).serial == 2


@pytest.mark.usefixtures("tools")
def test_what_a_killed_build_left_is_swept(state: State, tree: Path) -> None:
    old = state.releases_folder / ".building-r0"
    files.make_folder(old)
    files.write(old / "xen", b"half")
    build.build(state, order(tree), QUIET)
    assert left_over(state) == ["r1"]
    assert [m.release for m in state.releases()] == ["r1"]


@pytest.mark.usefixtures("tools")
def test_two_builds_at_once_are_refused(state: State, tree: Path) -> None:
    with (
        files.locked(state.root / "build.lock", "x"),
        pytest.raises(Busy, match="builder"),
    ):
        build.build(state, order(tree), QUIET)


@pytest.mark.usefixtures("tools")
def test_an_unsealed_image_is_refused(state: State, tree: Path) -> None:
    put(tree, "root/.bash_history", b"ls\n")
    with pytest.raises(SysPxeError, match="bash_history"):
        build.build(state, order(tree), QUIET)
    assert not state.releases_folder.exists()
    assert seal.findings(tree)


def test_building_needs_root(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="root"):
        build.build(state, order(tree), QUIET)


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_validity_has_a_range(state: State, tree: Path, days: int) -> None:
    with pytest.raises(UsageError, match="valid-days"):
        build.check_order(state, order(tree, valid_days=days))


@pytest.mark.parametrize("level", [0, 23])
def test_compression_has_a_range(state: State, tree: Path, level: int) -> None:
    with pytest.raises(UsageError, match="compression"):
        build.check_order(state, order(tree, level=level))


@pytest.mark.parametrize("name", ["", "../r1", "R1", "a/b", ".building-x"])
def test_a_hostile_name_is_refused(state: State, tree: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        build.check_order(state, order(tree, name))


def test_a_folder_that_is_no_system_is_refused(
    state: State, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="has no boot"):
        build.check_order(state, order(tmp_path / "nothing"))


def test_the_newest_xen_and_kernel_are_taken(tree: Path) -> None:
    found = build.boot_sources(tree)
    assert (found.xen.name, found.version) == ("xen-4.19.gz", "6.12.10")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("boot/vmlinuz-6*", "no vmlinuz"),
        ("boot/xen-*.gz", "no xen"),
        ("lib/modules/6.12.10/modules.dep", "no modules.dep"),
    ],
)
def test_what_is_missing_is_named_with_a_hint(
    tree: Path, pattern: str, message: str
) -> None:
    for path in tree.glob(pattern):
        path.unlink()
    with pytest.raises(SysPxeError, match=message) as caught:
        build.boot_sources(tree)
    assert "install" in caught.value.hint


@pytest.mark.usefixtures("tools")
def test_a_xen_that_is_cut_off_is_refused(state: State, tree: Path) -> None:
    whole = gzip.compress(bytes(range(256)) * 99)
    put(tree, "boot/xen-4.20.gz", whole[:-20])
    with pytest.raises(SysPxeError, match="not a whole gzip"):
        build.build(state, order(tree), QUIET)
    assert left_over(state) == []


@pytest.mark.usefixtures("tools")
def test_a_xen_that_unpacks_without_end_is_refused(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "XEN_MAX", 1000)
    put(tree, "boot/xen-4.20.gz", gzip.compress(bytes(5000)))
    with pytest.raises(InvalidInput, match="more than 1000 bytes"):
        build.build(state, order(tree), QUIET)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("6.12.9", "6.12.10"),
        ("6.9", "6.12"),
        ("6.12.1-1.qubes", "6.12.1-2.qubes"),
        ("xen-4.9.gz", "xen-4.19.gz"),
        ("6.12.9-1.fc41.x86_64", "6.12.10-1.fc37.x86_64"),
    ],
)
def test_versions_are_compared_by_their_numbers(low: str, high: str) -> None:
    assert build.version_key(low) < build.version_key(high)


@pytest.mark.parametrize(
    "size",
    [1, 999, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE],
)
def test_chunks_cover_the_file_and_each_digest_holds(
    tmp_path: Path, size: int
) -> None:
    content = (b"0123456789" * (size // 10 + 1))[:size]
    path = tmp_path / "dom0-root"
    path.write_bytes(content)
    found = build.describe(path, Role.DOM0_ROOT, whole=False)
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert len(found.digests) == -(-size // CHUNK_SIZE)
    for chunk in found.chunks:
        part = content[chunk.offset : chunk.offset + chunk.size]
        assert hashlib.sha256(part).hexdigest() == chunk.sha256
    assert sum(chunk.size for chunk in found.chunks) == size


def test_a_boot_file_is_one_chunk(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(bytes(CHUNK_SIZE + 5))
    found = build.describe(path, Role.KERNEL, whole=True)
    assert found.digests == (found.sha256,)


def test_an_empty_or_oversized_artifact_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(b"")
    with pytest.raises(InvalidInput, match="0 bytes"):
        build.describe(path, Role.KERNEL, whole=True)
    monkeypatch.setattr(manifest, "CHUNK_MAX", 10)
    path.write_bytes(b"x" * 11)
    with pytest.raises(InvalidInput, match="expected 1 to 10"):
        build.describe(path, Role.KERNEL, whole=True)
