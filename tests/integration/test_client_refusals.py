"""What the client program refuses, from the real agent's services, and why.

Each fault is made in what the server sends; the PC must say what is wrong and
what to do, tell the server, and boot as soon as the fault is mended. Root.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sys_pxe import manifest, signature, site
from sys_pxe.agent import report
from sys_pxe.client import identity
from sys_pxe.document import DOCUMENT_MAX
from sys_pxe.errors import InvalidInput
from sys_pxe.manifest import Role
from sys_pxe.trust import CLOCK_PATIENCE, Identity, StickIdentity
from tests.agent_world import DAY, site_data
from tests.integration.refusal_room import (
    MAC,
    MIB,
    NEED,
    SIZE,
    STEP,
    Room,
    opened,
)

STRANGER = "52:54:00:00:00:77"


def flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with opened(tmp_path_factory.mktemp("refusals")) as made:
        yield made


def test_a_good_release_arrives_whole_and_is_reported(room: Room) -> None:
    got = room.boots()
    assert got.bytes == SIZE
    # else the numbers of the refusals below would prove nothing
    assert got.traffic > SIZE
    root = room.release.manifest.find(Role.DOM0_ROOT)
    whole = b"".join(room.release.chunks[d] for d in root.digests)
    assert (room.folder / "copy").read_bytes() == whole
    steps = [e.stage for e in report.read_events(room.store.database)]
    assert steps[-7:] == [
        *("network", "manifest", "ram", "fetch", "root", "pool", "handover")
    ]
    assert got.told.client == "desk-01"


def test_reports_before_the_site_is_read_are_taken(room: Room) -> None:
    """The PC does not know its name yet; the server knows its address."""
    with room.changed(room.store.site_file, b"nonsense"):
        room.refused_early()
        steps = report.read_events(room.store.database)[-2:]
    assert [s.stage for s in steps] == ["network", "failed"]


def test_a_flipped_bit_in_the_image_is_refused_by_name(room: Room) -> None:
    path = room.chunk(2)
    content = flipped(path.read_bytes(), STEP // 2)
    with room.changed(path, content):
        got = room.refused()
        assert got.says("dom0-root", path.name[:12], f"bytes {2 * STEP}")
        assert "release push" in got.hint
        assert got.stage == "fetch"


@pytest.mark.parametrize("left", [0, 1, STEP - 1])
def test_a_truncated_chunk_is_refused_with_sizes(room: Room, left: int) -> None:
    path = room.chunk(1)
    with room.changed(path, path.read_bytes()[:left]):
        got = room.refused()
        assert got.says("dom0-root", path.name[:12], f"has {left} bytes", STEP)
        assert "release push" in got.hint


def test_a_flipped_bit_in_the_manifest_is_refused(room: Room) -> None:
    signed = room.manifest_file.read_bytes()
    text = signed.index(b"\n") + 1
    for at in (20, text, signed.index(b"serial 3") + 7, len(signed) - 1):
        with room.changed(room.manifest_file, flipped(signed, at)):
            got = room.refused_early()
            assert got.says("the manifest of release r1", "sign")
            assert "push" in got.hint


@pytest.mark.parametrize("left", [0, 40, 97, 300, -1])
def test_a_truncated_manifest_is_refused(room: Room, left: int) -> None:
    signed = room.manifest_file.read_bytes()
    with room.changed(room.manifest_file, signed[:left]):
        got = room.refused_early()
        assert got.says("the manifest of release r1")
        assert "push" in got.hint


def test_a_manifest_edited_after_signing_is_refused(room: Room) -> None:
    """Longer life for an old release, by somebody who owns the store."""
    mark, _, _ = room.manifest_file.read_bytes().partition(b"\n")
    longer = replace(
        room.release.manifest, expires=room.release.manifest.expires + DAY
    )
    content = mark + b"\n" + manifest.write(longer)
    with room.changed(room.manifest_file, content):
        assert room.refused_early().says("the manifest of release r1", "key")


def test_a_manifest_of_another_key_is_refused(room: Room) -> None:
    text = manifest.write(room.release.manifest)
    content = signature.signed(text, room.other_private)
    with room.changed(room.manifest_file, content):
        got = room.refused_early()
        assert got.says("the manifest of release r1", "does not match the key")
        assert "another key" in got.hint


def test_a_pc_with_another_key_refuses_all(room: Room) -> None:
    got = room.refused_early(key=room.other_key)
    assert got.says("the site document", "does not match the key other.pem")
    assert "compare the keys" in got.hint
    room.boots()


@pytest.mark.parametrize(
    "changes",
    [{"release": "r2"}, {"serial": 4}, {"release": "r2", "serial": 4}],
)
def test_another_release_under_this_name_is_refused(
    room: Room, changes: dict[str, object]
) -> None:
    with room.changed(room.manifest_file, room.manifest(**changes)):
        got = room.refused_early()
        offered = (changes.get("release", "r1"), changes.get("serial", 3))
        assert got.says(f"release {offered[0]} (serial {offered[1]})")
        assert got.says("the boot files belong to r1 (serial 3)")
        assert "restart this PC" in got.hint


def test_a_signed_document_of_another_kind_is_refused(room: Room) -> None:
    """The signature holds; what it was made for is another thing."""
    with room.changed(room.manifest_file, room.store.site_file.read_bytes()):
        assert room.refused_early(3).says("manifest: line 1")
    with room.changed(room.manifest_file, room.pointer_file.read_bytes()):
        assert room.refused_early(3).says("manifest: line 1", "pointer")
    with room.changed(room.store.site_file, room.manifest_file.read_bytes()):
        assert room.refused_early(3).says("site: not valid JSON")


def test_a_release_without_an_image_is_refused(room: Room) -> None:
    boot_files = room.release.manifest.artifacts[:-1]
    with room.changed(room.manifest_file, room.manifest(artifacts=boot_files)):
        got = room.refused_early(3)
        assert got.says("release r1", "0 artifacts of role dom0-root")


def test_a_release_that_is_gone_is_refused(room: Room) -> None:
    away = room.folder / "away"
    os.rename(room.manifest_file, away)
    try:
        got = room.refused_early(1)
    finally:
        os.rename(away, room.manifest_file)
    assert got.says("/releases/r1", "404")
    room.boots()


def test_an_expired_release_is_refused_with_both_dates(room: Room) -> None:
    now = room.world.now
    old = room.manifest(created=now - 2 * DAY, expires=now - DAY)
    with room.changed(room.manifest_file, old):
        got = room.refused_early()
        assert got.says("release r1 expired at", "the clock says")
        assert "push a new release" in got.hint


def test_the_second_of_expiry_is_too_late(room: Room) -> None:
    expires = room.release.manifest.expires
    assert room.refused_early(clock=expires).says("release r1 expired at")
    room.boots(clock=expires - 1)


def test_a_clock_before_the_release_is_refused(room: Room) -> None:
    first = room.release.manifest.created - CLOCK_PATIENCE
    got = room.refused_early(clock=first - 1)
    assert got.says("the clock says", "release r1 was made at")
    assert "firmware setup" in got.hint
    # a battery that is empty
    assert room.refused_early(clock=0).says("1970-01-01T00:00:00Z")
    room.boots(clock=first)


def test_a_flipped_bit_in_the_site_is_refused(room: Room) -> None:
    signed = room.store.site_file.read_bytes()
    for at in (30, signed.index(MAC.encode()), len(signed) - 3):
        with room.changed(room.store.site_file, flipped(signed, at)):
            got = room.refused_early()
            assert got.says("the site document", "sign")
            assert "push" in got.hint


def test_a_site_that_another_key_signed_is_refused(room: Room) -> None:
    text = site.encode(site_data(), 9, room.world.now)
    content = signature.signed(text, room.other_private)
    with room.changed(room.store.site_file, content):
        assert room.refused_early().says("the site document", "match the key")


def test_a_serial_below_the_floor_is_refused(room: Room) -> None:
    with room.changed(room.store.site_file, room.site(floors={"stable": 4})):
        got = room.refused_early()
        assert got.says("release r1 has serial 3", "accepts 4 and above")
        assert "sys-pxe channel rollback" in got.hint
    # the floor itself is enough, and another channel's floor is not ours
    for floors in ({"stable": 3}, {"testing": 9}):
        with room.changed(room.store.site_file, room.site(floors=floors)):
            room.boots()


def test_a_signed_rollback_lifts_the_floor(room: Room) -> None:
    before = room.pointer_file.read_bytes()
    with room.changed(room.store.site_file, room.site(floors={"stable": 4})):
        room.refused_early()
        room.service("syspxe.Activate+stable", room.pointer())
        try:
            room.boots()
        finally:
            room.pointer_file.write_bytes(before)
        room.refused_early()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rollback": False}, "accepts 4 and above"),
        ({"release": "r2"}, "accepts 4 and above"),
        ({"release_serial": 4}, "accepts 4 and above"),
        ({"floor": 3}, "was signed when the floor was 3"),
        ({"channel": "testing"}, "channel stable is one of channel testing"),
    ],
)
def test_a_rollback_of_something_else_lifts_nothing(
    room: Room, changes: dict[str, object], said: str
) -> None:
    with (
        room.changed(room.store.site_file, room.site(floors={"stable": 4})),
        room.changed_only(room.pointer_file, room.pointer(**changes)),
    ):
        assert room.refused_early().says(said)


def test_a_changed_rollback_lifts_nothing(room: Room) -> None:
    good = room.pointer()
    no = room.pointer(rollback=False)
    mark = good.partition(b"\n")[0]
    forged = (
        flipped(good, good.index(b"release r1") + 11),
        flipped(good, 30),
        no.replace(b"rollback no", b"rollback yes"),
        mark + b"\n" + room.pointer(serial=7).partition(b"\n")[2],
        signature.signed(room.pointer_text(), room.other_private),
        good[:-1],
        b"",
    )
    floor = room.site(floors={"stable": 4})
    with room.changed(room.store.site_file, floor):
        for content in forged:
            with room.changed_only(room.pointer_file, content):
                got = room.refused_early()
                assert got.says("the pointer of channel stable", "sign")
                assert "push" in got.hint


def test_too_little_ram_is_refused_before_the_download(room: Room) -> None:
    got = room.refused_early(1, ram=NEED - 1)
    assert got.stage == "ram"
    assert got.says("release r1 needs", f"{NEED} MiB", f"{NEED - 1} MiB")
    assert "ram.dom0" in got.hint
    room.boots(ram=NEED)


def test_a_profile_with_more_changes_needs_more_ram(room: Room) -> None:
    ram = {"dom0": "2GiB", "overlay": "512MiB"}
    profiles = {"base": {"channel": "stable", "ram": ram}}
    with room.changed(room.store.site_file, room.site(profiles=profiles)):
        got = room.refused_early(1, ram=NEED)
        assert got.says(f"{NEED + 256} MiB", "512 overlay", f"{NEED} MiB")
        room.boots(ram=NEED + 256)


def test_a_pc_that_is_not_in_the_site_is_refused(room: Room) -> None:
    got = room.refused_early(mac=STRANGER)
    assert got.says(STRANGER, "not in the signed site")
    assert "site.yaml" in got.hint
    assert got.told.client == ""
    room.boots()
    opened = room.site(unknown_clients="base")
    with room.changed(room.store.site_file, opened):
        room.boots(mac=STRANGER)


@pytest.mark.parametrize("what", ["site", "manifest"])
def test_a_huge_document_is_not_read_to_its_end(room: Room, what: str) -> None:
    paths = {"site": room.store.site_file, "manifest": room.manifest_file}
    content = paths[what].read_bytes() + b" " * (64 * MIB)
    with room.changed(paths[what], content):
        got = room.refused()
        assert got.says(f"/{what}" if what == "site" else "/releases/r1")
        assert got.says("more than", DOCUMENT_MAX + 256)
        assert got.bytes == 0
        # the kernel's buffers hold some megabytes more than what is read
        assert got.traffic < 24 * MIB


@pytest.mark.parametrize(
    ("server", "taken"),
    [
        ("http://192.0.2.9", ("192.0.2.9", 80)),
        ("http://192.0.2.9:8080", ("192.0.2.9", 8080)),
        ("http://......1", None),
        ("http://999.0.2.1", None),
        ("http://192.0.2.9:0", None),
        ("http://192.0.2.9:65536", None),
        ("http://192.0.2.9/x", None),
        ("ftp://192.0.2.9", None),
    ],
)
def test_a_server_that_cannot_be_is_no_hint(
    server: str, taken: tuple[str, int] | None
) -> None:
    """The loader's words are not trusted; the DHCP server's stand in."""
    line = f"quiet syspxe.server={server} rd.shell=0"
    assert identity.hints(line) == identity.Hints(None, taken)


def test_an_identity_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    path.write_text("release r1\nserial 3\n")
    assert identity.read(path) == Identity("r1", 3)
    mark = "0" * 64
    path.write_text(f"xen {mark}\nkernel {mark}\n")
    assert identity.read(path) == StickIdentity(mark, mark)
    for text in (
        *(f"kernel {mark}\nxen {mark}\n", f"xen {mark}\nkernel {mark[1:]}\n"),
        *(f"xen {mark}\nserial 3\n", f"xen {mark}\nkernel {mark.upper()}A\n"),
        *("", "release r1\n", "serial 3\nrelease r1\n", "release\nserial 3\n"),
        *("release r1 r2\nserial 3\n", "release r1\nserial 3 4\n"),
        *("release r1\nserial 0\n", "release r1\nserial 3\nserial 3\n"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidInput):
            identity.read(path)
