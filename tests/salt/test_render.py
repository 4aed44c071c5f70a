"""Every .sls and .top, rendered as dom0, the template and the qube do."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.salt.double import model
from tests.salt.world import (
    ADMIN_TEMPLATE,
    DOM0,
    KEY,
    MINION_OF,
    MINIONS,
    QUBE,
    World,
)

VARIANTS: dict[str, dict[str, object]] = {
    "defaults": {},
    "nic": {"nic": "00:1f.6"},
    "nic-as-listed": {"nic": "dom0:00_1f.6"},
    "nic-path": {"nic": "00_1c.0-00_00.0"},
    "address": {"address": "10.9.8.7/16"},
    "fedora": {"base_template": "fedora-43-minimal"},
    "sizes": {"private_size": "512GiB", "memory": 4096},
    "packages": {"packages": ["firmware-realtek", "firmware-bnx2"]},
    "force": {"force": True},
}
# key, value; an id without quotes is a number of YAML 1.1, 60.0
BAD: tuple[tuple[str, object], ...] = (
    ("nics", "00:1f.6"),
    ("public-key", "x"),
    ("nic", "00:1f.6; touch /tmp/x"),
    ("nic", yaml.safe_load("01:00.0")),
    ("address", "192.0.2.1"),
    ("address", "192.0.2.256/24"),
    ("address", "192.0.2.1/31"),
    ("base_template", "debian 13"),
    ("private_size", "20 GB"),
    ("memory", "lots"),
)
GUARDS = {"unless", "onlyif", "creates"}


def functions(states: Any) -> Iterator[tuple[str, str, str, set[str]]]:
    """Yield id, module, function and the names of its arguments."""
    for name, state in states.items():
        for module, body in state.items():
            if module.startswith("__"):
                continue
            (function,) = (one for one in body if isinstance(one, str))
            keys = {k for one in body if isinstance(one, dict) for k in one}
            yield name, module, function, keys


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_of_the_pillar_renders(world: World, variant: str) -> None:
    for sls in MINION_OF:
        for family in ("Debian", "RedHat"):
            states = world.show(sls, VARIANTS[variant], family)
            assert isinstance(states, dict), (sls, states)
            assert states


@pytest.mark.parametrize(("key", "value"), BAD)
@pytest.mark.parametrize("sls", ["create", "configure"])
def test_a_bad_pillar_is_refused_by_name(
    world: World, sls: str, key: str, value: object
) -> None:
    (fault,) = world.show(sls, {key: value})
    assert f"pillar sys-pxe:{key}" in fault


@pytest.mark.parametrize("key", ["nic", "address", "private_size"])
def test_a_line_break_is_no_part_of_a_value(world: World, key: str) -> None:
    good = {"nic": "00:1f.6", "address": "192.0.2.1/24", "private_size": "9GiB"}
    assert isinstance(world.show("create", {key: good[key]}), dict)
    (fault,) = world.show("create", {key: good[key] + "\n"})
    assert f"pillar sys-pxe:{key}" in fault


def test_ids_are_unique_and_say_where_they_are_from(world: World) -> None:
    seen: set[str] = set()
    for sls in MINION_OF:
        names = set(world.show(sls))
        assert not names & seen
        assert all(name.startswith(f"sys-pxe-{sls}-") for name in names)
        seen |= names


def test_every_command_is_guarded(world: World) -> None:
    commands = [
        (name, keys)
        for sls in MINION_OF
        for name, module, _, keys in functions(world.show(sls))
        if module == "cmd"
    ]
    assert len(commands) == 4
    for name, keys in commands:
        assert keys & GUARDS, name


def test_commands_run_in_dom0_alone(world: World) -> None:
    for sls, minion in MINION_OF.items():
        for name, module, _, _ in functions(world.show(sls)):
            assert module not in ("cmd", "qvm") or minion == DOM0, name


def test_rendering_starts_nothing(world: World) -> None:
    for sls in MINION_OF:
        world.show(sls)
    assert model.load()["ran"] == []


def test_nothing_is_written_below_srv(world: World) -> None:
    for sls in MINION_OF:
        for state in world.show(sls).values():
            for one in state.get("file", ()):
                if isinstance(one, dict):
                    assert not str(one.get("name", "")).startswith("/srv")


def test_what_is_installed_below_srv_is_small(world: World) -> None:
    # all of /srv is copied to a management qube for each target
    sizes = {p: p.stat().st_size for p in world.srv.rglob("*") if p.is_file()}
    assert len(sizes) > 20
    assert sum(sizes.values()) < 1 << 20
    assert max(sizes.values()) < 64 << 10


def test_each_step_has_a_top_of_its_own_minion(world: World) -> None:
    folder = world.srv / "salt/sys-pxe"
    assert {p.stem for p in folder.glob("*.sls")} == set(MINION_OF)
    for sls, minion in MINION_OF.items():
        if minion == ADMIN_TEMPLATE:
            assert not (folder / f"{sls}.top").exists()
            continue
        top = yaml.safe_load((folder / f"{sls}.top").read_text())
        (targets,) = top.values()
        assert list(top) == ["base"]
        assert list(targets) == [minion]
        assert targets[minion][-1] == f"sys-pxe.{sls}"


def test_init_top_gives_each_minion_its_state(world: World) -> None:
    world.give()
    top = world.srv / "salt/top.sls"
    top.symlink_to("sys-pxe/init.top")
    try:
        # a minion each, made here: in one process, Salt matches a top against
        # the minion that was made last; as text, for it changes what it returns
        shown = {
            m: json.dumps(world.call(m, "state.show_top", family="any"))
            for m in MINIONS
        }
    finally:
        top.unlink()
    assert shown == {
        "dom0": '{"base": ["sys-pxe.create"]}',
        "tpl-sys-pxe": '{"base": ["sys-pxe.install"]}',
        "sys-pxe": '{"base": ["sys-pxe.configure"]}',
    }


@pytest.fixture
def packaged_pillar(world: World) -> Iterator[World]:
    """The installed pillar in place of the tests' own, and a key in dom0."""
    key_file = world.folder / "public.pem"
    key_file.write_text(KEY)
    folder = world.srv / "pillar/sys-pxe"
    own = world.pillar_root / "sys-pxe"
    own.mkdir(exist_ok=True)
    for path in folder.glob("*.sls"):
        text = path.read_text()
        text = text.replace("/var/lib/sys-pxe/key/public.pem", str(key_file))
        (own / path.name).write_text(text)
    top = world.pillar_root / "top.sls"
    before = top.read_text()
    top.write_text((folder / "init.top").read_text())
    yield world
    top.write_text(before)
    key_file.unlink(missing_ok=True)


def test_the_packaged_pillar_has_the_defaults_and_the_key(
    packaged_pillar: World,
) -> None:
    world = packaged_pillar
    found = world.call(QUBE, "pillar.items")["sys-pxe"]
    assert found.pop("public_key") == KEY
    assert found == settings(world)
    states = world.call(QUBE, "state.show_sls", "sys-pxe.configure")
    assert "sys-pxe-configure-key" in states


def test_the_packaged_pillar_works_before_there_is_a_key(
    packaged_pillar: World,
) -> None:
    world = packaged_pillar
    (world.folder / "public.pem").unlink()
    states = world.call(DOM0, "state.show_sls", "sys-pxe.create")
    assert "sys-pxe key create" in str(states["sys-pxe-create-key"])


def test_the_template_does_not_get_the_key(packaged_pillar: World) -> None:
    found = packaged_pillar.call("tpl-sys-pxe", "pillar.items")
    assert "public_key" not in found["sys-pxe"]


def settings(world: World) -> dict[str, object]:
    """Return map.jinja's defaults but those that are best left out."""
    text = (world.srv / "salt/sys-pxe/map.jinja").read_text()
    _, _, rest = text.partition("{%- load_yaml as defaults %}")
    found = yaml.safe_load(rest.partition("{%- endload %}")[0])
    assert found.pop("nic") == ""
    return dict(found)
