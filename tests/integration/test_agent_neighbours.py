"""Other DHCP servers on the LAN: real ones are found and named. Needs root."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.agent.neighbours import PATIENCE, PAUSE
from sys_pxe.client import report
from sys_pxe.dom0 import cli
from sys_pxe.dom0.findings import PROBLEM
from sys_pxe.lab.network import inside
from sys_pxe.manifest import Role
from tests.integration.agent_room import MAC, STRANGER, Room, opened, wait_for
from tests.integration.test_agent_firmware import PROXY, replace_site

ADDRESSES = ("--dhcp-range=192.0.2.150,192.0.2.199,1h",)
# a proxy that knows UEFI alone
UEFI_PROXY = (
    "--dhcp-range=192.0.2.0,proxy,255.255.255.0",
    "--pxe-service=x86-64_EFI,other,other.efi",
)
BIOS_PROXY = (
    "--dhcp-range=192.0.2.0,proxy,255.255.255.0",
    "--pxe-service=x86PC,other,other",
)
# one that knows UEFI HTTP boot alone; without a service dnsmasq is no proxy
HTTP_PROXY = (
    "--dhcp-range=192.0.2.0,proxy,255.255.255.0",
    "--pxe-service=x86PC,other,other",
    "--dhcp-pxe-vendor=HTTPClient",
    "--dhcp-boot=http://192.0.2.251/other.efi",
)
DHCP, PROXIES = False, True


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with opened(tmp_path) as made:
        yield made


@contextmanager
def other(room: Room, name: str, number: int, *words: str) -> Iterator[None]:
    """Let another dnsmasq serve the LAN from 192.0.2.NUMBER."""
    host = room.lan.host(name, f"192.0.2.{number}/24")
    leases = room.world.root.parent / f"leases-{name}"
    argv = [
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"),
        *("--port=0", "--interface=eth0", "--bind-interfaces", "--no-ping"),
        *("--user=root", "--group=root", "--pid-file="),
        *(f"--dhcp-leasefile={leases}", *words),
    ]
    child = run.spawn(inside(host, argv))
    try:
        wait_for(lambda: room.probe("offers", STRANGER, "7") or
                 room.probe("offers", STRANGER, "0") or
                 room.probe("offers", STRANGER, "16", "http"))  # fmt: skip
        yield
    finally:
        run.stop(child)


def looked(room: Room) -> dict[str, object]:
    got = room.world.rpc("syspxe.Status")
    assert got.status == 0, got.stderr
    found: dict[str, object] = json.loads(got.stdout)["dhcp"]
    return found


def others(room: Room) -> set[tuple[str, bool]]:
    """Return who answers a question that begins from now on."""
    begun = time.monotonic()

    def asked() -> bool:
        age = looked(room)["age"]
        waited = time.monotonic() - begun
        return isinstance(age, int) and age + PATIENCE + 1 < waited

    wait_for(asked, 2 * PAUSE + 10)
    found = looked(room)
    assert found["error"] is None
    rows = found["others"]
    assert isinstance(rows, list)
    return {(row["address"], row["proxy"]) for row in rows}


def test_alone_on_the_lan_nobody_is_named(room: Room) -> None:
    assert looked(room)["mode"] == "server"
    assert others(room) == set()
    # our own question is no PC's
    answer = json.loads(room.world.rpc("syspxe.Status").stdout)
    assert answer["asked"] == []
    assert answer["mtu"] == 1500
    assert answer["trouble"] is None
    ports = {(row["protocol"], row["port"]): row["open"]
             for row in answer["ports"]}  # fmt: skip
    assert ports == {("udp", 67): True, ("udp", 69): True, ("tcp", 80): True}
    assert {row["state"] for row in answer["boot_files"]} == {"good"}
    assert abs(answer["time"] - time.time()) < 60
    # and a PC is served all the while
    assert room.dhcp(MAC, "0")["file"] == "undionly.kpxe"


def test_a_second_server_and_a_proxy_are_found_and_named(room: Room) -> None:
    with (
        other(room, "router", 254, *ADDRESSES),
        other(room, "uefi", 253, *UEFI_PROXY),
        other(room, "bios", 252, *BIOS_PROXY),
    ):
        assert others(room) == {
            ("192.0.2.254", DHCP),
            ("192.0.2.253", PROXIES),
            ("192.0.2.252", PROXIES),
        }
    # and no longer, once they are gone
    assert others(room) == set()


def test_beside_another_server_it_alone_is_named(room: Room) -> None:
    replace_site(room, 2, network=PROXY)
    assert others(room) == set()
    with other(room, "router", 254, *ADDRESSES):
        assert others(room) == {("192.0.2.254", DHCP)}
    found = looked(room)
    assert found["mode"] == "proxy"


def test_a_proxy_of_http_boot_alone_is_found_and_ours_is_not(
    room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # our own proxy answers everybody here, the question of its agent too
    replace_site(room, 2, network=PROXY, unknown_clients="base")
    offers = room.probe("offers", STRANGER, "16", "http")
    assert offers
    assert set(offers) == {"192.0.2.1"}
    assert others(room) == set()
    with other(room, "http", 251, *HTTP_PROXY):
        # it is silent to all but HTTP boot
        bios = room.probe("offers", STRANGER, "0")
        uefi = room.probe("offers", STRANGER, "7")
        assert set(bios or ()) == set(uefi or ()) == {"192.0.2.1"}
        assert others(room) == {("192.0.2.251", PROXIES)}
        code, found = doctor(room, tmp_path, capsys)
    assert code == 1
    assert "192.0.2.251 is another boot server" in found["dhcp"]
    assert "192.0.2.1 " not in found["dhcp"]


def test_who_lies_about_itself_is_named_by_where_it_is(room: Room) -> None:
    """A server that calls itself by our address is still another one."""
    own = "--dhcp-option-force=54,192.0.2.1"
    with other(room, "router", 254, *ADDRESSES, own):
        assert others(room) == {("192.0.2.254", DHCP)}


def doctor(
    room: Room, folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, str]]:
    """Return the exit code of the command, and check -> what was said."""
    capsys.readouterr()
    code = cli.main(
        [
            *("--state", str(folder / "dom0"), "--quiet"),
            *("--site", str(folder / "no-site.yaml")),
            *("--transport", f"local:{room.world.root}", "doctor", "--json"),
        ]
    )
    rows = json.loads(capsys.readouterr().out)
    found: dict[str, str] = {}
    for row in rows:
        if row["severity"] == PROBLEM:
            before = found.get(row["check"], "")
            found[row["check"]] = f"{before}\n{row['what']}"
    return code, found


def test_the_doctor_names_a_client_that_reports_another_mtu(
    room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reports(mtu: int) -> None:
        body = report.body({"mac": MAC, "mtu": mtu, "stage": "handover"})
        code = room.code("report", "-d", body.decode("ascii"))
        assert code == "204"

    reports(1500)
    assert "mtu" not in doctor(room, tmp_path, capsys)[1]
    reports(9000)
    code, found = doctor(room, tmp_path, capsys)
    assert code == 1
    assert "client desk-01 takes packets of up to 9000" in found["mtu"]
    assert "the server 1500" in found["mtu"]


def test_the_doctor_names_each_fault_of_a_real_server(
    room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # the release of these tests lives for days only
    code, found = doctor(room, tmp_path, capsys)
    assert (code, set(found)) == (1, {"expiry"})
    release = room.world.store.release("r1")
    assert release is not None
    kernel = room.world.store.chunks / release.find(Role.KERNEL).digests[0]
    kernel.write_bytes(kernel.read_bytes()[::-1] + b"x")
    rules = (
        b"table inet test { chain input { type filter hook input priority 0;"
        b" udp dport 69 drop; }; }\n"
    )
    nft = room.lan.exec_argv(["nft", "--file", "-"])
    run.run(nft, stdin=rules)
    with other(room, "router", 254, *ADDRESSES):
        # a question of a moment ago is not asked again
        time.sleep(PAUSE)
        code, found = doctor(room, tmp_path, capsys)
    assert code == 1
    assert set(found) == {"expiry", "dhcp", "boot-files", "firewall"}
    assert "192.0.2.254 is a second DHCP server" in found["dhcp"]
    assert "boot file kernel of release r1 is damaged" in found["boot-files"]
    assert "blocks udp port 69" in found["firewall"]
