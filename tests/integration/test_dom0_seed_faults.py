"""A seed that cannot be built: it is said why, and nothing is left."""

import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.dom0 import seed, seed_fill, seed_image
from sys_pxe.dom0.progress import Bar, Reporter
from sys_pxe.dom0.volumes import Item
from sys_pxe.errors import InvalidInput, SysPxeError
from tests.integration.seed_room import (
    MIB,
    assert_nothing_left,
    build,
    item,
    noise,
)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Every test, also one that breaks a build, must leave nothing."""
    yield
    assert_nothing_left(tmp_path)


def fails(folder: Path, items: Sequence[Item]) -> SysPxeError:
    with pytest.raises(SysPxeError) as caught:
        build(folder, items)
    assert not (folder / "seed.img").exists()
    assert caught.value.hint
    return caught.value


def test_a_full_disk_is_said_and_all_is_removed(tmp_path: Path) -> None:
    source = noise(tmp_path / "root", 160 * MIB)
    small = tmp_path / "small"
    small.mkdir()
    run.run(["mount", "-t", "tmpfs", "-o", "size=150m", "none", str(small)])
    try:
        error = fails(small, [item("root.img", source)])
        assert list(small.iterdir()) == []
    finally:
        run.run(["umount", str(small)])
    assert "the disk is full" in error.message
    assert "seed.img" in error.message


def test_a_disk_that_is_far_too_small_is_seen_first(tmp_path: Path) -> None:
    source = noise(tmp_path / "root", 160 * MIB)
    small = tmp_path / "small"
    small.mkdir()
    run.run(["mount", "-t", "tmpfs", "-o", "size=60m", "none", str(small)])
    try:
        error = fails(small, [item("root.img", source)])
    finally:
        run.run(["umount", str(small)])
    assert "needs about 80 MiB, 60 MiB are free" in error.message


def test_a_source_that_shrinks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = noise(tmp_path / "root", 20 * MIB)
    good = seed_fill.planned

    def then_cut(one: Item) -> seed_fill.Plan:
        plan = good(one)
        os.truncate(source, 10 * MIB)
        return plan

    monkeypatch.setattr(seed_fill, "planned", then_cut)
    error = fails(tmp_path, [item("root.img", source)])
    assert isinstance(error, InvalidInput)
    # whichever thread comes first to a byte that is gone tells of it
    found = re.search(f"{source} ends at ([0-9]+) bytes", error.message)
    assert found is not None
    assert 10 * MIB <= int(found[1]) < 20 * MIB


def test_a_bad_sector_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = noise(tmp_path / "root", 20 * MIB)
    good = os.preadv

    def bad(fd: int, buffers: list[memoryview], at: int) -> int:
        if at == 9 * MIB:
            raise OSError(5, "Input/output error")
        return good(fd, buffers, at)

    monkeypatch.setattr(os, "preadv", bad)
    error = fails(tmp_path, [item("root.img", source)])
    assert f"{source} cannot be read at byte {9 * MIB}" in error.message


class Interrupted(BaseException):
    """As a command makes of SIGTERM."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
def test_an_interruption_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    source = noise(tmp_path / "root", 100 * MIB)

    class Breaking(Reporter):
        def bar(self, label: str, total: int, unit: str = "bytes") -> Bar:
            made = super().bar(label, total, unit)
            monkey = made.add

            def add(count: int) -> None:
                monkey(count)
                raise error

            made.add = add  # type: ignore[method-assign]
            return made

    before = threading.active_count()
    with pytest.raises(error):
        seed.build(
            tmp_path / "seed.img",
            [item("root.img", source)],
            [],
            tmp_path,
            15,
            Breaking(quiet=True),
        )
    assert not (tmp_path / "seed.img").exists()
    assert threading.active_count() == before


@contextmanager
def another_namespace(
    monkeypatch: pytest.MonkeyPatch, script: str
) -> Iterator[None]:
    """Copy the mounts to a namespace while the seed is still mounted."""
    good = seed_image.SeedImage.finish
    children = []

    def finish(image: seed_image.SeedImage) -> None:
        good(image)
        child = run.spawn(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-c", script, "sh", str(image.mount)),
            ],
            stdout=run.PIPE,
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"

    monkeypatch.setattr(seed_image.SeedImage, "finish", finish)
    try:
        yield
    finally:
        for child in children:
            run.stop(child)
            assert child.stdout is not None
            child.stdout.close()


def test_a_mount_that_another_namespace_copied_is_gone_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another_namespace(monkeypatch, "echo ready; exec sleep 600"):
        image = build(tmp_path, [])
    shown = run.run(["btrfs", "inspect-internal", "dump-super", str(image)])
    assert seed_image.is_seed(shown.stdout)


def test_a_mount_that_another_namespace_uses_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_image, "_RELEASE_TRIES", 2)
    script = 'cd "$1" && echo ready && exec sleep 600'
    with another_namespace(monkeypatch, script):
        error = fails(tmp_path, [])
    assert "another mount namespace" in error.message


def test_a_seed_that_lost_its_flag_is_no_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = run.run

    def forgetful(argv: list[str], **rest: object) -> run.Result:
        if argv[0] == "btrfstune":
            return run.Result(tuple(argv), 0, b"", b"")
        return good(argv, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "run", forgetful)
    error = fails(tmp_path, [])
    assert "SEEDING" in error.message


def test_a_byte_that_changed_on_the_disk_is_found(tmp_path: Path) -> None:
    source = noise(tmp_path / "root", 2 * MIB)
    needle = source.read_bytes()[MIB : MIB + 64]
    image = build(tmp_path, [item("root.img", source)])
    at = image.read_bytes().index(needle)
    with image.open("r+b") as stream:
        os.pwrite(stream.fileno(), b"\0" * 64, at)
    with pytest.raises(SysPxeError) as caught:
        seed_image.seal(image)
    assert "build again" in caught.value.hint


def test_a_target_that_exists_stays(tmp_path: Path) -> None:
    (tmp_path / "seed.img").write_bytes(b"mine")
    with pytest.raises(SysPxeError, match=r"seed\.img is there already"):
        build(tmp_path, [])
    assert (tmp_path / "seed.img").read_bytes() == b"mine"
