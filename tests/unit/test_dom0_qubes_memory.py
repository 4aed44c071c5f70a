"""The RAM that qubes are started with: numbers as qubesd counts them."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe.dom0 import qubes_memory, qubes_rewrite
from sys_pxe.dom0.qubes_memory import Memory
from sys_pxe.dom0.qubes_store import Store
from sys_pxe.errors import InvalidInput
from tests import qubes_drawn
from tests.qubes_stores import change, golden, put

# 4 MiB, 1.5 for each of 2 processors, 8 KiB for each MiB of maxmem, which is
# ten times the memory
PVH_400 = 400 + 39


def size(
    properties: Mapping[str, str | None],
    template: Mapping[str, str | None] | None = None,
    name: str = "work",
) -> int:
    found = change(golden(), name, {"memory": None, **properties})
    found = change(found, "debian-13", template or {})
    return qubes_memory.started_with(found, found.domains[name])


@pytest.mark.parametrize(
    ("properties", "template", "mib"),
    [
        ({}, {}, PVH_400),
        ({"memory": "600"}, {}, 600 + 7 + 32),
        ({}, {"memory": "600"}, 600 + 7 + 47),
        ({"memory": "500"}, {"memory": "600"}, 500 + 7 + 47),
        ({"maxmem": "0"}, {}, 400 + 7 + 4),
        ({"maxmem": "800"}, {}, 400 + 7 + 7),
        ({"maxmem": "801"}, {}, 400 + 7 + 7),
        ({"maxmem": "0"}, {"maxmem": "8000"}, 400 + 7 + 4),
        ({}, {"maxmem": "800"}, 400 + 7 + 7),
        ({"vcpus": "1", "maxmem": "0"}, {}, 400 + 9),
        ({"maxmem": "0"}, {"vcpus": "4"}, 400 + 14),
        ({"virt_mode": "pv"}, {}, 400 + 7),
        ({}, {"virt_mode": "pv"}, 400 + 7),
        ({"virt_mode": "hvm"}, {}, PVH_400 + 128 + 16),
        ({"virt_mode": "HVM"}, {}, PVH_400 + 128 + 16),
        ({"virt_mode": "hvm", "stubdom_mem": "200"}, {}, PVH_400 + 216),
        ({"virt_mode": "pvh", "stubdom_mem": "200"}, {}, PVH_400),
    ],
)
def test_a_qube_is_started_with_memory_and_what_xen_takes(
    properties: Mapping[str, str],
    template: Mapping[str, str],
    mib: int,
) -> None:
    assert size(properties, template) == mib


def test_maxmem_of_another_system_is_4000() -> None:
    found = golden()
    one = replace(found.domains["debian-13"], features={})
    found = change(put(found, one), "work", {"memory": None})
    work = found.domains["work"]
    assert qubes_memory.started_with(found, work) == 400 + 7 + 32


def test_the_small_device_model_takes_less() -> None:
    found = golden()
    for feature, mib in (("", 28), ("1", 128)):
        one = replace(
            found.domains["debian-13"],
            features={"os": "Linux", "linux-stubdom": feature},
        )
        made = put(found, one)
        made = change(made, "work", {"memory": None, "virt_mode": "hvm"})
        work = made.domains["work"]
        assert qubes_memory.started_with(made, work) == PVH_400 + mib + 16


def test_a_card_makes_a_qube_an_hvm() -> None:
    found = golden()
    net = change(found, "sys-net", {"virt_mode": None}).domains["sys-net"]
    assert qubes_memory.started_with(found, net) == PVH_400 + 144
    assert qubes_memory.started_with(found, replace(net, devices=())) == PVH_400


def need(found: Store, *chosen: str) -> Memory:
    made = qubes_rewrite.rewrite(found, chosen, "office")
    return qubes_memory.need(made.store)


def test_templates_and_dom0_are_not_started() -> None:
    assert need(golden()) == Memory(0, 0)
    assert need(golden(), "debian-13") == Memory(0, 0)
    assert need(golden(), "vault") == Memory(0, PVH_400)


def test_all_that_can_run_is_counted() -> None:
    net, firewall = PVH_400 + 144, PVH_400
    assert need(golden(), "work") == Memory(
        net + firewall, net + firewall + 639
    )
    # a disposable, and what it is made of
    assert need(golden(), "disp77") == Memory(
        net + firewall, net + firewall + 2 * PVH_400
    )


def test_who_starts_at_boot_takes_its_network_along() -> None:
    found = golden()
    for name in ("sys-net", "sys-firewall"):
        found = change(found, name, {"autostart": None})
    assert need(found, "work").boot_mib == 0
    found = change(found, "work", {"autostart": "True"})
    made = need(found, "work")
    assert made.boot_mib == made.all_mib == PVH_400 * 2 + 144 + 639


def test_a_loop_of_networks_ends() -> None:
    found = change(golden(), "sys-net", {"netvm": "sys-firewall"})
    assert need(found, "work").boot_mib == PVH_400 * 2 + 144


@pytest.mark.parametrize(
    "properties",
    [
        {"memory": "much"},
        {"memory": "-1"},
        {"memory": ""},
        {"vcpus": "2.5"},
        {"maxmem": "99999999999"},
        {"virt_mode": "hvm", "stubdom_mem": "x"},
    ],
)
def test_what_is_no_number_is_refused(properties: Mapping[str, str]) -> None:
    with pytest.raises(InvalidInput, match="work: "):
        size(properties)


@given(qubes_drawn.stores(), st.integers(1, 1000))
def test_more_memory_is_never_less(found: Store, more: int) -> None:
    before = qubes_memory.need(found)
    assert 0 <= before.boot_mib <= before.all_mib
    for name, one in found.domains.items():
        if one.klass not in {"AppVM", "StandaloneVM"}:
            continue
        memory = int(one.properties.get("memory", "400"))
        grown = change(found, name, {"memory": str(memory + more)})
        after = qubes_memory.started_with(grown, grown.domains[name])
        if "memory" in one.properties:
            assert after >= (qubes_memory.started_with(found, one) + more)
