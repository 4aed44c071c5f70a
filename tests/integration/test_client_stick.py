"""A PC with a boot stick, against the real agent: one stick, many releases.

The client program knows the stick's Xen and kernel in place of a release. Root.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from sys_pxe import manifest, signature
from sys_pxe.agent import report
from sys_pxe.manifest import Role
from tests.agent_world import DAY, Release
from tests.integration.refusal_room import Room, made_release, opened


def part(made: Release, role: Role) -> bytes:
    return made.chunks[made.manifest.find(role).sha256]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with opened(tmp_path_factory.mktemp("stick")) as made:
        yield made


@pytest.fixture
def stick(room: Room) -> dict[str, Any]:
    """What a stick that was made from r1 knows."""
    find = room.release.manifest.find
    return {
        "xen": find(Role.XEN).sha256,
        "kernel": find(Role.KERNEL).sha256,
        "release": "",
    }


def follow(room: Room, made: Release, serial: int) -> None:
    """Publish a release, as ``release push`` and ``channel set`` do."""
    room.service(f"syspxe.Push+{made.name}", made.frames())
    pointer = room.world.pointer(serial, made)
    room.service("syspxe.Activate+stable", pointer)


def test_it_takes_what_the_channel_names(
    room: Room, stick: dict[str, Any]
) -> None:
    got = room.boots(**stick)
    assert (got.stage, got.told.release) == ("handover", "r1")
    # the first reports know no release
    events = report.read_events(room.store.database)[-7:]
    assert [event.release for event in events[:2]] == ["", "r1"]


def test_a_newer_release_needs_no_new_stick(
    room: Room, stick: dict[str, Any]
) -> None:
    kept = {
        role.value: part(room.release, role) for role in (Role.XEN, Role.KERNEL)
    }
    newer = made_release(room.world, "r2", 4, **kept)
    before = room.pointer_file.read_bytes()
    follow(room, newer, 2)
    try:
        assert room.boots(**stick).told.release == "r2"
        # boot files of r1 do not start it
        assert room.boots().told.release == "r1"
        # the other way round: an old pointer is refused below the floor
        room.pointer_file.write_bytes(before)
        floor = room.site(floors={"stable": 4})
        with room.changed_only(room.store.site_file, floor):
            got = room.refused_early(**stick)
            assert got.says("release r1 has serial 3", "accepts 4 and above")
    finally:
        room.pointer_file.write_bytes(before)


@pytest.mark.parametrize("other", ["xen", "kernel"])
def test_a_release_with_other_parts_is_refused(
    room: Room, stick: dict[str, Any], other: str
) -> None:
    kept = {
        role.value: part(room.release, role)
        for role in (Role.XEN, Role.KERNEL)
        if role != other
    }
    serial = {"xen": 5, "kernel": 6}[other]
    newer = made_release(room.world, f"other-{other}", serial, **kept)
    before = room.pointer_file.read_bytes()
    follow(room, newer, serial)
    try:
        got = room.refused_early(**stick)
    finally:
        room.pointer_file.write_bytes(before)
    shown = {"xen": "Xen", "kernel": "kernel"}[other]
    assert got.says(f"release other-{other}", f"another {shown} than this boot")
    assert "sys-pxe media build" in got.hint
    room.boots(**stick)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channel": "testing"}, "channel stable is one of channel testing"),
        ({"release_serial": 4}, "names release r1 (serial 4)"),
        ({"release": "r9"}, "/releases/r9: the server answers 404"),
    ],
)
def test_a_pointer_to_something_else_is_refused(
    room: Room, stick: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    code = 1 if "release" in changes else 4
    with room.changed_only(room.pointer_file, room.pointer(**changes)):
        assert room.refused_early(code, **stick).says(said)


def test_an_old_rollback_lifts_no_floor_that_was_raised_since(
    room: Room, stick: dict[str, Any]
) -> None:
    with (
        room.changed_only(room.pointer_file, room.pointer()),
        room.changed_only(
            room.store.site_file, room.site(floors={"stable": 4})
        ),
    ):
        assert room.boots(**stick).told.release == "r1"
    with (
        room.changed_only(room.pointer_file, room.pointer()),
        room.changed_only(
            room.store.site_file, room.site(floors={"stable": 5})
        ),
    ):
        got = room.refused_early(**stick)
        assert got.says("the floor was 4", "the site accepts 5 and above")


def test_each_signature_counts_as_ever(
    room: Room, stick: dict[str, Any]
) -> None:
    forged = signature.signed(room.pointer_text(), room.other_private)
    with room.changed_only(room.pointer_file, forged):
        got = room.refused_early(**stick)
        assert got.says("the pointer of channel stable", "does not match")
    forged = signature.signed(
        manifest.write(room.release.manifest), room.other_private
    )
    with room.changed_only(room.manifest_file, forged):
        got = room.refused_early(**stick)
        assert got.says("the manifest of release r1", "does not match")
    room.boots(**stick)


def test_an_expired_release_is_refused(
    room: Room, stick: dict[str, Any]
) -> None:
    now = room.world.now
    content = room.manifest(created=now - 2 * DAY, expires=now - DAY)
    with room.changed_only(room.manifest_file, content):
        got = room.refused_early(**stick)
        assert got.says("release r1 expired at", "the clock says")
