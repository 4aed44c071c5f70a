"""The chain from the firmware to the last chunk: each link, broken in turn.

Behind the firmware the real client program is what refuses, here against a real
agent; the firmware's own links are broken in real boots (tests/boot). Root.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sys_pxe import manifest, signature, site
from tests.agent_world import DAY, site_data
from tests.boot import test_matrix
from tests.integration.refusal_room import MAC, Room, opened

# in the order in which a boot goes through them
CHAIN = (
    *("loader", "image", "key", "site", "client", "manifest"),
    *("release", "serial", "dates", "floor", "rollback", "chunk"),
)
# what the manifest of another release says, and what the PC says of it
OTHER: dict[str, tuple[dict[str, object], str]] = {
    "release": ({"release": "r2"}, "release r2 (serial 3)"),
    "serial": ({"serial": 4}, "release r1 (serial 4)"),
}


@dataclass(frozen=True)
class Break:
    """``fault`` is what the server sends, ``key`` another one in the PC."""

    said: tuple[str, ...]
    stage: str = "manifest"
    fault: AbstractContextManager[None] = field(default_factory=nullcontext)
    key: Path | None = None


def broken(room: Room, link: str) -> Break:
    """Break one link, all others whole: what has to be signed is signed."""
    sites, manifests = room.store.site_file, room.manifest_file
    now = room.world.now
    floor = room.site(floors={"stable": 4})
    match link:
        case "key":
            return Break(
                ("the site document", "does not match the key other.pem"),
                key=room.other_key,
            )
        case "site":
            text = site.encode(site_data(), 9, now)
            content = signature.signed(text, room.other_private)
            return Break(
                ("the site document", "does not match the key"),
                fault=room.changed(sites, content),
            )
        case "client":
            clients = {"desk-02": {"mac": "52:54:00:00:00:02",
                                   "profile": "base"}}  # fmt: skip
            return Break(
                (MAC, "is not in the signed site"),
                fault=room.changed(sites, room.site(clients=clients)),
            )
        case "manifest":
            text = manifest.write(room.release.manifest)
            content = signature.signed(text, room.other_private)
            return Break(
                ("the manifest of release r1", "does not match the key"),
                fault=room.changed(manifests, content),
            )
        case "release" | "serial":
            changes, offered = OTHER[link]
            return Break(
                (offered, "the boot files belong to r1 (serial 3)"),
                fault=room.changed(manifests, room.manifest(**changes)),
            )
        case "dates":
            content = room.manifest(created=now - 2 * DAY, expires=now - DAY)
            return Break(
                ("release r1 expired at", "the clock says"),
                fault=room.changed(manifests, content),
            )
        case "floor":
            return Break(
                ("release r1 has serial 3", "the site accepts 4 and above"),
                fault=room.changed(sites, floor),
            )
        case "rollback":
            content = signature.signed(room.pointer_text(), room.other_private)
            return Break(
                ("the pointer of channel stable", "does not match the key"),
                fault=both(room, floor, content),
            )
        case "chunk":
            path = room.chunk(1)
            whole = path.read_bytes()
            content = whole[:-1] + bytes([whole[-1] ^ 1])
            return Break(
                ("dom0-root", path.name[:12], "was wrong"),
                stage="fetch",
                fault=room.changed(path, content),
            )
    raise AssertionError(f"nothing breaks the link {link}")


@contextmanager
def both(room: Room, floor: bytes, pointer: bytes) -> Iterator[None]:
    """Send a floor that the release lies below, and what is to lift it."""
    with (
        room.changed(room.store.site_file, floor),
        room.changed_only(room.pointer_file, pointer),
    ):
        yield


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with opened(tmp_path_factory.mktemp("chain")) as made:
        yield made


def test_the_firmware_breaks_where_no_pc_of_ours_looks() -> None:
    """What is not broken here is broken in a real boot."""
    links = {link for link, *_ in test_matrix.REFUSED.values()}
    assert links == set(CHAIN[:2])


def test_whole_it_holds(room: Room) -> None:
    assert room.boots().stage == "handover"


@pytest.mark.parametrize("link", CHAIN[2:])
def test_a_broken_link_is_refused_there_by_name(room: Room, link: str) -> None:
    wrong = broken(room, link)
    with wrong.fault:
        got = room.refused(key=wrong.key or room.store.key)
    assert got.says(*wrong.said)
    assert got.stage == wrong.stage
    # nothing of a release is fetched before all that is signed was checked
    assert (got.bytes > 0) == (wrong.stage == "fetch")


def test_who_also_sets_the_clock_replays_down_to_an_old_floor(
    room: Room,
) -> None:
    """What remains, as the threat model says: an old release, its old site,
    and a clock of that time. Without the clock, or with the new site, not."""
    expires = room.release.manifest.expires
    after = expires + DAY
    newer = room.site(floors={"stable": 4})
    assert room.refused(clock=after).says("release r1 expired at")
    with room.changed(room.store.site_file, newer):
        assert room.refused(clock=expires - 1).says("accepts 4 and above")
    assert room.boots(clock=expires - 1).stage == "handover"
