"""The squashfs: the same tree gives the same bytes, a change stays local."""

import hashlib
import random
from io import StringIO
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.dom0 import squash
from sys_pxe.dom0.progress import Reporter
from sys_pxe.errors import SysPxeError

STEP = 64 << 10
QUICK = 3


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of some MiB that does not compress, spread like a system."""
    root = tmp_path / "a tree, with: odd name"
    maker = random.Random(1)
    places = ("usr/lib/modules", "usr/lib", "usr/share", "usr/bin", "boot")
    for place in (*places, "var/lib", "home/user", "etc", "usr/local/etc"):
        for number in range(20):
            path = root / place / f"file-{number:02}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(maker.randbytes(maker.randrange(200, 90_000)))
    for place in squash.EMPTIED:
        (root / place).mkdir(parents=True)
        (root / place / "content").write_bytes(b"x")
        (root / place / ".hidden").write_bytes(b"x")
    return root


def image(tree: Path, folder: Path, name: str) -> Path:
    target = folder / name
    squash.build(tree, target, folder, QUICK, Reporter(quiet=True))
    return target


def chunks(path: Path) -> list[str]:
    content = path.read_bytes()
    return [
        hashlib.sha256(content[i : i + STEP]).hexdigest()
        for i in range(0, len(content), STEP)
    ]


def changed(before: list[str], after: list[str]) -> list[int]:
    return [
        i
        for i in range(max(len(before), len(after)))
        if before[i : i + 1] != after[i : i + 1]
    ]


def test_the_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    first = image(tree, tmp_path, "one").read_bytes()
    assert first == image(tree, tmp_path, "two").read_bytes()


@pytest.mark.parametrize(
    "name", ["etc/file-07", "etc/new", "usr/local/etc/file-03", "home/user/new"]
)
def test_a_change_leaves_all_but_the_first_and_last_chunks(
    tree: Path, tmp_path: Path, name: str
) -> None:
    before = chunks(image(tree, tmp_path, "one"))
    (tree / name).write_bytes(b"something else\n" * 200)
    after = chunks(image(tree, tmp_path, "two"))
    differ = changed(before, after)
    # etc, home and usr/local hold about a third of this tree
    assert 0 < len(differ) < len(before) * 0.45
    assert differ[0] == 0
    assert all(i > len(before) * 0.55 for i in differ[1:])


def test_a_change_of_etc_changes_less_than_one_of_the_modules(
    tree: Path, tmp_path: Path
) -> None:
    before = chunks(image(tree, tmp_path, "one"))
    (tree / "usr/lib/modules/file-00").write_bytes(b"other")
    after = chunks(image(tree, tmp_path, "two"))
    assert len(changed(before, after)) > len(before) * 0.8


def test_what_each_boot_makes_is_left_out(tree: Path, tmp_path: Path) -> None:
    made = image(tree, tmp_path, "one")
    listed = run.run(["unsquashfs", "-l", "-no-progress", str(made)]).stdout
    names = listed.decode().splitlines()
    for place in squash.EMPTIED:
        assert f"squashfs-root/{place}" in names
        assert not [n for n in names if n.startswith(f"squashfs-root/{place}/")]
    assert "squashfs-root/etc/file-07" in names


def test_a_failure_is_told_with_the_words_of_mksquashfs(
    tree: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "no" / "such" / "folder"
    with pytest.raises(SysPxeError, match=r"mksquashfs.*No such file"):
        squash.build(tree, missing, tmp_path, QUICK, Reporter(StringIO()))


def test_a_full_disk_is_told_as_such(tree: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    run.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)])
    try:
        with pytest.raises(SysPxeError, match="the disk is full") as caught:
            image(tree, small, "one")
    finally:
        run.run(["umount", str(small)])
    assert str(small / "one") in caught.value.message
    assert "free some space" in caught.value.hint
    assert "squashfs-tools" not in caught.value.explain()


def test_a_missing_mksquashfs_says_what_to_install(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = squash.arguments

    def without(*given: Path, **_: object) -> list[str]:
        words = good(given[0], given[1], given[2], QUICK)
        return ["not-there" if w == "mksquashfs" else w for w in words]

    monkeypatch.setattr(squash, "arguments", without)
    with pytest.raises(SysPxeError, match=r"not-there.*No such") as caught:
        image(tree, tmp_path, "one")
    assert "squashfs-tools" in caught.value.hint


def test_a_date_in_the_environment_changes_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = image(tree, tmp_path, "one").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert first == image(tree, tmp_path, "two").read_bytes()
