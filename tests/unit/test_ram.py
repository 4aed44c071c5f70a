"""The RAM plan: sums, the smallest PC, and refusals with both numbers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import ram
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Manifest, Role
from sys_pxe.plan import Settings
from sys_pxe.ram import MIB, Part, RamPlan
from sys_pxe.site import RAM_MAX_MIB
from tests import documents

SETTINGS = Settings(
    profile="office",
    channel="stable",
    qubes=(),
    dom0_mib=1536,
    overlay_mib=128,
    pool_mib=1000,
    xen_options=(),
    kernel_options=(),
    storage_visible=False,
)


def a_release(size: int) -> Manifest:
    root = documents.artifact(Role.DOM0_ROOT, "dom0.squashfs", size, size)
    return replace(documents.release(), artifacts=(root,))


def a_plan(dom0_mib: int = 1536, size: int = 123 * MIB) -> RamPlan:
    return ram.plan(replace(SETTINGS, dom0_mib=dom0_mib), a_release(size))


def a_plan_with_qubes(dom0_mib: int, size: int, boot: int) -> RamPlan:
    """Return a plan whose qubes take ``boot`` MiB, and 1600 when all run."""
    settings = replace(SETTINGS, dom0_mib=dom0_mib, qubes=("work",))
    release = documents.with_set(a_release(MIB), ("work",), size)
    sets = (replace(release.sets[0], boot_mib=boot, all_mib=boot + 1600),)
    return ram.plan(settings, replace(release, sets=sets))


plans = st.one_of(
    st.builds(a_plan, st.integers(1, RAM_MAX_MIB), st.integers(1, 64 << 30)),
    st.builds(
        a_plan_with_qubes,
        st.integers(1, RAM_MAX_MIB),
        st.integers(1, 1 << 30),
        st.integers(0, RAM_MAX_MIB),
    ),
)


@pytest.mark.parametrize(
    ("size", "mib"), [(1, 1), (MIB, 1), (MIB + 1, 2), (100 * MIB, 100)]
)
def test_an_artifact_is_rounded_up_to_whole_mib(size: int, mib: int) -> None:
    found = a_plan(size=size)
    assert found.parts == (
        Part("running system", ram.RUNNING_MIB, ram.RUNNING_MIB),
        Part("dom0-root", mib, mib),
        Part("overlay", 0, 128),
    )
    assert found.need_mib == ram.RUNNING_MIB + mib + 128


def test_the_volumes_the_pool_and_the_qubes_have_their_rows() -> None:
    found = a_plan_with_qubes(4096, 500 * MIB - 50, 400)
    assert found.parts == (
        Part("running system", ram.RUNNING_MIB, ram.RUNNING_MIB),
        Part("dom0-root", 1, 1),
        Part("overlay", 0, 128),
        Part("volumes", 500, 500),
        Part("VM pool", 32, 1032),
    )
    rows = {row.name: row for row in found.rows(8192)}
    assert rows["qubes"] == Part("qubes", 400, 2000)
    left = 8192 - ram.xen_mib(8192) - 4096
    assert rows["free beside dom0"] == Part(
        "free beside dom0", left - 400, left - 2000
    )
    assert found.left_mib(8192) == left - 400


def test_the_smallest_pc_runs_what_starts_the_larger_one_all_qubes() -> None:
    found = a_plan_with_qubes(4096, MIB, 400)
    assert found.left_mib(found.smallest_mib) in (0, 1)
    assert found.rows(found.smallest_for_all_mib)[-1].limit_mib in (0, 1)
    with pytest.raises(SysPxeError) as caught:
        ram.check_pc(found, found.smallest_mib - 1)
    assert "4096 dom0, 202 Xen, 400 qubes" in caught.value.message


def test_a_release_without_the_profiles_qubes_has_no_plan() -> None:
    settings = replace(SETTINGS, qubes=("work", "vault"))
    for qubes in ((), ("work",), ("work", "vault", "more")):
        release = a_release(1)
        if qubes:
            release = documents.with_set(release, qubes)
        with pytest.raises(InvalidInput) as caught:
            ram.plan(settings, release)
        assert "no set of the qubes of profile office: vault, work" in str(
            caught.value
        )
        assert "build a release" in caught.value.hint


def test_a_release_without_a_root_has_no_plan() -> None:
    release = replace(documents.release(), artifacts=())
    with pytest.raises(InvalidInput, match="0 artifacts of role dom0-root"):
        ram.plan(SETTINGS, release)


@pytest.mark.parametrize(("dom0_mib", "seen"), [(384, 270), (1536, 1397)])
def test_a_plan_promises_no_more_than_a_kernel_was_seen_to_leave(
    dom0_mib: int, seen: int
) -> None:
    promised = a_plan(dom0_mib=dom0_mib).have_mib
    assert seen - 20 < promised <= seen


@given(plans)
def test_the_smallest_pc_fits_and_one_mib_less_does_not(
    found: RamPlan,
) -> None:
    found = replace(found, dom0_mib=max(found.dom0_mib, found.least_dom0_mib))
    ram.check_pc(found, found.smallest_mib)
    with pytest.raises(SysPxeError, match=f"{found.smallest_mib - 1} MiB"):
        ram.check_pc(found, found.smallest_mib - 1)


@given(plans)
def test_the_least_dom0_fits_and_one_mib_less_does_not(found: RamPlan) -> None:
    least = found.least_dom0_mib
    ram.check_profile(replace(found, dom0_mib=least))
    too_little = replace(found, dom0_mib=least - 1)
    assert not too_little.fits_dom0
    with pytest.raises(SysPxeError) as caught:
        ram.check_profile(too_little)
    assert f"to {least}MiB or more" in caught.value.hint


@given(plans, st.integers(0, 2 * RAM_MAX_MIB))
def test_the_rows_are_all_of_a_pc_and_more_ram_never_fits_less(
    found: RamPlan, pc_mib: int
) -> None:
    rows = found.rows(pc_mib)
    assert sum(row.boot_mib for row in rows) == pc_mib
    assert sum(row.limit_mib for row in rows) == pc_mib
    assert found.left_mib(pc_mib + 1) >= found.left_mib(pc_mib)


@given(plans)
def test_what_fits_a_plan_fits_the_client(found: RamPlan) -> None:
    # the client compares what its kernel has, at least what was planned
    if found.fits_dom0:
        ram.check_dom0(found, found.have_mib)
    else:
        with pytest.raises(SysPxeError):
            ram.check_dom0(found, found.have_mib)


def test_just_enough_ram_is_enough() -> None:
    ram.check_dom0(a_plan(), 571)


def test_too_little_ram_is_refused_with_both_numbers() -> None:
    with pytest.raises(SysPxeError) as caught:
        ram.check_dom0(a_plan(), 570)
    assert caught.value.message == (
        "release r1 needs 571 MiB of RAM in dom0 (320 running system, "
        "123 dom0-root, 128 overlay), this PC gives it 570 MiB"
    )
    assert caught.value.hint == (
        "set ram.dom0 in the client's profile to 701MiB or more, or put more "
        "RAM into the PC"
    )


def test_a_profile_that_is_too_small_fits_no_pc() -> None:
    small = a_plan(dom0_mib=384)
    with pytest.raises(SysPxeError) as caught:
        ram.check_profile(small)
    assert caught.value.message.endswith("profile office gives it 262 MiB")
    assert "to 701MiB or more" in caught.value.hint
    with pytest.raises(SysPxeError) as again:
        ram.check_pc(small, RAM_MAX_MIB)
    assert again.value.explain() == caught.value.explain()


def test_a_pc_that_is_too_small_is_told_with_both_numbers() -> None:
    with pytest.raises(SysPxeError) as caught:
        ram.check_pc(a_plan(), 1690)
    assert caught.value.message == (
        "profile office needs a PC with 1691 MiB of RAM (1536 dom0, 155 Xen), "
        "this one has 1690 MiB"
    )
    assert "ram.dom0: 701MiB" in caught.value.hint
    assert caught.value.exit_code == 1
