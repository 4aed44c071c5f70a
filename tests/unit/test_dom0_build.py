"""What goes into a release: boot files, chunks, and what is refused."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.dom0 import (
    build,
    firststage,
    initramfs,
    seal,
    securekeys,
    sets,
    source,
    squash,
    unified,
)
from sys_pxe.dom0.build import Order
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.state import State
from sys_pxe.errors import Busy, InvalidInput, SysPxeError, UsageError
from sys_pxe.manifest import QubeSet, Role
from tests import golden_tree
from tests.dom0_world import DAY, NOW, QUIET, new_state
from tests.golden_tree import put


@pytest.fixture
def state(tmp_path: Path) -> State:
    return new_state(tmp_path / "state")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return golden_tree.versions(tmp_path / "tree")


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

    @contextmanager
    def fake_source(golden: str, work: Path, _: object) -> Iterator[Path]:
        yield Path(golden)

    @contextmanager
    def fake_seal(tree: Path, work: Path) -> Iterator[Path]:
        yield tree

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(source, "opened", fake_source)
    monkeypatch.setattr(seal, "sealed", fake_seal)
    monkeypatch.setattr(initramfs, "dracut_module", lambda: Path("/module"))
    monkeypatch.setattr(initramfs, "build", fake_initramfs)
    monkeypatch.setattr(squash, "build", fake_squash)


def left_over(state: State) -> list[str]:
    return [p.name for p in state.releases_folder.iterdir()]


def order(
    tree: Path, name: str = "r1", valid_days: int = 90, level: int = 15
) -> Order:
    return Order(name, str(tree), NOW, valid_days, level)


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
    assert left_over(state) == []


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


@pytest.mark.usefixtures("tools")
def test_a_folder_that_is_no_system_is_refused(
    state: State, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="has no boot"):
        build.build(state, order(tmp_path / "nothing"), QUIET)
    assert left_over(state) == []
    # no serial was used up for it
    assert state.take_serial("release") == 1


@pytest.mark.usefixtures("tools")
def test_the_sets_are_in_the_manifest_with_their_artifacts(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = sets.Wanted("office", ("vault", "work"))

    def fake_sets(
        asked: tuple[sets.Wanted, ...], job: sets.Job, _: object
    ) -> Iterator[QubeSet]:
        assert (asked, job.tree, job.level) == ((wanted,), tree, 15)
        for role in ("volumes", "qubes"):
            files.write(job.folder / f"{role}-office", role.encode())
        yield QubeSet("office", 400, 800, wanted.qubes)

    monkeypatch.setattr(sets, "build_all", fake_sets)
    chosen = Order("r1", str(tree), NOW, wanted=(wanted,))
    made = build.build(state, chosen, QUIET)
    assert made == state.release("r1")
    assert made.sets == (QubeSet("office", 400, 800, ("vault", "work")),)
    assert made.of_set(made.sets[0], Role.VOLUMES).size == len("volumes")


IMAGES = (unified.Wanted("base", b"one"), unified.Wanted("large", b"two"))


def with_images(tree: Path) -> Order:
    return Order("r1", str(tree), NOW, images=IMAGES)


@pytest.fixture
def efi(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for binutils, sbsigntools and iPXE; return what was signed."""
    signed: list[str] = []

    def fake_build(
        parts: unified.Parts, configuration: bytes, target: Path, work: Path
    ) -> None:
        whole = (parts.xen, parts.kernel, parts.initramfs)
        content = configuration + b"".join(p.read_bytes() for p in whole)
        files.write(target, content)

    def fake_sign(source: Path, target: Path, _: securekeys.Keys) -> None:
        signed.append(target.name)
        files.write(target, source.read_bytes() + b" signed")

    def fake_find(roots: tuple[Path, ...]) -> dict[str, Path]:
        assert roots[-1] == Path("/")
        return {"snponly.efi": roots[0] / "snponly"}

    monkeypatch.setattr(unified, "build", fake_build)
    monkeypatch.setattr(unified, "read", lambda _: None)
    monkeypatch.setattr(unified, "check_tools", lambda _: None)
    monkeypatch.setattr(securekeys, "sign_image", fake_sign)
    monkeypatch.setattr(firststage, "find", fake_find)
    return signed


@pytest.mark.usefixtures("tools")
def test_images_have_the_initramfs_that_knows_its_release(
    state: State, tree: Path, efi: list[str]
) -> None:
    put(tree, "boot/xen-4.19.efi", b"xen.efi ")
    made = build.build(state, with_images(tree), QUIET)
    assert made == state.release("r1")
    assert made.images == tuple(one.image for one in IMAGES)
    folder = state.release_folder("r1")
    content = (folder / "unified-base").read_bytes()
    assert content.startswith(b"onexen.efi kernel 6.12.10")
    assert content.endswith((folder / "initramfs").read_bytes())
    found = made.of_image(made.images[1])
    assert (found.name, len(found.digests)) == ("unified-large", 1)
    assert efi == []
    assert [a for a in made.artifacts if a.role is Role.LOADER] == []


@pytest.mark.usefixtures("tools")
def test_with_secure_boot_keys_images_and_loader_are_signed(
    state: State, tree: Path, efi: list[str]
) -> None:
    put(tree, "boot/xen-4.19.efi", b"xen.efi ")
    put(tree, "snponly", b"ipxe")
    place = files.make_folder(securekeys.folder(state))
    for name in ("db.key", "db.pem"):
        files.write(place / name, b"x")
    made = build.build(state, with_images(tree), QUIET)
    assert efi == ["unified-base", "unified-large", "snponly.efi"]
    (loader,) = [a for a in made.artifacts if a.role is Role.LOADER]
    assert (loader.name, loader.size) == ("snponly.efi", len(b"ipxe signed"))
    folder = state.release_folder("r1")
    assert (folder / "unified-base").read_bytes().endswith(b" signed")
    assert not (folder / "work").exists()


@pytest.mark.usefixtures("tools", "efi")
def test_without_xen_efi_or_a_site_there_are_no_images(
    state: State, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = Reporter()
    made = build.build(state, with_images(tree), loud)
    assert made.images == ()
    assert "has no xen-VERSION.efi in /boot" in capsys.readouterr().err
    put(tree, "boot/xen-4.19.efi", b"xen.efi ")
    made = build.build(state, order(tree, "r2"), loud)
    assert made.images == ()
    assert "no site with a client yet" in capsys.readouterr().err


@pytest.mark.usefixtures("tools", "efi")
def test_a_missing_tool_is_missed_before_dracut_runs(
    state: State, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise SysPxeError("the program 'objcopy' is not installed")

    put(tree, "boot/xen-4.19.efi", b"xen.efi ")
    monkeypatch.setattr(unified, "check_tools", fail)
    monkeypatch.setattr(initramfs, "build", None)
    with pytest.raises(SysPxeError, match="objcopy"):
        build.build(state, with_images(tree), QUIET)
    assert left_over(state) == []
