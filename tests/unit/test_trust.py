"""The trust rules: each with what passes, and what is said otherwise."""

import pytest

from sys_pxe import trust
from sys_pxe.errors import VerificationError
from sys_pxe.manifest import Manifest
from sys_pxe.pointer import Pointer
from sys_pxe.trust import Identity, StickIdentity
from tests.documents import CREATED, EXPIRES, pointer, release, sha

DAY = 86_400


def test_the_pinned_release_is_accepted() -> None:
    trust.check_identity(release(), Identity("r1", 3))


@pytest.mark.parametrize("pinned", [Identity("r2", 3), Identity("r1", 4)])
def test_another_release_than_the_pinned_one(pinned: Identity) -> None:
    with pytest.raises(VerificationError) as caught:
        trust.check_identity(release(), pinned)
    assert caught.value.message == (
        "the server's manifest is of release r1 (serial 3), the boot files "
        f"belong to {pinned.release} (serial {pinned.serial})"
    )
    assert caught.value.hint.startswith("restart this PC")


STICK = StickIdentity(sha("xen"), sha("vmlinuz"))


@pytest.mark.parametrize("made", [release(), release("r9", 9)])
def test_a_stick_suits_each_release_with_its_xen_and_kernel(
    made: Manifest,
) -> None:
    trust.check_stick(made, STICK)


@pytest.mark.parametrize(
    ("pinned", "what"),
    [
        (StickIdentity(sha("other"), sha("vmlinuz")), "Xen"),
        (StickIdentity(sha("xen"), sha("other")), "kernel"),
        (StickIdentity(sha("vmlinuz"), sha("xen")), "Xen"),
    ],
)
def test_a_stick_with_other_parts_is_named(
    pinned: StickIdentity, what: str
) -> None:
    with pytest.raises(VerificationError) as caught:
        trust.check_stick(release(), pinned)
    assert caught.value.message == (
        f"release r1 (serial 3) has another {what} than this boot stick"
    )
    assert "sys-pxe media build" in caught.value.hint


@pytest.mark.parametrize("now", [CREATED - DAY, CREATED, EXPIRES - 1])
def test_a_date_between_creation_and_expiry(now: int) -> None:
    trust.check_dates(release(), now, trust.CLIENT_CLOCK)


@pytest.mark.parametrize("now", [0, CREATED - DAY - 1])
def test_a_dead_clock_is_named(now: int) -> None:
    with pytest.raises(VerificationError) as caught:
        trust.check_dates(release(), now, trust.CLIENT_CLOCK)
    assert caught.value.message.startswith("the clock says ")
    assert "release r1 was made at 2026-11-23T18:00:00Z" in caught.value.message
    assert "firmware setup" in caught.value.hint


@pytest.mark.parametrize("now", [EXPIRES, EXPIRES + 10 * DAY])
def test_an_expired_release(now: int) -> None:
    with pytest.raises(VerificationError) as caught:
        trust.check_dates(release(), now, trust.CLIENT_CLOCK)
    assert caught.value.message.startswith(
        "release r1 expired at 2026-12-23T18:00:00Z, the clock says 20"
    )
    assert caught.value.hint.startswith("build and push a new release")


@pytest.mark.parametrize("floor", [0, 2, 3])
def test_a_serial_at_or_above_the_floor(floor: int) -> None:
    trust.check_floor(release(), floor, None)


@pytest.mark.parametrize(
    "word",
    [
        None,
        pointer(rollback=False, floor=9),
        pointer("r0", 3, rollback=True, floor=9),
        pointer("r1", 2, rollback=True, floor=9),
    ],
)
def test_a_serial_below_the_floor(word: Pointer | None) -> None:
    with pytest.raises(VerificationError) as caught:
        trust.check_floor(release(), 4, word)
    assert caught.value.message == (
        "release r1 has serial 3, the site accepts 4 and above"
    )
    assert "sys-pxe channel rollback" in caught.value.hint


@pytest.mark.parametrize("signed_under", [4, 5])
def test_a_signed_rollback_of_this_release_is_below_the_floor(
    signed_under: int,
) -> None:
    trust.check_floor(release(), 4, pointer(rollback=True, floor=signed_under))


def test_a_rollback_ends_when_the_floor_is_raised() -> None:
    with pytest.raises(VerificationError) as caught:
        trust.check_floor(release(), 5, pointer(rollback=True, floor=4))
    assert caught.value.message == (
        "the rollback to release r1 was signed when the floor was 4, the site "
        "accepts 5 and above"
    )
    assert "sign the rollback again" in caught.value.hint


def test_a_newer_pointer_that_names_the_release() -> None:
    current = Pointer("stable", 6, CREATED, "r0", 2, rollback=False)
    trust.check_pointer(pointer(), current, release())
    trust.check_pointer(pointer(), None, release())


@pytest.mark.parametrize("serial", [7, 8])
def test_an_old_pointer_cannot_be_used_again(serial: int) -> None:
    current = Pointer("stable", serial, CREATED, "r0", 2, rollback=False)
    with pytest.raises(VerificationError) as caught:
        trust.check_pointer(pointer(), current, release())
    assert caught.value.message == (
        "pointer 7 of channel stable is not newer than the current one "
        f"({serial})"
    )
    assert caught.value.hint.startswith("sign a new pointer")


@pytest.mark.parametrize("wrong", [pointer("r2", 3), pointer("r1", 4)])
def test_a_pointer_that_names_another_release(wrong: Pointer) -> None:
    with pytest.raises(VerificationError, match="the pointer names release"):
        trust.check_pointer(wrong, None, release())


def test_a_refusal_has_the_exit_code_of_verification() -> None:
    with pytest.raises(VerificationError) as caught:
        trust.check_dates(release(), 0, trust.CLIENT_CLOCK)
    assert caught.value.exit_code == 4
