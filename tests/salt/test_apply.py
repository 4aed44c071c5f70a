"""The formula applied to a double of Qubes OS: once, twice, and back."""

import stat
import sys

import pytest

from sys_pxe import run
from tests.salt.double import model
from tests.salt.world import KEY, World

CARD = model.card("00_1f.6")


def test_create_makes_what_the_design_says(world: World) -> None:
    assert world.apply("create").said == ""
    qube = model.load()["qubes"]["sys-pxe"]
    assert qube["template"] == "tpl-sys-pxe"
    assert qube["prefs"] == {
        "virt-mode": "hvm",
        "netvm": None,
        "default-dispvm": None,
        "memory": 1024,
        "maxmem": 0,
        "autostart": True,
        "include-in-backups": False,
    }
    assert qube["features"]["service.sys-pxe"] == "1"
    assert qube["features"]["servicevm"] == "1"
    assert qube["private"] == 20 << 30
    (held,) = qube["pci"]
    assert (held["port"], held["identity"], held["mode"]) == (
        CARD["port"],
        CARD["identity"],
        "required",
    )


def test_a_second_create_changes_nothing(world: World) -> None:
    world.apply("create")
    before = world.state.read_text()
    again = world.apply("create")
    assert (again.said, again.changed) == ("", [])
    after = model.load()
    after["ran"] = []
    assert [r for r in model.load()["ran"] if "resize" in r] == [
        f"qvm-volume resize sys-pxe:private {20 << 30}"
    ]
    model.save(after)
    assert '"sys-pxe"' in before


def test_create_completes_what_is_half_there(world: World) -> None:
    machine = model.load()
    machine["qubes"]["tpl-sys-pxe"] = model.qube("TemplateVM")
    machine["qubes"]["sys-pxe"] = model.qube(
        template="tpl-sys-pxe", prefs={"memory": 4000}, running=True
    )
    model.save(machine)
    done = world.apply("create")
    assert done.said == ""
    assert "sys-pxe-create-template" not in done.changed
    qube = model.load()["qubes"]["sys-pxe"]
    assert qube["prefs"]["memory"] == 1024
    assert [held["port"] for held in qube["pci"]] == ["00_1f.6"]
    assert world.apply("create").changed == []


def test_a_qube_of_another_template_gets_ours(world: World) -> None:
    machine = model.load()
    machine["qubes"]["sys-pxe"] = model.qube(template="debian-13-minimal")
    model.save(machine)
    assert world.apply("create").said == ""
    assert model.load()["qubes"]["sys-pxe"]["template"] == "tpl-sys-pxe"


def test_a_running_qube_of_another_template_is_an_error(world: World) -> None:
    machine = model.load()
    machine["qubes"]["sys-pxe"] = model.qube(
        template="debian-13-minimal", running=True
    )
    model.save(machine)
    assert "sys-pxe-create-qube" in world.apply("create").said


def test_remove_takes_both_qubes_and_nothing_else(world: World) -> None:
    before = set(model.load()["qubes"])
    world.apply("create")
    assert world.apply("remove").said == ""
    assert set(model.load()["qubes"]) == before
    again = world.apply("remove")
    assert (again.said, again.changed) == ("", [])


def test_create_works_again_after_remove(world: World) -> None:
    world.apply("create")
    world.apply("remove")
    assert world.apply("create").said == ""
    assert model.load()["qubes"]["sys-pxe"]["pci"]


def test_remove_stops_while_a_client_boots(world: World) -> None:
    world.apply("create")
    machine = model.load()
    machine["qubes"]["sys-pxe"]["running"] = True
    machine["booting"] = ["desk-01 (fetch)"]
    model.save(machine)
    stopped = world.apply("remove")
    assert "desk-01 (fetch)" in stopped.said
    assert "sys-pxe:force" in stopped.said
    assert stopped.changed == ["sys-pxe-remove-idle"]
    assert "sys-pxe" in model.load()["qubes"]
    assert world.apply("remove", {"force": True}).said == ""
    assert "sys-pxe" not in model.load()["qubes"]


def test_remove_does_not_start_a_qube_to_ask_it(world: World) -> None:
    world.apply("create")
    machine = model.load()
    machine["booting"] = ["desk-01 (fetch)"]
    model.save(machine)
    assert world.apply("remove").said == ""
    assert not [r for r in model.load()["ran"] if r.startswith("sys-pxe")]


def test_remove_leaves_a_template_that_another_qube_uses(world: World) -> None:
    world.apply("create")
    machine = model.load()
    machine["qubes"]["mine"] = model.qube(template="tpl-sys-pxe")
    model.save(machine)
    assert "in use" in world.apply("remove").said
    assert {"tpl-sys-pxe", "mine"} <= set(model.load()["qubes"])


def test_install_and_configure_twice(world: World) -> None:
    for sls in ("install", "configure"):
        first, second = world.apply(sls), world.apply(sls)
        assert (first.said, second.said) == ("", "")
        assert len(first.changed) > 1
        assert second.changed == []


def test_install_admin_brings_a_command_that_starts(world: World) -> None:
    first, second = world.apply("install-admin"), world.apply("install-admin")
    assert (first.said, second.said, second.changed) == ("", "", [])
    library = world.root / "usr/lib/sys-pxe"
    assert not (library / "sys_pxe/agent").exists()
    shim = world.root / "usr/bin/sys-pxe"
    assert stat.S_IMODE(shim.stat().st_mode) == 0o755
    # as the shim does, from where it was installed
    assert "exec /usr/bin/python3 -P -s -m sys_pxe.dom0" in shim.read_text()
    argv = [sys.executable, "-P", "-s", "-m", "sys_pxe.dom0", "status"]
    told = run.run(argv, env={"PYTHONPATH": str(library)}, check=False)
    assert told.status == 2
    assert b"no transport to the sys-pxe qube is set" in told.stderr


def test_install_gives_files_their_modes(world: World) -> None:
    world.apply("install")
    modes = {
        "usr/lib/sys-pxe/network": 0o755,
        "usr/lib/sys-pxe/sys_pxe/agent/rpc.py": 0o644,
        "etc/qubes-rpc/syspxe.Push": 0o755,
        "etc/qubes/rpc-config/syspxe.Push": 0o644,
        "etc/systemd/system/sys-pxe-agent.service": 0o644,
        "etc/systemd/network/10-sys-pxe.link": 0o644,
        "usr/lib/qubes-bind-dirs.d/50-sys-pxe.conf": 0o644,
        "var/lib/sys-pxe": 0o750,
    }
    found = {
        name: stat.S_IMODE((world.root / name).stat().st_mode) for name in modes
    }
    assert found == modes


def test_install_copies_the_agent_and_no_dom0_code(world: World) -> None:
    world.apply("install")
    library = world.root / "usr/lib/sys-pxe/sys_pxe"
    assert (library / "render/templates/nginx.conf.j2").is_file()
    assert {p.name for p in library.iterdir() if p.is_dir()} == {
        "agent",
        "render",
    }
    assert not (world.root / "etc/qubes-rpc/config").exists()


def test_install_drops_what_an_older_agent_had(world: World) -> None:
    world.apply("install")
    old = world.root / "usr/lib/sys-pxe/sys_pxe/agent/old.py"
    old.write_text("")
    assert world.apply("install").changed == ["sys-pxe-install-agent"]
    assert not old.exists()


def test_install_keeps_debian_from_starting_servers(world: World) -> None:
    done = world.apply("install")
    order = list(done.states)
    for name in ("nginx", "dnsmasq"):
        masked = world.root / f"etc/systemd/system/{name}.service"
        assert str(masked.readlink()) == "/dev/null"
        assert order.index(f"sys-pxe-install-no-{name}") < order.index(
            "sys-pxe-install-packages"
        )


def test_install_adds_the_packages_of_the_pillar(world: World) -> None:
    world.apply("install", {"packages": ["firmware-realtek"]})
    assert {"firmware-realtek", "nginx"} <= set(model.load()["packages"])


def test_configure_writes_address_and_key(world: World) -> None:
    world.apply("install")
    world.apply("configure", {"address": "192.0.2.9/25"})
    text = (world.root / "rw/config/sys-pxe.conf").read_text()
    assert "ADDRESS=192.0.2.9/25\n" in text
    assert (world.root / "var/lib/sys-pxe/key.pem").read_text() == KEY


def test_another_address_restarts_the_network(world: World) -> None:
    world.apply("install")
    world.apply("configure")
    moved = world.apply("configure", {"address": "192.0.2.9/25"})
    assert moved.changed == [
        "sys-pxe-configure-network",
        "sys-pxe-configure-network-running",
    ]
    assert model.load()["services"] == {
        "sys-pxe-network": 2,
        "sys-pxe-agent": 1,
    }


@pytest.mark.parametrize("sls", ["create", "configure"])
def test_no_key_says_how_to_make_one_and_stops(world: World, sls: str) -> None:
    if sls == "configure":
        world.apply("install")
    before = set(model.load()["qubes"])
    stopped = world.apply(sls, key=None)
    assert "sys-pxe key create" in stopped.said
    assert stopped.changed == []
    assert set(model.load()["qubes"]) == before
    assert not (world.root / "rw/config/sys-pxe.conf").exists()


def test_configure_before_install_says_what_is_missing(world: World) -> None:
    early = world.apply("configure")
    assert "usr/lib/sys-pxe/network does not exist" in early.said
    assert early.changed == []


def test_a_template_that_is_missing_is_installed(world: World) -> None:
    done = world.apply("create", {"base_template": "fedora-43-minimal"})
    assert done.said == ""
    assert "fedora-43-minimal" in model.load()["qubes"]


def test_a_template_that_cannot_be_had_is_named(world: World) -> None:
    stopped = world.apply("create", {"base_template": "debian-99-minimal"})
    assert "Failed to install template debian-99-minimal" in stopped.said
    assert "sys-pxe" not in model.load()["qubes"]


def test_no_card_stops_before_anything_is_made(world: World) -> None:
    world.reset(model.card("00_14.3", interface="p028000"))
    stopped = world.apply("create")
    assert "no wired network card" in stopped.said
    assert stopped.changed == ["sys-pxe-create-nic-found"]
    assert "tpl-sys-pxe" not in model.load()["qubes"]


def test_two_cards_are_listed(world: World) -> None:
    world.reset(model.card("00_1f.6"), model.card("00_1c.0-00_00.0", "02:00.0"))
    stopped = world.apply("create")
    assert "00_1f.6  Ethernet controller: Intel I219-6" in stopped.said
    assert "00_1c.0-00_00.0  Ethernet controller" in stopped.said
    assert "tpl-sys-pxe" not in model.load()["qubes"]


@pytest.mark.parametrize("mode", ["required", "auto-attach", "ask-to-attach"])
@pytest.mark.parametrize("nic", ["", "00:1f.6"])
def test_a_card_of_another_qube_is_never_taken(
    world: World, mode: str, nic: str
) -> None:
    machine = model.load()
    machine["qubes"]["sys-net"]["pci"] = [model.assignment(CARD, mode)]
    model.save(machine)
    stopped = world.apply("create", {"nic": nic})
    assert "sys-net" in stopped.said
    qubes = model.load()["qubes"]
    assert "sys-pxe" not in qubes
    assert qubes["sys-net"]["pci"] == [model.assignment(CARD, mode)]


@pytest.mark.parametrize("nic", ["02:00.0", "0000:02:00.0", "00_1c.0-00_00.0"])
def test_a_card_behind_a_bridge_by_each_spelling(
    world: World, nic: str
) -> None:
    world.reset(CARD, model.card("00_1c.0-00_00.0", "02:00.0"))
    assert world.apply("create", {"nic": nic}).said == ""
    (held,) = model.load()["qubes"]["sys-pxe"]["pci"]
    assert held["port"] == "00_1c.0-00_00.0"
    assert world.apply("create", {"nic": nic}).changed == []
