"""The files that the formula copies agree with map.jinja and the README."""

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.salt.world import REPOSITORY

FORMULA = REPOSITORY / "salt/sys-pxe"
FILES = FORMULA / "files"
UNITS = ("sys-pxe-network.service", "sys-pxe-agent.service")
# what systemd.exec(5) offers against a program that was taken over
SANDBOX = {
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "NoNewPrivileges": "yes",
    "ProtectKernelModules": "yes",
    "ProtectControlGroups": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
}


def names() -> dict[str, Any]:
    """Return map.jinja's names."""
    text = (FORMULA / "map.jinja").read_text()
    _, _, rest = text.partition("{%- load_yaml as names %}")
    return dict(yaml.safe_load(rest.partition("{%- endload %}")[0]))


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """Return section -> key -> values of a unit file."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
            found[section] = {}
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[section].setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", UNITS)
def test_units_run_in_a_sandbox(name: str) -> None:
    service = unit(FILES / name)["Service"]
    assert {k: service.get(k, [""])[0] for k in SANDBOX} == SANDBOX
    (families,) = service["RestrictAddressFamilies"]
    assert set(families.split()) == {
        "AF_UNIX",
        "AF_INET",
        "AF_INET6",
        "AF_NETLINK",
    }


@pytest.mark.parametrize("name", UNITS)
def test_units_start_only_where_the_qube_has_the_service(name: str) -> None:
    conditions = unit(FILES / name)["Unit"]["ConditionPathExists"]
    assert f"/var/run/qubes-service/{names()['service']}" in conditions


def test_the_agent_has_no_more_capabilities_than_it_needs() -> None:
    service = unit(FILES / UNITS[1])["Service"]
    assert service["User"] == [names()["user"]]
    assert service["Group"] == [names()["group"]]
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"]
    assert set(service["CapabilityBoundingSet"][0].split()) == {
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_NET_ADMIN",
    }
    assert service["ReadWritePaths"] == [names()["data"]]


def test_files_and_map_name_the_same_things() -> None:
    known = names()
    network, agent = (unit(FILES / name) for name in UNITS)
    assert network["Service"]["EnvironmentFile"] == [known["config"]]
    assert network["Service"]["ExecStart"] == [known["network_script"]]
    assert known["config"] in network["Unit"]["ConditionPathExists"]
    (start,) = agent["Service"]["ExecStart"]
    assert f"--root {known['data']} " in start
    assert start.endswith(f"--interface {known['interface']}")
    (environment,) = agent["Service"]["Environment"]
    assert f"PYTHONPATH={Path(known['agent']).parent} " in environment
    link = configparser.ConfigParser()
    link.read(FILES / "10-sys-pxe.link")
    assert link["Link"]["Name"] == known["interface"]
    binds = (FILES / "50-sys-pxe.conf").read_text()
    assert f"binds+=( '{known['data']}' )" in binds
    # the template has no such card, and must not wait for one
    text = (FILES / UNITS[0]).read_text()
    assert ".device" not in text


def test_nothing_that_the_agent_can_write_runs_outside_of_its_sandbox() -> None:
    """Not its home's profile (qrexec's login shell), not its site-packages."""
    known = names()
    assert Path(known["home"]) == Path(known["agent"]).parent
    assert not known["home"].startswith(known["data"])
    for path in (
        *(REPOSITORY / "qubes-rpc").glob("syspxe.*"),
        FILES / UNITS[1],
    ):
        assert "/usr/bin/python3 -P -s -m " in path.read_text(), path


def test_the_rpc_shims_use_the_agent_where_it_is_installed() -> None:
    known = names()
    for path in (REPOSITORY / "qubes-rpc").glob("syspxe.*"):
        text = path.read_text()
        assert f"PYTHONPATH={Path(known['agent']).parent} " in text
        assert f"--root {known['data']} " in text


def test_the_ports_are_those_that_the_agent_listens_on() -> None:
    known = names()
    # 67 DHCP, 69 TFTP, 4011 PXE (proxy DHCP)
    assert known["udp_ports"].split(",") == ["67", "69", "4011"]
    assert known["tcp_ports"] == "80"


def test_the_readme_documents_each_setting_and_step() -> None:
    readme = (FORMULA / "README.md").read_text()
    pillar = yaml.safe_load(
        (REPOSITORY / "salt/pillar/sys-pxe/init.sls").read_text()
    )
    for key in (*pillar["sys-pxe"], "nic"):
        assert f"`{key}`" in readme
    for path in FORMULA.glob("*.sls"):
        assert f"sys-pxe.{path.stem}" in readme
    for section in (
        "Installation",
        "Access control",
        "Settings",
        "Uninstallation",
    ):
        assert f"\n## {section}\n" in readme
