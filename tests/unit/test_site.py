"""The site: what is accepted, and the exact words for what is not."""

import copy
import json
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sys_pxe import site
from sys_pxe.errors import InvalidInput
from tests import documents
from tests.agent_world import site_data
from tests.documents import CREATED

MAC = "52:54:00:00:00:01"


def changed(path: str, value: object) -> dict[str, object]:
    """Return the sample data with one value set (None takes it away)."""
    data: dict[str, object] = copy.deepcopy(site_data())
    *above, last = path.split("/")
    place = data
    for key in above:
        below = place.setdefault(key, {})
        assert isinstance(below, dict)
        place = below
    if value is None:
        del place[last]
    else:
        place[last] = value
    return data


def test_the_sample_is_read_as_written() -> None:
    found = site.parse(site_data())
    assert str(found.network.address) == "192.0.2.1/24"
    assert found.channels == ("testing", "stable")
    assert found.unknown_clients is None
    client = found.by_mac(MAC)
    assert client is not None and client.name == "desk-01"
    assert found.by_mac("52:54:00:00:00:02") is None


@given(st.integers(1, 2**31 - 1), st.integers(0, 4_000_000_000))
def test_the_signed_document_round_trips(serial: int, created: int) -> None:
    found = site.decode(site.encode(site_data(), serial, created))
    assert found == site.SignedSite(serial, created, site.parse(site_data()))


client_names = st.lists(documents.name, unique=True, max_size=6)
ram_sizes = st.sampled_from(["1GiB", "768MiB", "4GiB"])


@settings(max_examples=50)
@given(client_names, st.lists(ram_sizes, min_size=1, max_size=4))
def test_sites_of_any_names_round_trip(
    clients: list[str], ram: list[str]
) -> None:
    profiles: dict[str, object] = {
        f"p{i}": {"channel": "stable", "ram": {"dom0": size}}
        for i, size in enumerate(ram)
    }
    data = site_data(
        profiles=profiles,
        clients={
            name: {"mac": f"52:54:00:00:00:{i:02x}", "profile": "p0"}
            for i, name in enumerate(clients)
        },
    )
    assert site.decode(site.encode(data, 1, CREATED)).site == site.parse(data)


def test_inheritance_is_listed_nearest_first() -> None:
    data = changed("profiles/office", {"inherits": "base"})
    found = site.parse(data).ancestry("office")
    assert [p.name for p in found] == ["office", "base"]


def test_a_proxy_has_no_pool() -> None:
    data = changed("network/dhcp", {"mode": "proxy"})
    assert site.parse(data).network.pool is None


def test_a_pinned_address_may_lie_outside_the_pool() -> None:
    data = changed("clients/desk-01/address", "192.0.2.20")
    found = site.parse(data).clients["desk-01"].address
    assert found == IPv4Address("192.0.2.20")


BAD = [
    ("network", [], "network: expected a table of keys and values"),
    ("network/address", None, "network.address: missing"),
    ("network/address", 5, "network.address: not a text"),
    (
        "network/address",
        "192.0.2.1",
        "network.address: '192.0.2.1' is not an address with a prefix length "
        "of 8 to 30",
    ),
    (
        "network/address",
        "192.0.2.999/24",
        "network.address: '192.0.2.999' is not an IPv4 address",
    ),
    (
        "network/address",
        "192.0.2.0/24",
        "network.address: 192.0.2.0/24 is not the address of a host",
    ),
    (
        "network/dhcp/mode",
        "off",
        "network.dhcp.mode: 'off' is not a DHCP mode",
    ),
    ("network/dhcp/pool", None, "network.dhcp.pool: missing"),
    (
        "network/dhcp/pool",
        "192.0.2.9",
        "network.dhcp.pool: expected FIRST-LAST",
    ),
    (
        "network/dhcp/pool",
        "192.0.2.9-192.0.2.8",
        "network.dhcp.pool: 192.0.2.9 lies after 192.0.2.8",
    ),
    (
        "network/dhcp/pool",
        "192.0.2.9-192.0.3.8",
        "network.dhcp.pool: 192.0.3.8 cannot be given to a client of "
        "192.0.2.1/24",
    ),
    ("network/gateway", "x", "network.gateway: unknown key"),
    ("channels", [], "channels: expected at least one, each once"),
    ("channels", ["stable"] * 2, "channels: expected at least one, each once"),
    ("channels", "stable", "channels: not a list of texts"),
    (
        "channels",
        ["Stable"],
        "channels: 'Stable' is not a name (expected lower-case letters, "
        "digits, single dots and dashes)",
    ),
    ("floors", {"beta": 1}, "floors.beta: 'beta' is not a channel"),
    ("floors", {"stable": 0}, "floors.stable: not in 1 to 2147483647"),
    ("floors", {"stable": True}, "floors.stable: not a whole number"),
    (
        "profiles/base/channel",
        "beta",
        "profiles.base.channel: 'beta' is not a channel",
    ),
    ("profiles/base/channel", None, "profiles.base.channel: missing"),
    (
        "profiles/base/inherits",
        "none",
        "profiles.base.inherits: 'none' is not a profile",
    ),
    (
        "profiles/base/inherits",
        "base",
        "profiles.base.inherits: a loop: base -> base",
    ),
    (
        "profiles/base/ram/dom0",
        "2GB",
        "profiles.base.ram.dom0: '2GB' is not a size of RAM (expected a "
        "number and MiB or GiB)",
    ),
    ("profiles/base/ram/dom1", "2GiB", "profiles.base.ram.dom1: unknown key"),
    (
        "profiles/base/storage",
        "on",
        "profiles.base.storage: 'on' is not a setting",
    ),
    (
        "profiles/base/options/kernel",
        ["a b"],
        "profiles.base.options.kernel: 'a b' is not one boot option",
    ),
    (
        "profiles/base/options/xen",
        ["${net0}"],
        "profiles.base.options.xen: '${net0}' is not one boot option",
    ),
    ("profiles/base/qubes", "work", "profiles.base.qubes: not a list of texts"),
    (
        "profiles/base/qubes",
        ["work", "-x"],
        "profiles.base.qubes: '-x' is not the name of a qube (expected a "
        "letter, then at most 30 letters, digits and _.-)",
    ),
    (
        "profiles/base/ram/pool",
        "127MiB",
        "profiles.base.ram.pool: 127 MiB is less than 128 MiB",
    ),
    (
        "clients/desk-01/mac",
        "52:54:0",
        "clients.desk-01.mac: '52:54:0' is not a MAC address (expected six "
        "hex pairs)",
    ),
    ("clients/desk-01/mac", 525400, "clients.desk-01.mac: not a text"),
    (
        "clients/desk-01/profile",
        "office",
        "clients.desk-01.profile: 'office' is not a profile",
    ),
    (
        "clients/desk-02",
        {"mac": MAC, "profile": "base"},
        f"clients.desk-02.mac: {MAC} is already the mac of desk-01",
    ),
    (
        "clients/desk-01/address",
        "192.0.2.1",
        "clients.desk-01.address: 192.0.2.1 cannot be given to a client of "
        "192.0.2.1/24",
    ),
    ("clients/desk-01/overlay", "x", "clients.desk-01.overlay: unknown key"),
    ("unknown_clients", None, "unknown_clients: missing"),
    (
        "unknown_clients",
        "allow",
        "unknown_clients: 'allow' is not a profile",
    ),
    ("extra", 1, "extra: unknown key"),
]


@pytest.mark.parametrize(
    ("path", "value", "message"), BAD, ids=[f"{p}={v}" for p, v, _ in BAD]
)
def test_what_is_wrong_is_said_with_its_place(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        site.parse(changed(path, value))
    assert caught.value.message == f"site.yaml: {message}"


@pytest.mark.parametrize(
    ("path", "value", "hint"),
    [
        ("clents", {}, "did you mean 'clients'?"),
        ("network/adress", "x", "did you mean 'address'?"),
        ("network/address", "192.0.2.1", "write it as 192.0.2.1/24"),
        ("clients/desk-01/profile", "office", "one of: base"),
        ("clients/desk-01/mac", "x", "write it as on the label of the PC"),
    ],
)
def test_the_hint_helps(path: str, value: object, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        site.parse(changed(path, value))
    assert caught.value.hint.startswith(hint)


def test_two_clients_cannot_have_one_address() -> None:
    pinned = {"profile": "base", "address": "192.0.2.20"}
    clients = {
        "desk-01": {"mac": MAC, **pinned},
        "desk-02": {"mac": "52:54:00:00:00:02", **pinned},
    }
    with pytest.raises(InvalidInput, match="already the address of desk-01"):
        site.parse(site_data(clients=clients))


def test_an_address_needs_the_server_mode() -> None:
    data = changed("clients/desk-01/address", "192.0.2.20")
    network = {"address": "192.0.2.1/24", "dhcp": {"mode": "proxy"}}
    with pytest.raises(InvalidInput, match=r"only with network\.dhcp\.mode"):
        site.parse({**data, "network": network})


def test_too_many_clients_are_refused() -> None:
    clients = {
        f"c{i}": {"mac": f"52:54:00:00:{i >> 8:02x}:{i & 255:02x}", **BASE}
        for i in range(site.CLIENTS_MAX + 1)
    }
    with pytest.raises(InvalidInput, match="clients: more than 2000"):
        site.parse(site_data(clients=clients))


BASE = {"profile": "base"}
SIGNED = site.encode(site_data(), 3, CREATED)


def test_each_truncation_of_the_document_is_refused() -> None:
    # the last byte is the newline, which JSON does not need
    for end in range(len(SIGNED) - 1):
        with pytest.raises(InvalidInput):
            site.decode(SIGNED[:end])


@pytest.mark.parametrize(
    ("untrusted", "message"),
    [
        (b"", "site: not valid JSON"),
        (b"\xff", "site: not valid JSON"),
        (b"[" * 100_000, "site: not valid JSON"),
        (b"[]", "site: expected a table"),
        (b'{"a": 1, "a": 1}', "site: a key stands twice in one table"),
        (b" " * (1 << 20) + b" ", "site: larger than 1048576 bytes"),
        (SIGNED.replace(b"site 1", b"site 2"), "site: type: expected"),
        (
            SIGNED.replace(b'"serial": 3', b'"serial": 0'),
            "site: serial: not in",
        ),
        (
            SIGNED.replace(b'"serial": 3', b'"serial": 1e9'),
            "not a whole number",
        ),
        (
            SIGNED.replace(b'"serial": 3', b'"serial": "3"'),
            "not a whole number",
        ),
        (SIGNED.replace(b'"serial"', b'"sreial"'), "site: serial: not a whole"),
        (SIGNED + b"{}", "site: not valid JSON"),
    ],
    ids=range(12),
)
def test_a_bad_document_is_named(untrusted: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        site.decode(untrusted)
    assert message in caught.value.message


def test_an_extra_key_of_the_document_is_refused() -> None:
    data = json.loads(SIGNED)
    with pytest.raises(InvalidInput, match="site: more: unknown key"):
        site.decode(json.dumps({**data, "more": 1}).encode())


def test_bad_data_is_never_encoded() -> None:
    with pytest.raises(InvalidInput):
        site.encode(changed("clients/desk-01/mac", "x"), 1, CREATED)


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.sampled_from([p for p, _, _ in BAD]), nested)
def test_any_value_anywhere_is_accepted_or_refused(
    path: str, value: object
) -> None:
    try:
        site.parse(changed(path, value if value is not None else 0))
    except InvalidInput as error:
        assert error.message.startswith("site.yaml: ")
        assert error.message.isprintable()
