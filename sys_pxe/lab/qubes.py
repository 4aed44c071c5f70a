"""The qubes of the golden image: a template, three app qubes, their kernel.

It is what a Qubes OS has in /var/lib/qubes: images as the file-reflink driver
names them, kernels, ``qubes.xml``. A guest is busybox on Debian's kernel; its
template holds enough that a copy of it would be seen. Needs no root, but the
files of the images belong to whoever makes them.
"""

import hashlib
import lzma
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from sys_pxe import files, run
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import disks, golden

MIB = 1 << 20
FOLDER = "var/lib/qubes"
TEMPLATE = "lab-template"
# more than the lab's pool, so that one guest can fill it
ROOT_MIB, PRIVATE_MIB, VOLATILE_MIB = 512, 256, 1024
# content that cannot be packed, and content that can
RANDOM_MIB, TEXT_MIB = 24, 24
MEMORY_MIB = 80

_UUID = "5b1f0e4c-0000-4000-8000-{:012d}"
_MODULES = ("crc32c_generic", "ext4", "xen-blkfront")
# qubes/app.py, Qubes._init_labels (R4.3)
_LABELS = {
    "red": "0xcc0000",
    "orange": "0xf57900",
    "yellow": "0xedd400",
    "green": "0x73d216",
    "gray": "0x555555",
    "blue": "0x3465a4",
    "purple": "0x75507b",
    "black": "0x000000",
}


@dataclass(frozen=True)
class Qube:
    """A qube of the golden image; ``autostart``: it starts with the system."""

    name: str
    label: str
    autostart: bool = False


QUBES = (
    Qube("work", "blue", autostart=True),
    Qube("personal", "yellow"),
    Qube("vault", "black"),
)


def add(tree: Path) -> None:
    """Give a tree its qubes; meant for a :func:`golden.variant`.

    Raises SysPxeError when the tree has no kernel or no static busybox.
    """
    fill(tree / FOLDER, tree)


def fill(folder: Path, tree: Path) -> None:
    """Make the qubes in a folder, with kernel and busybox of a tree."""
    kernel = kernel_of(tree)
    version = kernel.name.removeprefix("vmlinuz-")
    busybox = tree / "usr/bin/busybox"
    if not busybox.is_file():
        raise SysPxeError(
            f"{tree} has no usr/bin/busybox",
            "the golden image needs the package busybox-static",
        )
    kernels = files.make_folder(folder / "vm-kernels" / version)
    files.copy(kernel, kernels / "vmlinuz")
    modules = tree / "usr/lib/modules" / version
    files.write(kernels / "initramfs", initramfs(busybox, modules))
    place = files.make_folder(folder / "vm-templates" / TEMPLATE)
    with files.scratch("sys-pxe-guest-") as content:
        _template(content, busybox)
        ext4(place / "root.img", ROOT_MIB, content, 1)
    _private(place / "private.img", TEMPLATE, 2)
    for number, qube in enumerate(QUBES):
        place = files.make_folder(folder / "appvms" / qube.name)
        _private(place / "private.img", qube.name, 3 + number)
    files.write(folder / "qubes.xml", store(version), 0o660)


def kernel_of(tree: Path) -> Path:
    """Return the kernel of a tree; SysPxeError if there is none."""
    found = sorted((tree / "boot").glob("vmlinuz-[0-9]*"))
    if not found:
        raise SysPxeError(f"{tree}/boot holds no vmlinuz-VERSION")
    return found[-1]


def module_order(table: str, wanted: Iterable[str]) -> list[str]:
    """Return the files of modules in the order in which they are loaded.

    ``table`` is a modules.dep(5): what a module needs stands on its right, and
    what has to be first stands last. SysPxeError for one that is not there.
    """
    lines = dict(line.split(":", 1) for line in table.splitlines() if line)
    named = {Path(path).name.split(".ko")[0]: path for path in lines}
    order: list[str] = []
    for name in wanted:
        if name not in named:
            raise SysPxeError(f"the kernel has no module {name}")
        path = named[name]
        order += [*reversed(lines[path].split()), path]
    return list(dict.fromkeys(order))


def initramfs(busybox: Path, modules: Path) -> bytes:
    """Return a cpio archive with the drivers of a guest and its init."""
    table = (modules / "modules.dep").read_text(encoding="ascii")
    paths = module_order(table, _MODULES)
    names = [Path(path).name.removesuffix(".xz") for path in paths]
    with files.scratch("sys-pxe-guest-") as folder:
        for name in ("bin", "dev", "modules", "proc", "sys", "sysroot"):
            files.make_folder(folder / name)
        files.copy(busybox, folder / "bin/busybox", 0o755)
        files.link_to(folder / "bin/sh", "busybox")
        for path, name in zip(paths, names, strict=True):
            content = (modules / path).read_bytes()
            if path.endswith(".xz"):
                content = lzma.decompress(content)
            files.write(folder / "modules" / name, content)
        text = "".join(f"{name}\n" for name in names)
        files.write(folder / "modules/order", text.encode("ascii"))
        files.write(folder / "init", golden.program("guest-init"), 0o755)
        listed = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
        made = run.run(
            ["cpio", "--quiet", "--create", "--format=newc"],
            stdin="\n".join(listed).encode(),
            cwd=str(folder),
        )
    return made.stdout


def ext4(path: Path, size: int, content: Path, number: int) -> None:
    """Make an ext4 image of ``size`` MiB with the content of a folder.

    It takes the room of its content only: no guest fills its tables later.
    The boot block, which ext4 leaves alone, has a partition table: a guest
    can write one, and dom0 must not follow it.
    """
    identity = _UUID.format(number)
    options = f"lazy_itable_init=0,lazy_journal_init=0,hash_seed={identity}"
    with files.new_sparse(path, size * MIB) as image:
        run.run(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0",
             "-N", "2048", "-J", "size=4", "-U", identity, "-E", options,
             "-d", str(content), str(path)]
        )  # fmt: skip
        image.write(disks.partition_table(size // 2 - 1, size // 2))


def store(version: str) -> bytes:
    """Return a ``qubes.xml`` in the form of Qubes R4.3.

    The form is that of qubes/app.py, Qubes.__xml__, and of what it calls.
    ``version`` is the kernel of all qubes.
    """
    root = Element("qubes")
    labels = SubElement(root, "labels")
    for number, (name, color) in enumerate(_LABELS.items(), 1):
        node = SubElement(labels, "label", id=f"label-{number}", color=color)
        node.text = name
    pools = SubElement(root, "pools")
    SubElement(pools, "pool", name="varlibqubes", driver="file-reflink",
               dir_path=f"/{FOLDER}", revisions_to_keep="1")  # fmt: skip
    SubElement(pools, "pool", name="linux-kernel", driver="linux-kernel",
               dir_path=f"/{FOLDER}/vm-kernels")  # fmt: skip
    _properties(root, {
        "clockvm": "", "default_dispvm": "", "default_kernel": version,
        "default_netvm": "", "default_pool": "varlibqubes",
        "default_pool_kernel": "linux-kernel",
        "default_template": TEMPLATE, "updatevm": "",
    })  # fmt: skip
    domains = SubElement(root, "domains")
    _domain(domains, "AdminVM", 0, {"label": "black"}, {})
    common = {
        "kernel": version, "maxmem": "0", "memory": str(MEMORY_MIB),
        "netvm": "", "vcpus": "1", "virt_mode": "pv",
    }  # fmt: skip
    own = {"name": TEMPLATE, "qid": "1", "label": "black",
           "uuid": _UUID.format(101)}  # fmt: skip
    volumes = _volumes(f"vm-templates/{TEMPLATE}", version, None)
    _domain(domains, "TemplateVM", 1, {**common, **own}, volumes)
    for qid, qube in enumerate(QUBES, 2):
        own = {"name": qube.name, "qid": str(qid), "label": qube.label,
               "template": TEMPLATE, "uuid": _UUID.format(100 + qid),
               "autostart": str(qube.autostart)}  # fmt: skip
        volumes = _volumes(f"appvms/{qube.name}", version, TEMPLATE)
        _domain(domains, "AppVM", qid, {**common, **own}, volumes)
    ElementTree.indent(root)
    return bytes(
        ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    )


def _properties(node: Element, values: Mapping[str, str]) -> None:
    properties = SubElement(node, "properties")
    for name, value in sorted(values.items()):
        SubElement(properties, "property", name=name).text = value


def _domain(
    domains: Element,
    kind: str,
    qid: int,
    properties: Mapping[str, str],
    volumes: Mapping[str, Mapping[str, str]],
) -> None:
    node = SubElement(domains, "domain", {"id": f"domain-{qid}", "class": kind})
    _properties(node, properties)
    SubElement(node, "features")
    tags = SubElement(node, "tags")
    if kind != "AdminVM":
        SubElement(tags, "tag", name="created-by-dom0")
        config = SubElement(node, "volume-config")
        for name, fields in volumes.items():
            SubElement(config, "volume", {"name": name, **fields})


def _volumes(
    folder: str, version: str, template: str | None
) -> dict[str, dict[str, str]]:
    """Return the volumes of a qube: of a template's if it has one."""

    def volume(name: str, size: int, saved: bool, snapshot: bool = False,
               **more: str) -> dict[str, str]:  # fmt: skip
        return {
            "pool": "varlibqubes", "vid": f"{folder}/{name}",
            "revisions_to_keep": "1", "rw": "True",
            "save_on_stop": str(saved), "snap_on_start": str(snapshot),
            "size": str(size * MIB), **more,
        }  # fmt: skip

    root = volume("root", ROOT_MIB, saved=True)
    if template is not None:
        source = f"vm-templates/{template}/root"
        root = volume("root", ROOT_MIB, saved=False, snapshot=True,
                      source=source)  # fmt: skip
    return {
        "root": root,
        "private": volume("private", PRIVATE_MIB, saved=True),
        "volatile": volume("volatile", VOLATILE_MIB, saved=False),
        "kernel": {
            "pool": "linux-kernel", "vid": version, "revisions_to_keep": "0",
            "rw": "False", "save_on_stop": "False", "snap_on_start": "False",
        },
    }  # fmt: skip


def _template(folder: Path, busybox: Path) -> None:
    """Make the content of the template's root volume."""
    for name in ("bin", "dev", "etc", "proc", "rw", "sbin", "sys", "tmp",
                 "usr/share"):  # fmt: skip
        files.make_folder(folder / name)
    files.copy(busybox, folder / "bin/busybox", 0o755)
    _links(folder / "bin", _applets(busybox))
    files.write(folder / "sbin/init", golden.program("guest-shell"), 0o755)
    files.write(folder / "etc/template", f"{TEMPLATE}\n".encode())
    # the same bytes at each build: releases share what did not change
    noise = hashlib.shake_256(b"lab").digest(RANDOM_MIB * MIB)
    files.write(folder / "usr/share/noise", noise)
    line = b"%08d a line of a file that packs well, one of very many\n"
    count = TEXT_MIB * MIB // len(line % 0)
    text = b"".join(line % number for number in range(count))
    files.write(folder / "usr/share/text", text)


def _applets(busybox: Path) -> list[str]:
    listed = run.run([str(busybox), "--list"]).stdout.decode("ascii").split()
    return [name for name in listed if name != "busybox"]


def _links(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        files.link_to(folder / name, "busybox")


def _private(path: Path, name: str, number: int) -> None:
    """Make a private volume that says whose it is."""
    with files.scratch("sys-pxe-guest-") as folder:
        files.write(folder / "owner", f"{name}\n".encode())
        ext4(path, PRIVATE_MIB, folder, number)
