"""The identity: a cpio archive that tools and the kernel can unpack."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import run
from sys_pxe.client import identity as client_identity
from sys_pxe.dom0 import identity
from sys_pxe.trust import Identity, StickIdentity


def test_cpio_lists_and_prints_the_identity() -> None:
    content = identity.archive(Identity("r1", 7))
    listed = run.run(["cpio", "-it", "--quiet"], stdin=content)
    assert listed.stdout.decode().splitlines() == [
        "usr",
        "usr/lib",
        "usr/lib/sys-pxe",
        "usr/lib/sys-pxe/identity",
    ]
    printed = run.run(
        ["cpio", "-i", "--quiet", "--to-stdout", identity.PLACE], stdin=content
    )
    assert printed.stdout == b"release r1\nserial 7\n"


def test_a_stick_names_its_parts_and_the_later_identity_counts(
    tmp_path: Path,
) -> None:
    """As the kernel does, cpio writes a file of a later archive over it."""
    stick = StickIdentity("a" * 64, "b" * 64)
    for pinned in (Identity("r1", 7), stick):
        run.run(
            ["cpio", "-idu", "--quiet"],
            stdin=identity.archive(pinned),
            cwd=str(tmp_path),
        )
        assert client_identity.read(tmp_path / identity.PLACE) == pinned


def test_folders_have_the_mode_that_dracut_gives_them() -> None:
    content = identity.archive(Identity("r1", 7))
    listed = run.run(["cpio", "-itv", "--quiet"], stdin=content).stdout
    modes = [line.split()[0] for line in listed.decode().splitlines()]
    assert modes == ["drwxr-xr-x"] * 3 + ["-rw-r--r--"]


def test_the_same_release_gives_the_same_bytes() -> None:
    assert identity.archive(Identity("r1", 7)) == identity.archive(
        Identity("r1", 7)
    )
    assert identity.archive(Identity("r1", 7)) != identity.archive(
        Identity("r1", 8)
    )


@given(
    size=st.integers(0, 1 << 33),
    release=st.from_regex(r"[a-z0-9][a-z0-9-]{0,47}", fullmatch=True),
    serial=st.integers(1, (1 << 31) - 1),
)
def test_the_archive_begins_and_ends_at_a_multiple_of_four(
    size: int, release: str, serial: int
) -> None:
    added = identity.appended(size, Identity(release, serial))
    start = added.index(b"070701")
    assert start < 4
    assert added[:start] == bytes(start)
    assert (size + start) % 4 == 0
    assert (len(added) - start) % 512 == 0


def test_a_name_that_is_not_ascii_cannot_get_in() -> None:
    with pytest.raises(UnicodeEncodeError):
        identity.archive(Identity("rä", 1))
