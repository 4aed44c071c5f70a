"""A dom0 on LVM thin volumes is read while it runs, in a QEMU machine.

The kernel of the machine that tests run on need not have device-mapper; the
lab's golden image has. What is called is in golden_guest.py.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe import files, run
from sys_pxe.lab import golden, qube, qubes
from sys_pxe.lab.machine import Hardware, Machine
from sys_pxe.lab.network import Lan

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / "build/cache"
GUEST = "opt/sys-pxe"
INITRAMFS = "boot/initramfs-of-the-test"
ROOT_MIB, LVM_MIB, XFS_MIB = 1280, 2900, 310
BOOT_SECONDS = 600.0
CALL_SECONDS = 300.0
BUILD_SECONDS = 1200.0
# what a build calls, and the lab's dom0 does not have
PACKAGES = ("squashfs-tools", "binutils", "python3-yaml", "python3-jinja2")
SITE = """\
network:
  address: 192.0.2.1/24
  dhcp: {mode: server, pool: 192.0.2.100-192.0.2.199}
channels: [stable]
profiles:
  office: {channel: stable, qubes: [work, vault]}
clients:
  desk-01: {mac: "52:54:00:00:00:01", profile: office}
unknown_clients: refuse
"""
MIB = 1 << 20


def prepare(tree: Path) -> None:
    """Put the package and the guest's program into the tree; an initramfs."""
    place = files.make_folder(tree / GUEST)
    for name in ("sys_pxe", "dracut"):
        run.run(["cp", "-r", str(REPOSITORY / name), str(place)])
    guest = REPOSITORY / "tests/boot/golden_guest.py"
    files.copy(guest, place / guest.name)
    qube.install(tree, *PACKAGES)
    qubes.add(tree)
    files.make_folder(tree / "etc/sys-pxe")
    files.write(tree / "etc/sys-pxe/site.yaml", SITE.encode("ascii"))
    qube.disk_initramfs(tree, INITRAMFS)


def disks(tree: Path, folder: Path) -> tuple[Path, ...]:
    """Make the root's disk, an empty one, and what is copied onto that."""
    made = tuple(folder / name for name in ("root", "lvm", "copy", "xfs"))
    for path, mib in zip(
        made, (ROOT_MIB, LVM_MIB, ROOT_MIB, XFS_MIB), strict=True
    ):
        files.new_sparse(path, mib << 20).close()
    root, _, copy, xfs = made
    run.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(root)])
    run.run(["cp", "--sparse=always", str(root), str(copy)])
    run.run(["mkfs.xfs", "-q", str(xfs)], hint="the package xfsprogs")
    return made


@pytest.fixture(scope="module")
def dom0(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("golden-dom0")
    tree = golden.golden_tree(CACHE, print)
    with golden.variant(tree, "golden-dom0", {}) as changed:
        prepare(changed)
        kernel = folder / "kernel"
        files.copy(changed / f"boot/vmlinuz-{qube.kernel(tree)}", kernel)
        initramfs = folder / "initramfs"
        files.copy(changed / INITRAMFS, initramfs)
        made = disks(changed, folder)
    hardware = Hardware(
        "52:54:00:00:00:f2",
        memory=1536,
        nic="virtio-net-pci",
        disks=made,
        disk_device="virtio-blk-pci",
        firmware=(
            *("-kernel", str(kernel), "-initrd", str(initramfs), "-append"),
            "root=/dev/vda rw console=ttyS0 lsm=landlock,lockdown,yama",
        ),
    )
    with Lan("192.0.2.254/24") as lan:
        tap = lan.tap("tap-dom0")
        with Machine(lan, "golden-dom0", tap, hardware, folder) as machine:
            machine.login(BOOT_SECONDS)
            machine.command("systemctl start systemd-udevd; udevadm settle",
                            240)  # fmt: skip
            words = ("setup", str(ROOT_MIB), "/dev/vdb", "/dev/vdc", "/dev/vdd")
            assert call(machine, *words, root="/") == []
            yield machine
    files.remove(folder)


def call(
    machine: Machine,
    *words: str,
    root: str = "/dom0",
    seconds: float = CALL_SECONDS,
) -> object:
    line = shlex.join(
        [
            *("chroot", root, "env", f"PYTHONPATH=/{GUEST}"),
            *("PYTHONDONTWRITEBYTECODE=1", "python3"),
            *(f"/{GUEST}/golden_guest.py", *words),
        ]
    )
    printed = machine.command(f"{line} 2>&1", seconds)
    return json.loads(printed.strip().splitlines()[-1])


def answer(
    machine: Machine, *words: str, seconds: float = CALL_SECONDS
) -> dict[str, object]:
    found = call(machine, *words, seconds=seconds)
    assert isinstance(found, dict)
    assert found["after_lvs"] == []
    return found


def test_dom0_is_read_as_it_was_when_the_build_began(dom0: Machine) -> None:
    found = answer(dom0, "view", "/")
    assert (found["before"], found["after"]) == ("first", None)
    assert found["live"] == "second"
    assert found["boot"] == "a boot file"
    assert found["refused"] == ["Read-only file system"] * 2
    assert isinstance(found["entries"], int)
    assert found["entries"] > 100
    assert isinstance(found["inside"], list)
    assert len(found["inside"]) == 1
    assert "snapshot of qubes_dom0/root" in str(found["said"])
    assert "warning" not in str(found["said"])
    assert found["mounted"] == []


def test_an_xfs_on_a_thin_volume_is_read_from_a_snapshot(
    dom0: Machine,
) -> None:
    found = answer(dom0, "view", "/mnt/other")
    assert (found["before"], found["after"]) == ("first", None)
    assert found["live"] == "second"
    assert "snapshot of qubes_dom0/other" in str(found["said"])
    assert found["mounted"] == []


def test_a_template_that_runs_is_read_at_its_last_commit(
    dom0: Machine,
) -> None:
    found = answer(dom0, "template")
    assert found["heads"] == ["committed", "committed", "running"]
    assert "T runs" in str(found["said"])
    assert found["size"] == 64 * MIB
    assert found["writable"] is False
    assert isinstance(found["inside"], list)
    assert len(found["inside"]) == 1


def test_what_is_not_a_whole_volume_is_refused_by_name(dom0: Machine) -> None:
    texts = answer(dom0, "refusals")["found"]
    assert isinstance(texts, list)
    small, missing, thick, used = texts
    assert f"T:root has {64 * MIB} bytes" in small
    assert str(64 * MIB + 1) in small
    assert "vm-gone-root is missing" in missing
    assert "not a thin volume" in thick
    assert "in use" in used


def test_a_disk_too_small_for_what_is_mapped_is_refused_before_the_work(
    dom0: Machine,
) -> None:
    found = answer(dom0, "large")
    assert found["sizes"] == [20 << 30, 64 * MIB]
    assert isinstance(found["mapped"], list)
    large, never_written = found["mapped"]
    # lvs tells hundredths of a percent: 2 MiB, which here are rounded
    assert 46 * MIB <= large <= 52 * MIB
    assert never_written == 0
    refused = str(found["refused"])
    assert "not enough space in /mnt/small" in refused
    assert "16 MiB are free" in refused


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_build_that_is_stopped_leaves_no_snapshot(
    dom0: Machine, number: str
) -> None:
    found = answer(dom0, "ended", number)
    assert found["ready"] == "ready"
    assert isinstance(found["inside"], list)
    assert len(found["inside"]) == 2
    assert found["status"] != 0
    assert found["left"] == []


def test_what_a_killed_build_left_is_removed_by_the_next(
    dom0: Machine,
) -> None:
    found = answer(dom0, "ended", "SIGKILL")
    assert found["left"] == found["inside"]
    assert isinstance(found["during"], list)
    assert isinstance(found["left"], list)
    assert len(found["left"]) == 2
    assert len(found["during"]) == 1
    assert not set(found["during"]) & set(found["left"])
    assert "killed" in str(found["said"])


def test_a_release_is_built_from_the_running_dom0(dom0: Machine) -> None:
    """The whole command, dracut too; the last test, it moves the qubes."""
    chosen, large = qubes.QUBES[0].name, qubes.QUBES[2].name
    words = ("release", "office", qubes.TEMPLATE, chosen, large)
    found = answer(dom0, *words, seconds=BUILD_SECONDS)
    said = str(found["said"])
    assert found["status"] == 0, said
    assert "release l1 built" in said
    assert "snapshot of qubes_dom0/root" in said
    # the seed holds what the thin volumes held, the root no key and no qubes
    assert found["same"] == [True, True]
    # 20 GiB, nearly all hole: in the seed, and not in the bar's total
    assert isinstance(found["grown"], dict)
    assert found["grown"]["size"] == 20 << 30
    assert found["grown"]["data"] < 64 * MIB
    assert found["grown"]["far"] == "far away"
    total = re.findall(r"volumes-office: 100 %, .* of ([0-9.]+) MiB", said)
    assert 50 < float(total[-1]) < 600
    assert found["root"] == [
        f"squashfs-root/{path}" for path in ("usr/bin/bash", "etc/hostname")
    ]
    store = str(found["xml"])
    assert 'driver="file-reflink"' in store
    assert "lvm_thin" not in store
    # "personal" was not chosen
    names = [qube.name for qube in qubes.QUBES if f">{qube.name}<" in store]
    assert names == ["work", "vault"]
    assert found["loops"] == ""
    assert found["building"] == []
