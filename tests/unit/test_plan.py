"""Boot plans: what a client gets, resolved."""

from dataclasses import replace

import pytest

from sys_pxe import plan, site
from sys_pxe.errors import InvalidInput
from sys_pxe.manifest import Role
from sys_pxe.site import Site
from tests import documents
from tests.agent_world import site_data

PROFILES = {
    "base": {
        "channel": "stable",
        "qubes": ["sys-net", "sys-usb"],
        "ram": {"dom0": "2GiB", "overlay": "128MiB"},
        "options": {"kernel": ["nomodeset"], "xen": ["loglvl=all"]},
    },
    "office": {
        "inherits": "base",
        "qubes": ["work", "sys-usb"],
        "ram": {"dom0": "3GiB", "pool": "2GiB"},
        "options": {"kernel": ["splash"]},
    },
    "kiosk": {"inherits": "office", "channel": "testing", "storage": "visible"},
}
CLIENTS = {
    "b": {"mac": "52:54:00:00:00:02", "profile": "base"},
    "a": {"mac": "52:54:00:00:00:01", "profile": "kiosk"},
}


def a_site(**changes: object) -> Site:
    data = {"profiles": PROFILES, "clients": CLIENTS, **changes}
    return site.parse(site_data(**data))


def test_what_is_nearest_wins_and_lists_add_up() -> None:
    found = plan.settings(a_site(), "kiosk")
    assert (found.channel, found.dom0_mib, found.overlay_mib) == (
        "testing",
        3072,
        128,
    )
    assert found.qubes == ("sys-net", "sys-usb", "work")
    assert found.pool_mib == 2048
    assert found.kernel_options == ("nomodeset", "splash")
    assert found.xen_options == ("loglvl=all",)
    assert found.storage_visible


def test_what_nobody_set_has_its_default() -> None:
    profiles = {"base": {"channel": "stable"}}
    clients = {"a": {"mac": "52:54:00:00:00:01", "profile": "base"}}
    found = plan.settings(a_site(profiles=profiles, clients=clients), "base")
    assert (found.dom0_mib, found.overlay_mib, found.pool_mib) == (
        *(4096, 256, 1024),
    )
    assert not found.storage_visible


def test_the_set_of_a_profile_has_its_qubes_no_more_and_no_fewer() -> None:
    found = plan.settings(a_site(), "kiosk")
    same = ("work", "sys-usb", "sys-net")
    release = documents.with_set(documents.release(), same)
    assert plan.qube_set(found, release) == release.sets[0]
    for other in (same[:2], (*same, "vault")):
        lacking = documents.with_set(documents.release(), other)
        with pytest.raises(InvalidInput, match="no set of the qubes"):
            plan.qube_set(found, lacking)
    assert plan.qube_set(replace(found, qubes=()), documents.release()) is None


def test_a_profile_without_a_channel_has_no_settings() -> None:
    profiles = {**PROFILES, "bare": {"qubes": ["work"]}}
    with pytest.raises(InvalidInput, match=r"profiles\.bare\.channel: missing"):
        plan.settings(a_site(profiles=profiles), "bare")


def test_plans_come_in_the_order_of_names_and_the_unknown_last() -> None:
    found = plan.all_plans(a_site(unknown_clients="base"), {})
    assert [p.client for p in found] == ["a", "b", "unknown"]
    assert found[-1].mac is None


def test_refused_unknown_clients_have_no_plan() -> None:
    assert plan.unknown_plan(a_site(), {}) is None
    assert len(plan.all_plans(a_site(), {})) == 2


def test_a_client_boots_what_its_own_channel_names() -> None:
    release = documents.release()
    kiosk, base = plan.all_plans(a_site(), {"stable": release})
    assert kiosk.boot is None
    assert base.boot is not None
    assert base.boot == plan.BootFiles(
        "r1",
        3,
        documents.sha("xen 0"),
        documents.sha("vmlinuz 0"),
        documents.sha("initramfs 0"),
    )


def test_the_memory_of_dom0_is_fixed_and_no_disk_is_looked_at() -> None:
    found = plan.boot_plan(a_site(), a_site().clients["b"], {})
    assert found.xen_options == ("dom0_mem=2048M,max:2048M", "loglvl=all")
    assert set(found.kernel_options) > {
        *("rd.luks=0", "rd.lvm=0", "rd.md=0", "noresume", "rd.shell=0"),
        *("systemd.gpt_auto=0", "rd.systemd.gpt_auto=0"),
    }
    assert found.kernel_options[-1] == "nomodeset"


def test_a_boot_file_of_two_chunks_cannot_be_fetched_whole() -> None:
    release = documents.release()
    kernel = documents.artifact(Role.KERNEL, "vmlinuz", 800, 400)
    wrong = replace(
        release,
        artifacts=(release.artifacts[0], kernel, *release.artifacts[2:]),
    )
    with pytest.raises(InvalidInput, match="vmlinuz has 2 chunks") as caught:
        plan.boot_files(wrong)
    assert caught.value.hint == "build the release again"


def test_a_release_without_a_kernel_boots_nothing() -> None:
    release = documents.release()
    wrong = replace(release, artifacts=release.artifacts[:1])
    with pytest.raises(InvalidInput, match="0 artifacts of role kernel"):
        plan.boot_files(wrong)


def test_the_options_in_an_image_are_those_of_the_plan() -> None:
    found = plan.settings(a_site(), "kiosk")
    text = plan.xen_cfg(found).decode("ascii")
    assert "\noptions=dom0_mem=3072M,max:3072M loglvl=all\n" in text
    assert f"\nkernel=vmlinuz {' '.join(found.all_kernel_options)}\n" in text
    assert "\nramdisk=initramfs\n" in text
    # what differs between clients is not in it: it would need a signature each
    assert "192.0.2" not in text and "kiosk" not in text


def test_the_image_of_a_profile_is_the_one_with_its_options() -> None:
    found = plan.settings(a_site(), "base")
    other = plan.settings(a_site(), "kiosk")
    digest = plan.options_digest(found)
    release = documents.with_image(documents.release(), digest)
    image = plan.unified(found, release)
    assert image is not None and image.name == "unified-base"
    # neither name nor channel nor qubes are options
    twin = replace(found, profile="twin", channel="testing", qubes=())
    assert plan.unified(twin, release) == image
    assert plan.unified(other, release) is None
    assert plan.unified(replace(found, dom0_mib=2049), release) is None
    with pytest.raises(InvalidInput, match="no unified image") as caught:
        plan.check_unified(other, release)
    assert "build a release" in caught.value.hint


def test_a_client_gets_the_image_of_its_profile() -> None:
    digest = plan.options_digest(plan.settings(a_site(), "base"))
    release = documents.with_image(documents.release(), digest)
    active = {"stable": release, "testing": release}
    kiosk, base = plan.all_plans(a_site(), active)
    assert base.boot and base.boot.unified == documents.sha("unified-base 0")
    assert kiosk.boot and kiosk.boot.unified is None


def test_an_image_of_two_chunks_is_refused_whoever_asks() -> None:
    release = documents.with_image(documents.release(), documents.sha("x"))
    wrong = replace(
        release,
        artifacts=tuple(
            documents.artifact(a.role, a.name, 600, 300)
            if a.role is Role.UNIFIED
            else a
            for a in release.artifacts
        ),
    )
    with pytest.raises(InvalidInput, match="unified-base has 2 chunks"):
        plan.boot_files(wrong)
