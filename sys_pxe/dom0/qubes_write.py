"""Writes a store as the bytes of a qubes.xml. Pure."""

from collections.abc import Mapping
from xml.etree import ElementTree as Tree
from xml.etree.ElementTree import Element, SubElement

from sys_pxe.dom0.qubes_store import Domain, Store, StoredVolume


def write(store: Store) -> bytes:
    """Return the bytes that ``qubes_store.read`` reads as this store."""
    root = Element("qubes")
    labels = SubElement(root, "labels")
    for label in store.labels:
        node = SubElement(labels, "label", id=label.id, color=label.color)
        node.text = label.name
    pools = SubElement(root, "pools")
    for pool in store.pools.values():
        SubElement(
            pools,
            "pool",
            {"name": pool.name, "driver": pool.driver, **pool.options},
        )
    _texts(root, "properties", "property", store.settings)
    domains = SubElement(root, "domains")
    for domain in store.domains.values():
        _domain(domains, domain)
    Tree.indent(root)
    text: bytes = Tree.tostring(root, encoding="utf-8", xml_declaration=True)
    # in text ElementTree leaves it as it is, and every reader makes it LF
    return text.replace(b"\r", b"&#13;") + b"\n"


def _texts(
    parent: Element, table: str, kind: str, texts: Mapping[str, str]
) -> None:
    folder = SubElement(parent, table)
    for name, text in texts.items():
        SubElement(folder, kind, name=name).text = text


def _domain(parent: Element, domain: Domain) -> None:
    names = {"id": domain.id, "class": domain.klass}
    node = SubElement(parent, "domain", names)
    _texts(node, "properties", "property", domain.properties)
    _texts(node, "features", "feature", domain.features)
    tags = SubElement(node, "tags")
    for tag in domain.tags:
        SubElement(tags, "tag", name=tag)
    groups: dict[str, Element] = {}
    for device in domain.devices:
        if device.klass not in groups:
            names = {"class": device.klass}
            groups[device.klass] = SubElement(node, "devices", names)
        place = SubElement(
            groups[device.klass], "device", dict(device.attributes)
        )
        for name, text in device.options.items():
            SubElement(place, "option", name=name).text = text
    if domain.volumes:
        volumes = SubElement(node, "volume-config")
        for volume in domain.volumes.values():
            SubElement(volumes, "volume", _volume(volume))


def _volume(volume: StoredVolume) -> dict[str, str]:
    """Return a volume's attributes.

    No others: each goes to the constructor of the driver's class, which
    takes only those that it knows (qubes/storage/__init__.py, Volume).
    """
    found = {
        "name": volume.name,
        "pool": volume.pool,
        "vid": volume.vid,
        "revisions_to_keep": str(volume.revisions_to_keep),
        "rw": str(volume.rw),
        "save_on_stop": str(volume.save_on_stop),
        "snap_on_start": str(volume.snap_on_start),
    }
    if volume.size is not None:
        found["size"] = str(volume.size)
    if volume.source is not None:
        found["source"] = volume.source
    return found
