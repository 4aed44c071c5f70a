"""What each kind of firmware is given, by the real dnsmasq. Needs root.

Also beside another DHCP server, which a second dnsmasq plays.
"""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe.agent.asked import STRANGERS_MAX
from sys_pxe.agent.control import STATUS, ask
from tests import other_dhcp
from tests.integration.agent_room import MAC, STRANGER, Room, opened, wait_for

PROXY = {"address": "192.0.2.1/24", "dhcp": {"mode": "proxy"}}
STICK = "52:54:00:00:00:67"
FULL = {"bios": "ipxe", "uefi": "ipxe"}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with opened(tmp_path) as made:
        yield made


def replace_site(room: Room, serial: int, **changes: object) -> None:
    signed = room.world.signed_site(serial, **changes)
    got = room.world.rpc("syspxe.Site", stdin=signed)
    assert got.status == 0, got.stderr
    wait_for(room.serves)


def clients(loader: object) -> dict[str, object]:
    return {"desk-01": {"mac": MAC, "profile": "base", "loader": loader}}


def test_uefi_http_boot_gets_a_url_and_its_own_class(room: Room) -> None:
    offer = room.dhcp(MAC, "16", "http")
    assert offer["vendor"] == "HTTPClient"
    url = "http://192.0.2.1/boot/snponly.efi"
    assert offer["file"] == url
    content = room.curl(url)
    there = (room.world.store.tftp / "snponly.efi").read_bytes()
    assert hashlib.sha256(content).digest() == hashlib.sha256(there).digest()
    form = "%{http_code} %{content_type} %{size_download} %{num_redirects}"
    told = room.curl("-o", "/dev/null", "-w", form, url).decode()
    assert told == f"200 application/efi {len(there)} 0"
    # the length is what the firmware asks for before it fetches
    head = room.curl("-I", url).decode().lower()
    assert f"content-length: {len(there)}\r\n" in head


@pytest.mark.parametrize(
    "path",
    ["boot/", "boot", "boot//snponly.efi", "boot/SNPONLY.EFI", "boot/.",
     "boot/undionly.kpxe", "boot/snponly.efi/", "boot/autoexec.ipxe",
     "boot/..%2fkey.pem", "boot/snponly.efi%00", "tftp/snponly.efi"],
)  # fmt: skip
def test_no_other_name_is_a_loaders_and_none_is_redirected(
    room: Room, path: str
) -> None:
    # nginx takes // for /, and serves the file: no firmware sees a redirect
    wanted = "200" if path == "boot//snponly.efi" else "40"
    assert room.code(path).startswith(wanted)


def test_who_asks_by_pxe_is_not_told_a_url(room: Room) -> None:
    for words in (["7"], ["9"], ["0"]):
        offer = room.dhcp(MAC, *words)
        assert (offer["vendor"], "//" in str(offer["file"])) == ("", False)
    # a class and a number that do not belong together
    assert room.dhcp(MAC, "16")["file"] == ""
    assert room.dhcp(MAC, "7", "http")["file"] == ""
    assert room.dhcp(MAC, "7", "http")["vendor"] == ""


def test_ipxe_gets_its_script_however_it_was_loaded(room: Room) -> None:
    for words in (["0"], ["7"], ["16", "http"]):
        offer = room.dhcp(MAC, *words, "ipxe")
        assert offer["file"] == "http://192.0.2.1/ipxe/desk-01.ipxe"


@pytest.mark.parametrize("number", ["1", "6", "11", "15", "19", "65535"])
def test_a_number_that_nobody_knows_gets_no_boot_file(
    room: Room, number: str
) -> None:
    for words in ([], ["http"]):
        offer = room.dhcp(MAC, number, *words)
        assert (offer["file"], offer["vendor"]) == ("", "")
    assert room.dhcp(MAC, "0")["file"] == "undionly.kpxe"


def test_the_other_loader_is_given_without_a_restart(room: Room) -> None:
    before = room.pids("dnsmasq")
    replace_site(room, 2, clients=clients(FULL))

    def switched() -> bool:
        return room.dhcp(MAC, "0")["file"] == "ipxe.pxe"

    wait_for(switched)
    assert room.dhcp(MAC, "7")["file"] == "ipxe.efi"
    assert room.dhcp(MAC, "9")["file"] == "ipxe.efi"
    url = "http://192.0.2.1/boot/ipxe.efi"
    assert room.dhcp(MAC, "16", "http")["file"] == url
    assert room.pids("dnsmasq") == before
    for name in ("ipxe.pxe", "ipxe.efi"):
        loader = room.probe("tftp", "192.0.2.1", name)
        content = (room.world.store.tftp / name).read_bytes()
        assert loader is not None
        assert loader["sha256"] == hashlib.sha256(content).hexdigest()


def test_strangers_get_the_loader_of_their_profile(room: Room) -> None:
    base = {"channel": "stable", "loader": FULL}
    replace_site(room, 2, profiles={"base": base}, unknown_clients="base",
                 clients=clients({"bios": "undionly"}))  # fmt: skip
    assert room.dhcp(STRANGER, "0")["file"] == "ipxe.pxe"
    assert room.dhcp(STRANGER, "7")["file"] == "ipxe.efi"
    assert room.dhcp(MAC, "0")["file"] == "undionly.kpxe"


def test_the_loaders_that_are_served_are_told(room: Room) -> None:
    answer: dict[str, list[dict[str, str]]] = json.loads(
        room.world.rpc("syspxe.Status").stdout
    )
    rows = answer["loaders"]
    assert [row["file"] for row in rows] == [
        "undionly.kpxe", "ipxe.pxe", "snponly.efi", "ipxe.efi",
    ]  # fmt: skip
    for row in rows:
        assert row["path"] and row["version"], row


# who asked


def asked(room: Room) -> dict[str, tuple[object, object]]:
    rows = json.loads(room.world.rpc("syspxe.Status").stdout)["asked"]
    return {row["mac"]: (row["client"], row["firmware"]) for row in rows}


def test_who_asked_is_told_whether_answered_or_not(room: Room) -> None:
    assert asked(room) == {}
    room.probe("dhcp", STRANGER, "0")
    room.dhcp(MAC, "16", "http")
    found = {STRANGER: (None, "bios"), MAC: ("desk-01", "uefi-http")}
    wait_for(lambda: asked(room) == found)
    # the client program on a boot stick, in the first question of its PC
    room.probe("raw", STICK, "3c07" + b"sys-pxe".hex())
    found[STICK] = (None, "stick")
    wait_for(lambda: asked(room) == found)
    # a question without a firmware's class is no PC's that boots
    room.probe("raw", "52:54:00:00:00:66", "3c03" + b"abc".hex())
    # another dnsmasq, as a proxy: its log comes the same way
    replace_site(room, 2, network=PROXY)
    room.probe("dhcp", "52:54:00:00:00:78", "7")
    room.probe("dhcp", STRANGER, "16", "http")
    found = {MAC: ("desk-01", "uefi-http"), STRANGER: (None, "uefi-http"),
             "52:54:00:00:00:78": (None, "uefi"),
             STICK: (None, "stick")}  # fmt: skip
    wait_for(lambda: asked(room) == found)
    # and again after the program was killed
    answer = ask(room.world.store, STATUS)
    assert answer
    services = answer["services"]
    assert isinstance(services, dict)
    os.kill(services["dnsmasq"]["pid"], signal.SIGKILL)
    wait_for(lambda: room.status()["services"]["dnsmasq"]["restarts"] == 1)
    wait_for(room.serves)
    room.probe("dhcp", "52:54:00:00:00:79", "0")
    wait_for(lambda: "52:54:00:00:00:79" in asked(room))
    # what the site names from now on is no stranger
    clients = {"new": {"mac": STRANGER, "profile": "base"}}
    replace_site(room, 3, network=PROXY, clients=clients)
    assert asked(room)[STRANGER] == ("new", "uefi-http")
    assert asked(room)[MAC] == (None, "uefi-http")


def test_a_flood_of_strangers_is_bounded_and_pcs_still_boot(
    room: Room,
) -> None:
    got = room.probe("strangers", "192.0.2.1", "2000")
    assert got == {"sent": 2000}
    assert room.dhcp(MAC, "0")["file"] == "undionly.kpxe"
    wait_for(lambda: MAC in asked(room))
    assert len(asked(room)) <= STRANGERS_MAX + 1
    restarts = [s["restarts"] for s in room.status()["services"].values()]
    assert restarts == [0, 0]


# beside another DHCP server


@pytest.fixture
def beside(room: Room, tmp_path: Path) -> Iterator[Room]:
    """Yield the room with the LAN's own DHCP server, and us as its proxy."""
    replace_site(room, 2, network=PROXY)
    with other_dhcp.serving(room.lan, tmp_path / "leases"):
        wait_for(lambda: room.probe("offers", STRANGER, "0"))
        yield room


def both(
    room: Room, *words: str
) -> tuple[dict[str, object], dict[str, object]]:
    found = room.probe("offers", *words)
    assert found
    assert set(found) == {"192.0.2.254", "192.0.2.1"}
    theirs, ours = found["192.0.2.254"], found["192.0.2.1"]
    assert isinstance(theirs, dict)
    assert isinstance(ours, dict)
    return theirs, ours


@pytest.mark.parametrize("loader", [{}, FULL], ids=["default", "other"])
def test_the_address_is_theirs_and_the_loader_ours(
    beside: Room, loader: dict[str, str]
) -> None:
    replace_site(beside, 3, network=PROXY, clients=clients(loader))
    other = bool(loader)
    # BIOS: a menu of one item, and a question to port 4011
    theirs, bios = both(beside, MAC, "0")
    assert str(theirs["address"]).startswith("192.0.2.2")
    assert (theirs["file"], bios["address"]) == ("", "0.0.0.0")
    assert bios["vendor"] == "PXEClient"
    items = bytes.fromhex(str(bios["menu"]))
    place = items.index(b"\x08\x07")  # boot servers of one type, PXE 2.1 2.2
    number = items[place + 2 : place + 4].hex()
    then = beside.probe("menu", MAC, "0", "192.0.2.1", number)
    assert then
    assert then["file"] == ("ipxe.pxe" if other else "undionly.kpxe")
    # UEFI: no menu, the same question
    for arch in ("7", "9"):
        _, uefi = both(beside, MAC, arch)
        assert (uefi["vendor"], uefi["menu"]) == ("PXEClient", "")
        assert (uefi["address"], uefi["server"]) == ("0.0.0.0", "192.0.2.1")
        then = beside.probe("menu", MAC, arch, "192.0.2.1")
        assert then
        assert then["file"] == ("ipxe.efi" if other else "snponly.efi")
    # UEFI HTTP: all is in the offer
    _, http = both(beside, MAC, "16", "http")
    assert (http["vendor"], http["address"]) == ("HTTPClient", "0.0.0.0")
    name = "ipxe" if other else "snponly"
    assert http["file"] == f"http://192.0.2.1/boot/{name}.efi"
    _, ipxe = both(beside, MAC, "7", "ipxe")
    assert ipxe["file"] == "http://192.0.2.1/ipxe/desk-01.ipxe"


def test_beside_another_server_strangers_are_left_to_it(beside: Room) -> None:
    for words in (["0"], ["7"], ["16", "http"]):
        found = beside.probe("offers", STRANGER, *words)
        assert found
        assert set(found) == {"192.0.2.254"}
    for number in ("15", "999"):
        _, ours = both(beside, MAC, number, "http")
        assert ours["file"] == ""
