"""Hostile input from the LAN, for the real dnsmasq and nginx. Needs root."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.lab.network import BRIDGE, inside
from sys_pxe.render.nginx import CONNECTIONS_OF_ONE
from tests.integration.agent_room import MAC, PROBE, Room, opened, wait_for

FILE = "undionly.kpxe"
# message type is added by the probe
ARCH = "5d020000"
VENDOR = "3c09" + b"PXEClient".hex()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with opened(tmp_path) as made:
        yield made


def serves_as_before(room: Room) -> bool:
    """Whether a PC still boots, from programs that never ended."""
    restarts = [s["restarts"] for s in room.status()["services"].values()]
    offer = room.dhcp(MAC, "0")
    return restarts == [0, 0] and offer["file"] == FILE


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "../key.pem", "..\\key.pem", "",
     "./../site", "undionly.kpxe/../../key.pem", "%2e%2e/key.pem", ".",
     "a" * 10_000],
    ids=lambda name: name[:30] or "empty",
)  # fmt: skip
def test_tftp_gives_nothing_but_the_loaders(room: Room, name: str) -> None:
    argv = [str(PROBE), "tftp", "192.0.2.1", name]
    done = run.run(inside(room.host, ["python3", *argv]), check=False)
    if done.status == 0:
        # file not found, access violation, or not defined
        assert json.loads(done.stdout) in ({"error": n} for n in (0, 1, 2, 4))
    else:
        # a request that dnsmasq cannot hold is dropped
        assert b"TimeoutError" in done.stderr
    loader = room.probe("tftp", "192.0.2.1", FILE)
    assert loader is not None
    content = (room.world.store.tftp / FILE).read_bytes()
    assert loader["sha256"] == hashlib.sha256(content).hexdigest()
    assert serves_as_before(room)


def test_five_hundred_fetch_a_loader_at_once(room: Room) -> None:
    size = (room.world.store.tftp / FILE).stat().st_size
    # far more at once than dnsmasq allows if it is not told
    got = room.probe("flood", "192.0.2.1", FILE, "500", "200")
    assert got is not None
    assert (got["done"], got["sizes"]) == (500, [size])
    assert isinstance(got["open"], int)
    assert got["open"] >= 200
    assert serves_as_before(room)


@pytest.mark.parametrize(
    "options",
    [
        # 93: none, one byte, three, ten kinds of PC, longer than the packet
        VENDOR + "5d00",
        VENDOR + "5d0107",
        VENDOR + "5d03000700",
        VENDOR + "5d14" + "0063" * 9 + "0000",
        VENDOR + ARCH + "5dff00",
        # 60, 77, 97, 55, 50, 43, 82, 12: empty, or of the wrong length
        ARCH + "3c00",
        VENDOR + ARCH + "4d00",
        VENDOR + ARCH + "4dff" + "69" * 255,
        VENDOR + ARCH + "6101ff",
        VENDOR + ARCH + "3700",
        VENDOR + ARCH + "3201c0",
        VENDOR + ARCH + "2b0347ffff",
        VENDOR + ARCH + "5202ff01",
        VENDOR + ARCH + "0c00",
        # iPXE's own, empty; then a length that runs over the end
        VENDOR + ARCH + "af00",
        VENDOR + ARCH + "afff01",
        # the same option twice, and one that is cut off
        VENDOR + ARCH + ARCH + VENDOR,
        "3c",
        "",
    ],
)
def test_options_of_a_wrong_length_break_nothing(
    room: Room, options: str
) -> None:
    room.probe("raw", MAC, options)
    assert serves_as_before(room)


def test_the_usual_options_get_an_answer_from_the_raw_probe(
    room: Room,
) -> None:
    """Else the test above would send what nobody reads."""
    got = room.probe("raw", MAC, VENDOR + ARCH)
    assert got is not None
    assert got["file"] == FILE


def test_two_pcs_with_one_mac_are_one_client_and_others_boot(
    room: Room,
) -> None:
    """Both get the client's address and script: the site names the MAC."""
    # a client identifier and a UUID of its own, as a second PC has
    ids = [
        VENDOR + ARCH + "6111" + "00" + digit * 32 + "3d07" + "01" + digit * 12
        for digit in "12"
    ]
    for options in ids:
        got = room.probe("raw", MAC, options)
        assert got is not None
        assert got["file"] == FILE
    assert room.dhcp(MAC, "7")["file"] == "snponly.efi"
    assert serves_as_before(room)


@pytest.mark.parametrize("digit", ["0", "f"])
def test_a_uuid_that_says_nothing_is_no_uuid(room: Room, digit: str) -> None:
    uuid = "6111" + "00" + digit * 32
    got = room.probe("raw", MAC, VENDOR + ARCH + uuid)
    assert got is not None
    assert got["file"] == FILE
    # another MAC with the same UUID is still a stranger
    assert room.probe("raw", "52:54:00:00:00:66", VENDOR + ARCH + uuid) is None


@pytest.mark.parametrize(
    ("span", "code"),
    [
        ("99999999-", "416"),
        ("0-99999999", "206"),
        ("9" * 30 + "-", "416"),
        ("5-2", "416"),
        ("-0", "416"),
        ("abc", "416"),
        (",".join(["0-"] * 500), "200"),
    ],
    ids=lambda text: text[:12],
)
def test_a_range_beyond_the_file_is_no_more_than_the_file(
    room: Room, span: str, code: str
) -> None:
    name, size = next(iter(room.world.store.chunk_sizes().items()))
    form = "%{http_code} %{size_download}"
    url = f"http://192.0.2.1/chunks/{name}"
    said = room.curl("-H", f"Range: bytes={span}", "-o", "/dev/null",
                     "-w", form, url).decode()  # fmt: skip
    found, nbytes = said.split()
    assert found == code
    assert int(nbytes) <= size + 1000
    whole = hashlib.sha256(room.curl(url)).hexdigest()
    assert whole == name


# slow readers


@pytest.fixture
def large(room: Room) -> str:
    """Put a file of 16 MiB where a chunk lies, and return its path."""
    content = bytes(16 << 20)
    name = hashlib.sha256(content).hexdigest()
    (room.world.store.chunks / name).write_bytes(content)
    return f"chunks/{name}"


def whole_files(room: Room, path: str) -> None:
    """Fetch a large file and the script, from an address of its own."""
    told = room.curl("--interface", "192.0.2.50", "-o", "/dev/null", "-w",
                     "%{http_code} %{size_download}",
                     f"http://192.0.2.1/{path}").decode()  # fmt: skip
    assert told == f"200 {16 << 20}"
    assert room.code("ipxe/desk-01.ipxe", "--interface", "192.0.2.50") == "200"


@pytest.mark.parametrize("count", [1, 50], ids=["one", "fifty"])
def test_a_thousand_slow_readers_leave_room_for_another(
    room: Room, large: str, count: int
) -> None:
    ours = [f"192.0.2.{60 + n}" for n in range(count)]
    for address in ours:
        argv = ["ip", "address", "add", f"{address}/24", "dev", "eth0"]
        run.run(inside(room.host, argv))
    argv = ["python3", str(PROBE), "slow", "192.0.2.1", large, "1000", *ours]
    child = run.spawn(inside(room.host, argv), stdin=run.PIPE, stdout=run.PIPE)
    try:
        assert child.stdout is not None
        codes = json.loads(child.stdout.readline())
        if count == 1:
            # of one address only so many; the others are told to come again
            assert codes["200"] <= CONNECTIONS_OF_ONE
            assert codes["200"] + codes["503"] == 1000
        else:
            assert codes == {"200": 1000}
        whole_files(room, large)
        assert child.poll() is None
    finally:
        run.stop(child)
    assert serves_as_before(room)


# nobody is answered on another network


@contextmanager
def second_network(room: Room) -> Iterator[str]:
    """Yield the namespace of a host on another network of the server's, with
    a route to the server's address on the LAN: Linux takes packets for any of
    its addresses on any card."""
    namespace = room.lan.namespace
    other = f"{namespace}-other"
    run.run(["ip", "netns", "add", other])
    try:
        for where, words in (
            (namespace, "link add second type veth peer name eth0 netns"),
            (namespace, "address add 198.51.100.1/24 dev second"),
            (namespace, "link set second up"),
            (other, "address add 198.51.100.2/24 dev eth0"),
            (other, "link set eth0 up"),
            (other, "route add 192.0.2.1 via 198.51.100.1"),
        ):
            more = [other] if words.endswith("netns") else []
            run.run(["ip", "-n", where, *words.split(), *more])
        # where nobody listens the kernel says so: the route is right
        code = "import socket; socket.create_connection(('192.0.2.1', 9), 5)"
        argv = ["python3", "-c", code]
        said = run.run(inside(other, argv), check=False).stderr
        assert b"ConnectionRefusedError" in said, said
        yield other
    finally:
        run.run(["ip", "netns", "delete", other])


@pytest.mark.parametrize("mode", ["server", "proxy"])
def test_no_program_answers_on_another_card(room: Room, mode: str) -> None:
    """A second network of the server, where a PC asks the same."""
    if mode == "proxy":
        become_proxy(room)
    with second_network(room) as other:

        def ask(*words: str) -> run.Result:
            argv = ["python3", str(PROBE), *words]
            return run.run(inside(other, argv), check=False)

        for words in (["0"], ["7"], ["16", "http"], ["0", "ipxe"]):
            assert json.loads(ask("dhcp", MAC, *words).stdout) is None
        for address in ("198.51.100.1", "192.0.2.1"):
            # no socket there: refused, or nothing
            fetched = ask("tftp", address, FILE)
            assert fetched.status != 0, fetched.stdout
            told = ask("menu", MAC, "7", address)
            assert told.status != 0, told.stdout
            argv = ["curl", "-si", "-m", "5", f"http://{address}/site"]
            assert run.run(inside(other, argv), check=False).stdout == b""
    proxies = {(f"0.0.0.0%{BRIDGE}", "4011")} if mode == "proxy" else set()
    # DHCP is by broadcast: bound to the card, not to an address
    by_card = {(f"0.0.0.0%{BRIDGE}", "67"), *proxies}
    found = listening(room)
    assert by_card <= found
    for address, port in found - by_card:
        assert address in ("192.0.2.1", f"192.0.2.1%{BRIDGE}"), port
    if mode == "server":
        assert serves_as_before(room)


def become_proxy(room: Room) -> None:
    network = {"address": "192.0.2.1/24", "dhcp": {"mode": "proxy"}}
    signed = room.world.signed_site(2, network=network)
    got = room.world.rpc("syspxe.Site", stdin=signed)
    assert got.status == 0, got.stderr
    wait_for(lambda: "4011" in {port for _, port in listening(room)})
    # on the LAN it answers: UEFI asks there after the offer of a proxy
    told = room.probe("menu", MAC, "7", "192.0.2.1")
    assert told
    assert told["file"] == "snponly.efi"


def listening(room: Room) -> set[tuple[str, str]]:
    """Return the server's sockets that take packets: address and port."""
    argv = room.lan.exec_argv(["ss", "-Hlntu"])
    lines = run.run(argv).stdout.decode().splitlines()
    names = [line.split()[4] for line in lines]
    return {(a, port) for a, _, port in (n.rpartition(":") for n in names)}
