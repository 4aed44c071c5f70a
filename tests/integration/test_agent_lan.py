"""The agent's daemon on a LAN, with the real dnsmasq and nginx. Needs root."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.agent.control import STATUS, ask
from sys_pxe.lab.network import Lan, inside
from tests.agent_world import REPOSITORY, World
from tests.integration.agent_room import (
    MAC,
    STRANGER,
    Room,
    opened,
    wait_for,
)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with opened(tmp_path) as made:
        yield made


def test_a_pc_gets_loader_script_and_files(room: Room) -> None:
    firmware = room.dhcp(MAC, "0")
    assert firmware["file"] == "undionly.kpxe"
    assert firmware["server"] == "192.0.2.1"
    assert not {3, 6} & set(firmware["options"])  # type: ignore[call-overload]
    assert room.dhcp(MAC, "7")["file"] == "snponly.efi"
    assert room.dhcp(MAC, "9")["file"] == "snponly.efi"
    loader = room.probe("tftp", "192.0.2.1", "undionly.kpxe")
    content = (room.world.store.tftp / "undionly.kpxe").read_bytes()
    assert loader == {
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    ipxe = room.dhcp(MAC, "0", "ipxe")
    assert ipxe["file"] == "http://192.0.2.1/ipxe/desk-01.ipxe"
    script = room.curl(str(ipxe["file"])).decode()
    urls = [w for w in script.split() if "/chunks/" in w]
    assert len(urls) == 3
    for url in urls:
        digest = hashlib.sha256(room.curl(url)).hexdigest()
        assert url.endswith(digest)


def test_a_stranger_gets_no_answer(room: Room) -> None:
    assert room.probe("dhcp", STRANGER, "0") is None
    assert room.probe("dhcp", STRANGER, "0", "ipxe") is None
    assert room.probe("tftp", "192.0.2.1", "../key.pem") == {"error": 2}


def test_a_stranger_gets_the_profile_that_the_site_names(room: Room) -> None:
    signed = room.world.signed_site(2, unknown_clients="base")
    assert room.world.rpc("syspxe.Site", stdin=signed).status == 0
    wait_for(room.serves)
    offer = room.dhcp(STRANGER, "0", "ipxe")
    assert offer["file"] == "http://192.0.2.1/ipxe/unknown.ipxe"
    assert b"release r1 " in room.curl(str(offer["file"]))
    known = room.dhcp(MAC, "0", "ipxe")
    assert known["file"] == "http://192.0.2.1/ipxe/desk-01.ipxe"


def test_a_new_client_is_served_as_soon_as_the_site_is_there(
    room: Room,
) -> None:
    clients = {
        "desk-02": {
            "mac": STRANGER,
            "profile": "base",
            "address": "192.0.2.22",
        }
    }
    signed = room.world.signed_site(2, clients=clients)
    assert room.world.rpc("syspxe.Site", stdin=signed).status == 0
    wait_for(room.serves)
    offer = room.dhcp(STRANGER, "0", "ipxe")
    assert offer["address"] == "192.0.2.22"
    assert offer["file"] == "http://192.0.2.1/ipxe/desk-02.ipxe"
    assert room.probe("dhcp", MAC, "0") is None
    assert room.code("ipxe/desk-01.ipxe") == "404"


def test_a_site_for_an_address_that_the_card_lacks_is_told(room: Room) -> None:
    network = {
        "address": "192.0.2.9/24",
        "dhcp": {"mode": "server", "pool": "192.0.2.100-192.0.2.199"},
    }
    signed = room.world.signed_site(2, network=network)
    told = room.world.rpc("syspxe.Site", stdin=signed)
    assert told.status == 1
    said = told.stderr.decode()
    assert "does not have the site's address 192.0.2.9/24" in said
    assert "it has 192.0.2.1/24" in said
    assert "change network.address" in said


def test_beside_another_dhcp_server_it_gives_no_address(room: Room) -> None:
    network = {"address": "192.0.2.1/24", "dhcp": {"mode": "proxy"}}
    signed = room.world.signed_site(2, network=network)
    assert room.world.rpc("syspxe.Site", stdin=signed).status == 0
    wait_for(room.serves)
    for arch, loader in (
        ("0", "undionly.kpxe"), ("7", "snponly.efi"), ("9", "snponly.efi"),
    ):  # fmt: skip
        firmware = room.dhcp(MAC, arch)
        assert firmware["address"] == "0.0.0.0"
        assert (firmware["menu"] != "") == (arch == "0")
        then = room.probe("menu", MAC, arch, "192.0.2.1")
        assert then
        assert (then["file"], then["server"]) == (loader, "192.0.2.1")
    ipxe = room.dhcp(MAC, "0", "ipxe")
    assert ipxe["file"] == "http://192.0.2.1/ipxe/desk-01.ipxe"
    assert room.probe("dhcp", STRANGER, "0") is None


@pytest.mark.parametrize(
    "path",
    ["", "key.pem", "state.sqlite", "lock", "chunks/", "chunks", "run/control",
     "releases/", "releases/../key.pem", "releases/%2e%2e/key.pem",
     "ipxe/../nginx.conf", "current/nginx.conf", "pending/r1", "server",
     "chunks/.new-abc", "releases/r1/"],
)  # fmt: skip
def test_nothing_else_is_served(room: Room, path: str) -> None:
    assert room.code(path) == "404"


def test_what_is_served_are_the_signed_bytes(room: Room) -> None:
    for path in ("site", "releases/r1", "channels/stable"):
        got = room.curl(f"http://192.0.2.1/{path}")
        assert got == (room.world.root / path).read_bytes()
    assert room.code("site", "-X", "POST") == "405"
    assert room.code("site", "-X", "DELETE") == "405"
    assert room.code("site", "-I") == "200"


def test_a_download_goes_on_where_it_broke(room: Room) -> None:
    name, size = next(iter(room.world.store.chunk_sizes().items()))
    url = f"http://192.0.2.1/chunks/{name}"
    rest = room.curl("-r", f"{size // 2}-", url)
    whole = (room.world.store.chunks / name).read_bytes()
    assert rest == whole[size // 2 :]


def test_reports_arrive_and_floods_do_not(room: Room) -> None:
    body = json.dumps({"mac": MAC, "stage": "fetch", "seconds": 1.2})
    assert room.code("report", "-d", body) == "204"
    (client,) = room.status()["clients"]
    assert client["client"] == "desk-01"  # type: ignore[index]
    assert room.code("report", "-d", "junk") == "400"
    assert room.code("report", "-d", "x" * 5000) == "413"
    assert room.code("report") == "403"
    url = "http://192.0.2.1/report"
    flood = ["-o", "/dev/null", "-w", "%{http_code}\n", "-d", body]
    codes = room.curl(*flood, *[url] * 60).decode().split()
    assert "429" in "".join(codes)


@pytest.mark.parametrize("name", ["nginx", "dnsmasq"])
def test_a_program_that_is_killed_comes_back(room: Room, name: str) -> None:
    before = room.pids(name)
    answer = ask(room.world.store, STATUS)
    assert answer
    services = answer["services"]
    assert isinstance(services, dict)
    # of nginx the master alone: its workers outlive it and hold the port
    os.kill(services[name]["pid"], signal.SIGKILL)
    wait_for(lambda: room.status()["services"][name]["restarts"] >= 1)
    wait_for(room.serves)
    assert room.dhcp(MAC, "0")["file"] == "undionly.kpxe"
    assert not set(before) & set(room.pids(name))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_agent_leaves_no_program(room: Room, number: int) -> None:
    assert room.stop(number) == 0
    assert room.left() == []
    services = room.status()["services"]
    assert not any(s["running"] for s in services.values())


def test_a_killed_agent_leaves_no_program_and_starts_again(
    room: Room,
) -> None:
    room.stop(signal.SIGKILL)
    wait_for(lambda: room.left() == [])
    room.start()
    assert room.dhcp(MAC, "0")["file"] == "undionly.kpxe"


def test_a_second_agent_for_the_folder_is_refused(room: Room) -> None:
    got = run.run(room.argv(), check=False, env={"PYTHONPATH": str(REPOSITORY)})
    assert got.status == 5
    assert room.serves()


def test_a_change_that_nobody_announced_is_seen(room: Room) -> None:
    """A service that was killed after it stored a pointer told nobody."""
    release = room.world.release("r2", 2)
    room.world.push(release)
    signed = room.world.pointer(2, release)
    (room.world.store.channels / "stable").write_bytes(signed)
    url = "http://192.0.2.1/ipxe/desk-01.ipxe"
    wait_for(lambda: b"release r2 " in room.curl(url))


def test_a_damaged_store_goes_on_serving_what_was_good(room: Room) -> None:
    (room.world.store.channels / "stable").write_bytes(b"damaged")
    room.stop()
    room.child = run.spawn(room.argv(), env={"PYTHONPATH": str(REPOSITORY)})
    url = "http://192.0.2.1/ipxe/desk-01.ipxe"
    wait_for(lambda: b"release r1 " in room.curl(url))


def test_the_daemon_stays_small_with_two_hundred_clients(room: Room) -> None:
    clients = {
        f"desk-{n:03}": {"mac": f"52:54:00:00:01:{n:02x}", "profile": "base"}
        for n in range(200)
    }
    signed = room.world.signed_site(2, clients=clients)
    assert room.world.rpc("syspxe.Site", stdin=signed).status == 0
    wait_for(room.serves)
    for n in range(0, 200, 10):
        mac = f"52:54:00:00:01:{n:02x}"
        room.code("report", "-d", json.dumps({"mac": mac}))
    assert room.child
    text = Path(f"/proc/{room.child.pid}/status").read_text()
    peak = next(x for x in text.splitlines() if x.startswith("VmHWM"))
    assert int(peak.split()[1]) < 40 * 1024


def test_a_real_disk_that_fills_up_keeps_what_it_took(tmp_path: Path) -> None:
    world = World(tmp_path)
    run.run(["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs",
             str(world.store.chunks)])  # fmt: skip
    try:
        release = world.release(root=os.urandom(300_000))
        got = world.rpc("syspxe.Push", "r1", stdin=release.frames())
        # the reserve and the free space are those of the folder's own disk,
        # so this one runs full on the way
        assert got.status == 1
        assert got.stderr.startswith(b"the disk is full: release r1 still")
        taken = world.store.chunk_sizes()
        assert len(taken) > 10
        for name in taken:
            content = (world.store.chunks / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == name
        assert world.leftovers() == []
        assert world.store.release("r1") is None
        run.run(["mount", "-o", "remount,size=2m", str(world.store.chunks)])
        missing = world.push(release, release.frames(only=())).missing
        assert len(missing) == len(release.chunks) - len(taken)
        assert world.push(release, release.frames(only=missing)).complete
    finally:
        run.run(["umount", str(world.store.chunks)])


def test_a_router_advertisement_ends_ipxes_wait_and_routes_nothing(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.set_site()
    with Lan(ipv6="fd00:192:0:2::1/64") as lan:
        room = Room(lan, world)
        room.start()
        ip = ["ip", "-6"]
        prefix = b"inet6 fd00:192:0:2:"

        def advertised() -> bool:
            argv = inside(room.host, [*ip, "address"])
            return prefix in run.run(argv).stdout

        try:
            wait_for(advertised)
            routes = run.run(inside(room.host, [*ip, "route"])).stdout
            assert b"default" not in routes
        finally:
            room.stop()
