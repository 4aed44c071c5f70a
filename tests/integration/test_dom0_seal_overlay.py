"""Sealing over a real overlay, and what real LVM sees then. Root."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe import files, run
from sys_pxe.dom0 import mounts, seal, squash
from sys_pxe.dom0.progress import Reporter
from sys_pxe.errors import SysPxeError

VG = "qubes_dom0"
DISK_SIZE = 256 << 20
PRIVATE_KEY = b"-----BEGIN PRIVATE KEY-----\n"


def put(tree: Path, name: str, content: bytes = b"golden\n") -> Path:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with an odd name, and most kinds of things in it."""
    root = tmp_path / "tree,with:odd=name"
    for name in (
        *("etc/fstab", "etc/crypttab", "etc/machine-id", "etc/hostname"),
        *("boot/initramfs-6.12.img", "boot/vmlinuz-6.12", "usr/bin/true"),
        *("var/log/journal/0/x", "var/log/xen/y", "root/.bash_history"),
        *("var/lib/qubes/qubes.xml", "var/lib/qubes/appvms/w/firewall.xml"),
        *("var/lib/sys-pxe/key/private.pem", "var/cache/dnf/a/b"),
        *("etc/lvm/devices/system.devices", "etc/lvm/lvmlocal.conf"),
    ):
        put(root, name)
    image = put(root, "var/lib/qubes/appvms/w/private.img")
    os.truncate(image, 1 << 40)
    os.mknod(root / "var/log/node", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(root / "var/tmp-node", stat.S_IFBLK | 0o600, os.makedev(7, 99))
    # what an overlay calls a whiteout
    os.mknod(root / "var/log/xen/gone", stat.S_IFCHR, os.makedev(0, 0))
    os.mkfifo(root / "var/log/fifo")
    (root / "var/log/link").symlink_to("/etc/hostname")
    root.chmod(0o755)
    return root


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return files.make_folder(tmp_path / "work")


def digest(tree: Path) -> str:
    """Return a digest of all that is in a tree, times included."""
    total = hashlib.sha256()
    for folder, folders, names in sorted(os.walk(tree)):
        for name in sorted((*folders, *names, ".")):
            path = Path(folder, name)
            seen = path.lstat()
            kept = (seen.st_mode, seen.st_rdev, seen.st_size, seen.st_mtime_ns)
            more = (seen.st_ctime_ns, seen.st_ino, seen.st_uid, seen.st_nlink)
            total.update(repr((str(path), kept, more)).encode())
            if stat.S_ISREG(seen.st_mode) and seen.st_size < 1 << 20:
                total.update(path.read_bytes())
    return total.hexdigest()


def mounted(folder: Path) -> list[str]:
    """Return the mounts at or below a folder (others may come and go)."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    places = [line.split(" ")[4] for line in lines]
    return [place for place in places if place.startswith(str(folder))]


def test_the_view_is_sealed_and_the_tree_stays_as_it_is(
    tree: Path, work: Path, tmp_path: Path
) -> None:
    before = digest(tree)
    with seal.sealed(tree, work) as root:
        assert mounted(tmp_path)
        seal.check(root)
        assert (root / "etc/machine-id").read_bytes() == b""
        assert not (root / "etc/crypttab").exists()
        assert os.listdir(root / "boot") == []
        assert os.listdir(root / "var/lib/sys-pxe") == []
        assert os.listdir(root / "var/lib/qubes") == ["appvms"]
        assert sorted(os.listdir(root / "var/log")) == ["journal", "xen"]
        assert os.listdir(root / "var/log/xen") == []
        assert (root / "etc/hostname").read_bytes() == b"golden\n"
        assert (root / "var/tmp-node").is_block_device()
        assert stat.S_IMODE(root.stat().st_mode) == 0o755
        # what the builder adds is dropped as well
        put(root, "usr/lib/sys-pxe/new")
        (root / "etc/hostname").write_text("changed\n")
        assert seal.apply(root) == []
    assert mounted(tmp_path) == []
    assert digest(tree) == before


def test_no_image_is_copied_or_read(tree: Path, work: Path) -> None:
    with seal.sealed(tree, work):
        upper = work / seal.OVERLAY / mounts.UPPER
        blocks = [p.lstat().st_blocks for p in upper.rglob("*")]
        assert blocks
        assert sum(blocks) * 512 < 1 << 20
    assert not upper.exists()


def test_nothing_stays_mounted_after_an_exception(
    tree: Path, work: Path, tmp_path: Path
) -> None:
    before = digest(tree)
    with pytest.raises(KeyError), seal.sealed(tree, work) as root:
        put(root, "etc/new")
        raise KeyError
    assert mounted(tmp_path) == []
    assert digest(tree) == before


def test_nothing_stays_mounted_when_somebody_is_still_in_it(
    tree: Path, work: Path, tmp_path: Path
) -> None:
    with seal.sealed(tree, work) as root:
        stream = open(root / "etc/hostname", "rb")  # noqa: SIM115
    with stream:
        assert mounted(tmp_path) == []
        assert stream.read() == b"golden\n"


def test_a_tree_that_cannot_be_sealed_is_told_and_left(
    tree: Path, work: Path, tmp_path: Path
) -> None:
    files.remove(tree / "var/log")
    (tree / "var/log").symlink_to("/usr/bin")
    before = digest(tree)
    with (
        pytest.raises(SysPxeError, match="/var/log is, or lies"),
        seal.sealed(tree, work),
    ):
        pytest.fail("sealed")
    assert mounted(tmp_path) == []
    assert digest(tree) == before


def test_a_secret_that_stays_is_named_as_the_tree_has_it(
    tree: Path, work: Path, tmp_path: Path
) -> None:
    put(tree, "home/user/.ssh/id_rsa", PRIVATE_KEY)
    with (
        pytest.raises(SysPxeError, match="1 file must not") as caught,
        seal.sealed(tree, work) as root,
    ):
        seal.check(root)
    assert "/home/user/.ssh/id_rsa: a private key" in caught.value.message
    assert str(work) not in caught.value.explain()
    assert mounted(tmp_path) == []


def test_links_that_lead_out_change_nothing_there(
    tree: Path, work: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    put(outside, "log/x")
    put(outside, "fstab")
    files.remove(tree / "var/log")
    (tree / "var/log").symlink_to(outside / "log")
    (tree / "etc/fstab").unlink()
    (tree / "etc/fstab").symlink_to(outside / "fstab")
    before = digest(outside), digest(tree)
    with seal.sealed(tree, work) as root:
        assert (root / "etc/fstab").read_bytes() != b"golden\n"
    assert (digest(outside), digest(tree)) == before


def test_the_same_tree_gives_the_same_image_a_second_time(
    tree: Path, work: Path, tmp_path: Path
) -> None:
    made = []
    for name in ("one", "two"):
        with seal.sealed(tree, work) as root:
            quiet = Reporter(quiet=True)
            squash.build(root, tmp_path / name, tmp_path, 3, quiet)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]


# LVM, with a disk of a client that holds a volume group named as the server's


def lvm(folder: Path, *argv: str) -> run.Result:
    # the folder is what lvm.conf(5) calls the system directory: /etc/lvm
    env = {"LVM_SYSTEM_DIR": str(folder), "LVM_SUPPRESS_FD_WARNINGS": "1"}
    return run.run(argv, env=env, check=False, timeout=60)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A loop device with a physical volume and the volume group in it."""
    image = tmp_path / "disk"
    files.new_sparse(image, DISK_SIZE).close()
    found = run.run(["losetup", "--find", "--show", str(image)])
    device = found.stdout.decode().strip()
    try:
        folder = files.make_folder(tmp_path / "maker")
        for argv in (["pvcreate", "-y", device], ["vgcreate", VG, device]):
            # no other device of this machine is looked at
            done = lvm(folder, *argv, "--devices", device)
            assert done.status == 0, done.stderr
        yield Path(device)
    finally:
        run.run(["losetup", "--detach", device])


@pytest.fixture
def lvm_tree(tree: Path, disk: Path) -> Path:
    """The tree of a server whose devices file names the client's disk."""
    put(tree, "etc/lvm/lvm.conf", b"devices { use_devicesfile=1 }\n")
    (tree / "etc/lvm/devices/system.devices").unlink()
    (tree / "etc/lvm/lvmlocal.conf").unlink()
    added = lvm(
        tree / "etc/lvm", "lvm", "lvmdevices", "--adddev", str(disk), "-y"
    )
    assert added.status == 0, added.stderr
    assert (tree / "etc/lvm/devices/system.devices").exists()
    return tree


def test_lvm_sees_the_group_before_and_even_with_a_filter(
    lvm_tree: Path, disk: Path
) -> None:
    folder = lvm_tree / "etc/lvm"
    assert VG in lvm(folder, "vgs").stdout.decode()
    # so the devices file has to go, and its use with it
    (folder / "lvmlocal.conf").write_text(
        'devices { global_filter=["r|.*|"] }\n'
    )
    assert VG in lvm(folder, "vgs").stdout.decode()


@pytest.mark.parametrize("with_devices", [False, True])
def test_sealed_lvm_sees_nothing_and_changes_no_byte(
    lvm_tree: Path, work: Path, disk: Path, with_devices: bool
) -> None:
    table = (lvm_tree / "etc/lvm/devices/system.devices").read_bytes()
    before = disk.read_bytes()
    with seal.sealed(lvm_tree, work) as root:
        folder = root / "etc/lvm"
        if with_devices:
            # somebody makes a devices file in the client after all
            put(root, "etc/lvm/devices/system.devices", table)
        for argv in (
            *(["pvs"], ["vgs"], ["lvs"], ["pvs", "-a"], ["vgscan"]),
            *(["pvscan", "--cache", "-aay"], ["vgchange", "-aay"]),
            ["pvscan", "--cache", "-aay", str(disk)],
        ):
            done = lvm(folder, *argv)
            said = (done.stdout + done.stderr).decode()
            assert VG not in said, argv
            assert done.status == 0 or argv[-1] == str(disk), said
        for argv in (
            *(["vgs", VG], ["vgchange", "-ay", VG], ["pvs", str(disk)]),
            *(["vgremove", "-ff", "-y", VG], ["vgrename", VG, "other"]),
            *(["pvremove", "-ff", "-y", str(disk)], ["vgck", VG]),
            ["pvcreate", "-ff", "-y", str(disk)],
        ):
            assert lvm(folder, *argv).status != 0, argv
    assert disk.read_bytes() == before
