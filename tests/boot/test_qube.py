"""The sys-pxe qube, made by Salt and started by systemd, serves a PC.

The states, the units with their sandboxes, the service shims as their own user
and the firewall are the real ones; what stands in for Qubes OS is listed in
sys_pxe/lab/qube.py.
"""

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sys_pxe import files, run
from sys_pxe.lab import golden, qube
from sys_pxe.lab.machine import Machine
from sys_pxe.lab.network import Lan, inside
from tests.agent_world import REPOSITORY, Release, World

BUILD = REPOSITORY / "build"
PROBE = REPOSITORY / "tests/integration/pxe_probe.py"
BOOT_SECONDS = 400.0
SALT_SECONDS = 300.0
MAC = "52:54:00:00:00:01"
# where the test puts what a caller would send
INPUT = "root/input"
# as qrexec-agent starts a service: a login shell, in the home of its user
SHIM = (
    "runuser -u sys-pxe -- env HOME=$(getent passwd sys-pxe | cut -d: -f6) "
    "sh -lc 'cd && exec /etc/qubes-rpc/"
)


@dataclass
class Made:
    machine: Machine
    host: str
    release: Release
    # of `configure` in the running qube: state id -> result
    configured: dict[str, dict[str, object]]

    def probe(self, *words: str) -> dict[str, object] | None:
        argv = inside(self.host, [sys.executable, str(PROBE), *words])
        found = json.loads(run.run(argv).stdout)
        assert found is None or isinstance(found, dict)
        return found

    def call(self, service: str, argument: str = "", given: str = "") -> object:
        stdin = f"/{INPUT}/{given}" if given else "/dev/null"
        line = f"{SHIM}{service} {argument}' < {stdin}"
        return json.loads(self.machine.command(line, 120))


def pillar(world: World) -> dict[str, object]:
    # the package of Qubes OS is in no registry; the lab stands in for it
    packages = {
        "Debian": [
            *("python3", "python3-jinja2", "openssl", "iproute2"),
            *("nftables", "dnsmasq-base", "nginx", "ipxe"),
        ]
    }
    public = (world.root / "key.pem").read_text("ascii")
    return {"sys-pxe": {"public_key": public, "lookup": {"packages": packages}}}


def prepare(tree: Path, world: World, release: Release) -> None:
    """Install the formula where dom0 has it, and what callers will send."""
    run.run(["make", "-C", str(REPOSITORY), "install", f"DESTDIR={tree}"])
    place = files.make_folder(tree / INPUT)
    files.write(place / "push", release.frames())
    files.write(place / "site", world.signed_site(1))
    files.write(place / "pointer", world.pointer(1, release))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("qube")
    world = World(folder)
    release = world.release()
    base = qube.base_tree(BUILD / "cache", print)
    with golden.variant(base, "qube", {}) as tree:
        prepare(tree, world, release)
        qube.salt(tree, "sys-pxe.install", pillar(world))
        again = qube.salt(tree, "sys-pxe.install", pillar(world))
        assert [k for k, row in again.items() if row["changes"]] == []
        disk = qube.image(tree, folder / "disk.img")
        with Lan("192.0.2.254/24") as lan:
            host = lan.host("pc", "192.0.2.50/24")
            with qube.machine(lan, tree, disk, folder) as machine:
                machine.login(BOOT_SECONDS)
                words = qube.salt_argv("sys-pxe.configure", pillar(world))
                configured = qube.outcome(
                    machine.command(shlex.join(words), SALT_SECONDS).encode(),
                    "sys-pxe.configure",
                )
                yield Made(machine, host, release, configured)


def test_configure_gives_the_card_its_address_and_starts_the_agent(
    made: Made,
) -> None:
    changed = {
        key.split("_|-")[1]
        for key, row in made.configured.items()
        if row["changes"]
    }
    assert "sys-pxe-configure-agent-running" in changed
    shown = made.machine.command("ip -brief address show dev lan")
    assert "192.0.2.1/24" in shown
    for unit in ("sys-pxe-network", "sys-pxe-agent"):
        assert made.machine.command(f"systemctl is-active {unit}") == "active\n"


def test_the_services_work_as_their_own_user(made: Made) -> None:
    answer = made.call("syspxe.Push", "r1", "push")
    assert isinstance(answer, dict)
    assert answer["complete"] is True
    site = made.call("syspxe.Site", given="site")
    assert site == {"serial": 1, "clients": 1, "profiles": 1}
    done = made.call("syspxe.Activate", "stable", "pointer")
    assert done == {"channel": "stable", "old": None, "new": "r1"}
    status = made.call("syspxe.Status")
    assert isinstance(status, dict)
    assert all(s["running"] for s in status["services"].values())
    assert all(s["restarts"] == 0 for s in status["services"].values())


def test_a_pc_gets_loader_script_and_files(made: Made) -> None:
    offer = made.probe("dhcp", MAC, "0")
    assert offer
    assert offer["file"] == "undionly.kpxe"
    loader = made.probe("tftp", "192.0.2.1", "undionly.kpxe")
    assert loader
    assert isinstance(loader["size"], int)
    ipxe = made.probe("dhcp", MAC, "0", "ipxe")
    assert ipxe
    script = curl(made, str(ipxe["file"])).decode()
    assert "release r1 " in script
    urls = [word for word in script.split() if "/chunks/" in word]
    assert len(urls) == 3
    assert [curl(made, u) for u in urls] == [
        made.release.chunks[u.rpartition("/")[2]] for u in urls
    ]


def curl(made: Made, url: str) -> bytes:
    argv = ["curl", "-sS", "-m", "30", url]
    return run.run(inside(made.host, argv)).stdout


def test_the_firewall_lets_nothing_else_in(made: Made) -> None:
    made.machine.command("nohup python3 -m http.server 8080 >/dev/null 2>&1 &")
    made.machine.command(
        "(for n in $(seq 50); do ss -ltn | grep -q :8080 && exit; sleep 0.2; "
        "done; exit 1)"
    )
    argv = ["curl", "-sS", "-m", "3", "http://192.0.2.1:8080/"]
    assert run.run(inside(made.host, argv), check=False).status != 0
    # the firewall did that, for inside it answers
    made.machine.command("curl -sS -m 9 -o /dev/null http://127.0.0.1:8080/")


def test_restarting_the_network_unit_changes_nothing(made: Made) -> None:
    before = made.machine.command("nft list ruleset")
    made.machine.command("systemctl restart sys-pxe-network", 120)
    assert made.machine.command("nft list ruleset") == before
    wanted = "systemctl is-active sys-pxe-network sys-pxe-agent"
    assert made.machine.command(wanted).split() == ["active"] * 2


def test_the_agent_cannot_write_elsewhere_or_gain_rights(made: Made) -> None:
    shown = made.machine.command(
        "systemctl show -p MainPID --value sys-pxe-agent"
    )
    status = made.machine.command(f"cat /proc/{shown.strip()}/status")
    rows = dict(
        line.split(":\t", 1) for line in status.splitlines() if "\t" in line
    )
    assert rows["NoNewPrivs"] == "1"
    assert rows["Seccomp"] == "2"
    # CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW: capabilities(7)
    assert int(rows["CapBnd"], 16) == 1 << 10 | 1 << 12 | 1 << 13
    uids = set(rows["Uid"].split())
    assert "0" not in uids


def dnsmasq(machine: Machine, but: str) -> str:
    """Return the process id of a dnsmasq, as soon as there is one."""
    line = (
        "(for n in $(seq 240); do pgrep -x dnsmasq | grep -vx -e "
        f"'{but}' && exit; sleep 0.5; done; exit 1)"
    )
    return machine.command(line, 240).split()[0]


def test_what_the_agent_starts_comes_back_and_ends_with_it(made: Made) -> None:
    machine = made.machine
    first = dnsmasq(machine, "")
    machine.command(f"kill -9 {first}")
    assert dnsmasq(machine, first) != first
    machine.command("systemctl stop sys-pxe-agent", 60)
    left = machine.command("pgrep -x dnsmasq; pgrep -x nginx; true")
    assert left == ""


def test_after_a_restart_it_serves_what_it_had(made: Made) -> None:
    machine = made.machine
    machine.command("sync")
    machine.reset()
    machine.login(BOOT_SECONDS)
    dnsmasq(machine, "")
    kept = machine.command("findmnt -n -o TARGET,SOURCE /var/lib/sys-pxe")
    assert "/rw/bind-dirs/var/lib/sys-pxe" in kept
    assert machine.command("stat -c %U:%a /var/lib/sys-pxe").strip() == (
        "sys-pxe:750"
    )
    status = made.call("syspxe.Status")
    assert isinstance(status, dict)
    assert status["channels"]["stable"]["release"] == "r1"
    ipxe = made.probe("dhcp", MAC, "0", "ipxe")
    assert ipxe
    assert "release r1 " in curl(made, str(ipxe["file"])).decode()
