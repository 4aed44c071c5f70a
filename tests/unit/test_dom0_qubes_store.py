"""The golden PC's qubes.xml: what is read, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe.dom0 import qubes_store, qubes_write
from sys_pxe.dom0.qubes_store import Store, StoredVolume
from sys_pxe.errors import InvalidInput
from tests import qubes_drawn

# written by qubesd's own code, core-admin 4.3.50
REAL = (Path(__file__).parent / "fixtures/qubes/4.3.xml").read_bytes()


def read(untrusted: bytes) -> Store:
    return qubes_store.read(untrusted, "qubes.xml")


def refused(untrusted: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        read(untrusted)
    assert caught.value.message.startswith("qubes.xml: ")
    return caught.value


def test_a_file_of_qubesd_is_read() -> None:
    found = read(REAL)
    assert list(found.domains)[:2] == ["dom0", "debian-13"]
    assert found.pools["vm-pool"].driver == "lvm_thin"
    assert found.pools["vm-pool"].options["volume_group"] == "qubes_dom0"
    assert found.settings["default_netvm"] == "sys-firewall"
    work = found.domains["work"]
    assert (work.id, work.klass) == ("domain-8", "AppVM")
    assert work.properties["template"] == "debian-13"
    assert "created-by-dom0" in work.tags
    assert work.volumes["root"] == StoredVolume(
        name="root",
        pool="vm-pool",
        vid="qubes_dom0/vm-work-root",
        size=20 << 30,
        rw=True,
        save_on_stop=False,
        snap_on_start=True,
        source="qubes_dom0/vm-debian-13-root",
    )
    card = found.domains["sys-net"].devices[0]
    assert (card.klass, card.backend) == ("pci", "dom0")
    assert card.attributes["id"] == "00_1f.6"
    assert card.options == {"no-strict-reset": "True"}
    assert found.domains["sys-net"].properties["netvm"] == ""
    assert found.domains["sys-net"].is_set("autostart")
    assert not found.domains["work"].is_set("autostart")


def test_what_qubesd_wrote_is_written_again() -> None:
    found = read(REAL)
    assert read(qubes_write.write(found)) == found


@given(qubes_drawn.stores())
def test_each_store_is_read_as_it_was_written(store: Store) -> None:
    assert read(qubes_write.write(store)) == store


@given(st.integers(0, len(REAL) - 1), st.binary(max_size=3), st.integers(0, 9))
def test_a_damaged_file_is_read_or_refused(
    at: int, new: bytes, gone: int
) -> None:
    try:
        read(REAL[:at] + new + REAL[at + gone :])
    except InvalidInput as error:
        assert error.message.isprintable()


@pytest.mark.parametrize(
    "doctype",
    [
        b"<!DOCTYPE qubes>",
        b'<!DOCTYPE qubes [<!ENTITY a "b">]>',
        b'<!DOCTYPE qubes [<!ENTITY a SYSTEM "file:///etc/shadow">]>',
        b'<!DOCTYPE qubes SYSTEM "http://example.org/x.dtd">',
    ],
)
def test_a_document_type_is_refused(doctype: bytes) -> None:
    error = refused(doctype + b"<qubes/>")
    assert error.message == "qubes.xml: has a document type (expected none)"


def test_entities_are_not_expanded() -> None:
    levels = b"".join(
        b'<!ENTITY e%d "%s">' % (i, b"&e%d;" % (i - 1) * 99)
        for i in range(1, 9)
    )
    text = b'<!DOCTYPE q [<!ENTITY e0 "x">%s]><qubes>&e8;</qubes>' % levels
    assert "document type" in refused(text).message


def test_an_undefined_entity_is_refused() -> None:
    assert "not well-formed" in refused(b"<qubes>&x;</qubes>").message


def test_a_file_without_an_end_is_refused() -> None:
    assert "bytes" in refused(b" " * ((16 << 20) + 1)).message


def test_a_nest_without_an_end_is_refused() -> None:
    assert "elements deep" in refused(b"<qubes>" * 100_000).message


@pytest.mark.parametrize(
    ("untrusted", "said"),
    [
        (b"", "not well-formed"),
        (b"\0", "not well-formed"),
        (REAL[:-9], "not well-formed"),
        (b'<?xml version="1.0" encoding="nothing"?><qubes/>', "well-formed"),
        (b"<domains/>", "not a qubes.xml"),
        (b"<qubes/>", "domains: no dom0"),
    ],
)
def test_what_is_no_store_is_refused(untrusted: bytes, said: str) -> None:
    assert said in refused(untrusted).message


def swap(old: str, new: str) -> Callable[[bytes], bytes]:
    def swapped(text: bytes) -> bytes:
        assert old.encode() in text
        return text.replace(old.encode(), new.encode(), 1)

    return swapped


UUID = "00000000-0000-0000-0000-00000000000"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (swap('name="name">work<', 'name="name">vault<'), "name 'vault' is"),
        (swap('name="name">work<', 'name="name"><'), "domain-8: no name"),
        (swap('name="name">work<', 'name="label2">work<'), "8: no name"),
        (swap('name="name">work<', 'name="name">../x<'), "not the name of"),
        (swap('name="name">work<', f'name="name">{"a" * 32}<'), "the name of"),
        (swap('name="name">work<', 'name="name">dom0<'), "'dom0' is not"),
        (swap('name="name">work<', 'name="name">none<'), "'none' is not"),
        (swap('id="domain-8"', 'id="domain-9"'), "id 'domain-9' is there"),
        (swap('id="domain-8"', ""), "domains: no id"),
        (swap('"domain-8" class="AppVM"', '"domain-8"'), "8: no class"),
        (swap('"qid">8<', '"qid">9<'), "qid '9' is there twice"),
        (swap('"qid">8<', '"qid">0<'), "0 is not in 1 to 10000"),
        (swap('"qid">8<', '"qid">x<'), "not a decimal number"),
        (swap(f"{UUID}8<", f"{UUID}9<"), "is there twice"),
        (swap(f"{UUID}8<", "8<"), "'8' is not a uuid"),
        (swap(f'"uuid">{UUID}8<', '"uuid"><'), "domain-8: no uuid"),
        (swap('"qid">8<', '"label">8<'), "property 'label' is there twice"),
        (swap('class="AdminVM"', 'class="AppVM"'), "domain-0: no name"),
        (swap('"label">black<', '"name">dom0<'), "dom0 has a name"),
        (swap('<pool name="big"', '<pool name="vm-pool"'), "'vm-pool' is"),
        (swap('<pool name="big"', "<pool"), "pools: no name"),
        (swap('driver="file"', ""), "pools: big: no driver"),
        (swap('"default_kernel"', '"default_netvm"'), "is there twice"),
        (swap("vm-work-private", "vm-work-root"), "vm-work-root' is there"),
        (swap('vid="qubes_dom0/vm-work-private"', ""), "private: no vid"),
        (swap('size="21474836480"', 'size="-1"'), "not a decimal number"),
        (swap('rw="True"', 'rw="yes"'), "rw is yes"),
        (swap('save_on_stop="True"', ""), "save_on_stop is None"),
        (swap('snap_on_start="False"', 'snap_on_start=""'), "snap_on_start"),
        (swap('revisions_to_keep="1" rw', 'revisions_to_keep="x" rw'), "'x'"),
        (swap('volume name="root"', 'volume name="../x"'), "name of a volume"),
        (swap('volume name="root"', 'volume name="private"'), "volume 'pr"),
        (
            swap('volume name="root" pool="vm-pool"', 'volume name="root"'),
            "pool",
        ),
        (swap('tag name="mine"', 'tag name="created-by-dom0"'), "tag 'created"),
        (swap('<devices class="pci">', "<devices>"), "devices: no class"),
        (swap('feature name="os"', 'feature name="&#10;"'), "not printable"),
    ],
)
def test_each_fault_is_told_with_its_place(
    damage: Callable[[bytes], bytes], said: str
) -> None:
    error = refused(damage(REAL))
    assert said in error.message
    assert error.message.isprintable()


def test_faults_of_the_file_say_what_to_do() -> None:
    error = refused(REAL.replace(b'"domain-8"', b'"domain-9"'))
    assert error.message == ("qubes.xml: domains: id 'domain-9' is there twice")
    assert "/var/lib/qubes/backup" in error.hint


def test_a_property_may_be_a_reference() -> None:
    text = swap('name="label">black<', 'name="label" ref="label-8">x<')(REAL)
    assert read(text).domains["dom0"].properties["label"] == "label-8"


def test_revisions_may_be_switched_off() -> None:
    text = swap('revisions_to_keep="1" rw', 'revisions_to_keep="-1" rw')(REAL)
    found = [
        v.revisions_to_keep
        for d in read(text).domains.values()
        for v in d.volumes.values()
    ]
    assert found.count(-1) == 1


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("netvm", True),
        ("template", True),
        ("default_template", True),
        ("management_dispvm", True),
        ("relayvm", True),
        ("anything_that_comes_vm", True),
        ("check_updates_vm", False),
        ("template_for_dispvms", False),
        ("label", False),
    ],
)
def test_properties_that_name_qubes_are_known(name: str, is_one: bool) -> None:
    assert qubes_store.names_qube(name) is is_one
