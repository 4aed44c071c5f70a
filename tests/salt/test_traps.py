"""The traps of Qubes OS 4.3's Salt states, each met by the formula.

Each test first shows that the double has the trap; without that, the formula's
way around it would prove nothing.
"""

from typing import Any

import pytest

from tests.salt.double import model
from tests.salt.world import World

CARD, OTHER = model.card("00_1f.6"), model.card("00_1c.0-00_00.0", "02:00.0")


def state(world: World, function: str, **arguments: Any) -> object:
    """Run one state of the double by itself."""
    answer = world.call("dom0", "state.single", function, **arguments)
    (one,) = answer.values()
    return one


def used(world: World) -> str:
    """Return all states of create.sls as text."""
    return str(world.show("create"))


def test_trap_detach_raises_type_error_so_unassign(world: World) -> None:
    broken = state(
        world, "qvm.devices", name="sys-net", detach=[{"pci:dom0:00_1f.6": []}]
    )
    assert "unexpected keyword" in str(broken)
    assert "devices" not in used(world)
    world.reset(CARD, OTHER)
    world.apply("create", {"nic": "00:1f.6"})
    assert world.apply("create", {"nic": "02:00.0"}).said == ""
    held = model.load()["qubes"]["sys-pxe"]["pci"]
    assert [one["port"] for one in held] == [OTHER["port"]]


def test_trap_test_mode_is_not_dry_so_nothing_is_rendered(world: World) -> None:
    state(world, "qvm.vm", name="sys-net", prefs=[{"memory": 77}], test=True)
    assert model.load()["qubes"]["sys-net"]["prefs"]["memory"] == 77
    world.apply("create")
    before = world.state.read_text()
    dry = world.apply("create", {"memory": 2048}, test=True)
    assert dry.said == ""
    assert list(dry.states) == ["sys-pxe-create-test"]
    assert "memory: 2048" in dry.states["sys-pxe-create-test"]["comment"]
    assert world.state.read_text() == before


def test_trap_test_mode_fails_without_the_qube(world: World) -> None:
    broken = state(
        world, "qvm.vm", name="sys-pxe", prefs=[{"memory": 77}], test=True
    )
    assert "Virtual Machine does not exist!" in str(broken)
    before = world.state.read_text()
    for sls in ("create", "remove"):
        assert world.apply(sls, test=True).said == ""
    assert world.apply("create", test=True).changed == []
    assert set(model.load()["qubes"]) == set(model.plain()["qubes"])
    assert '"sys-pxe"' not in before


def test_trap_meminfo_writer_never_converges_so_maxmem(world: World) -> None:
    for _ in range(2):
        again = state(
            world,
            "qvm.vm",
            name="sys-net",
            service=[{"disable": ["meminfo-writer"]}],
        )
        assert "meminfo-writer" in str(again)
    assert "meminfo-writer" not in used(world)
    world.apply("create")
    assert model.load()["qubes"]["sys-pxe"]["prefs"]["maxmem"] == 0


def test_trap_no_dispvm_with_a_dash_never_converges(world: World) -> None:
    for _ in range(2):
        again = state(
            world, "qvm.vm", name="sys-net", prefs=[{"default-dispvm": ""}]
        )
        assert "default-dispvm" in str(again)
    assert "default-dispvm" not in used(world)


def test_trap_volume_refuses_shrinking(world: World) -> None:
    world.apply("create")
    machine = model.load()
    machine["qubes"]["sys-pxe"]["private"] = 64 << 30
    model.save(machine)
    again = world.apply("create")
    assert (again.said, again.changed) == ("", [])
    assert model.load()["qubes"]["sys-pxe"]["private"] == 64 << 30


def test_a_volume_too_small_for_the_next_push_grows(world: World) -> None:
    world.apply("create")
    grown = world.apply("create", {"private_size": "64GiB"})
    assert grown.changed == ["sys-pxe-create-private-volume"]
    assert model.load()["qubes"]["sys-pxe"]["private"] == 64 << 30


@pytest.mark.parametrize("attribute", ["running", "halted"])
def test_qubesd_would_assign_a_card_twice_so_we_look(
    world: World, attribute: str
) -> None:
    machine = model.load()
    machine["qubes"]["sys-net"]["running"] = attribute == "running"
    machine["qubes"]["sys-net"]["pci"] = [model.assignment(CARD)]
    machine["qubes"]["sys-pxe"] = model.qube(template="debian-13-minimal")
    machine["qubes"]["sys-pxe"]["pci"] = [model.assignment(CARD)]
    model.save(machine)
    assert "belongs to sys-net" in world.apply("create").said
