"""What is behind --from decides how it is read: facts in, a decision out."""

import ctypes
import errno
import os
import stat
from io import StringIO
from pathlib import Path

import pytest

from sys_pxe.dom0 import lvm, mountinfo, mounts, source
from sys_pxe.dom0.lvm import Lv
from sys_pxe.dom0.mountinfo import Mount
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.source import Facts, Kind
from sys_pxe.errors import SysPxeError, UsageError

FOLDER, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644
THIN = Lv("qubes_dom0", "root", 1 << 30, "Vwi-aotz--", "root-pool", "253:4")
THICK = Lv("qubes_dom0", "root", 1 << 30, "-wi-ao----", "", "253:4")
# as in dom0: the root and its boot partitions, and what is no part of it
DOM0 = rb"""
22 1 253:4 / / rw,relatime shared:1 - ext4 /dev/mapper/qubes_dom0-root rw
23 22 0:21 / /proc rw,nosuid shared:2 - proc proc rw
24 22 0:5 / /dev rw shared:3 - devtmpfs devtmpfs rw,size=4096k
25 22 259:1 / /boot rw,relatime shared:4 master:1 - ext4 /dev/nvme0n1p2 rw
26 25 259:2 / /boot/efi rw,relatime shared:5 - vfat /dev/nvme0n1p1 rw,fmask=0
27 22 0:40 / /run rw shared:6 - tmpfs tmpfs rw
28 27 8:1 / /run/media/user/x rw shared:6 - vfat /dev/sda1 rw
29 22 8:2 / /mnt/a\040disk\011\134 rw - ext4 /dev/sdb rw
30 22 0:41 / /var/lib/qubes/x rw - tmpfs tmpfs rw
31 22 0:42 /home /home rw - btrfs /dev/sdc ro,subvolid=257
""".lstrip()


def mount(
    target: str = "/",
    fstype: str = "ext4",
    root: str = "/",
    read_only: bool = False,
) -> Mount:
    return Mount(
        Path(target), root, "253:4", fstype, "/dev/mapper/x", read_only
    )


def facts(
    path: str,
    own: Mount,
    mode: int = FOLDER,
    subvolume: bool = False,
    lv: Lv | None = None,
    reflink: bool = False,
) -> Facts:
    return Facts(Path(path), mode, own, subvolume, lv, reflink)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        # the system that runs
        (facts("/", mount(), lv=THIN), Kind.THIN),
        (facts("/", mount(fstype="xfs"), lv=THIN), Kind.THIN),
        (facts("/", mount(), lv=THICK), Kind.LIVE),
        (facts("/", mount()), Kind.LIVE),
        (facts("/", mount(fstype="xfs")), Kind.LIVE),
        (facts("/", mount(fstype="xfs"), reflink=True), Kind.REFLINK),
        (
            facts("/", mount(fstype="xfs"), lv=THICK, reflink=True),
            Kind.REFLINK,
        ),
        # of one moment, which a copy is not
        (facts("/", mount(fstype="xfs"), lv=THIN, reflink=True), Kind.THIN),
        (
            facts("/", mount(fstype="xfs", root="/golden"), reflink=True),
            Kind.LIVE,
        ),
        (facts("/", mount(fstype="overlay")), Kind.LIVE),
        (
            facts("/", mount(fstype="btrfs", root="/root"), subvolume=True),
            Kind.SUBVOLUME,
        ),
        # btrfs on LVM: never twice
        (
            facts("/", mount(fstype="btrfs"), subvolume=True, lv=THIN),
            Kind.SUBVOLUME,
        ),
        (facts("/", mount(fstype="btrfs", root="/a/b"), lv=THIN), Kind.LIVE),
        (facts("/", mount(root="/golden"), lv=THIN), Kind.LIVE),
        # a golden image that is mounted
        (facts("/mnt/g", mount("/mnt/g"), lv=THIN), Kind.THIN),
        (facts("/mnt/g", mount("/mnt/g"), lv=THICK), Kind.FOLDER),
        (facts("/mnt/g", mount("/mnt/g", "xfs")), Kind.FOLDER),
        (
            facts("/mnt/g", mount("/mnt/g", "xfs"), reflink=True),
            Kind.REFLINK,
        ),
        (
            facts(
                *("/mnt/g", mount("/mnt/g", "xfs", read_only=True)),
                reflink=True,
            ),
            Kind.FOLDER,
        ),
        (facts("/mnt/g", mount("/mnt/g", root="/x"), lv=THIN), Kind.FOLDER),
        (
            facts("/mnt/g", mount("/mnt/g", read_only=True), lv=THIN),
            Kind.FOLDER,
        ),
        (
            facts(
                "/mnt/g", mount("/mnt", "btrfs", read_only=True), subvolume=True
            ),
            Kind.FOLDER,
        ),
        (facts("/", mount(read_only=True), lv=THIN), Kind.THIN),
        # a folder, and a subvolume, somewhere in a file system
        (facts("/srv/g", mount(), lv=THIN), Kind.FOLDER),
        (facts("/srv/g", mount(fstype="xfs"), reflink=True), Kind.FOLDER),
        (facts("/srv/g", mount(fstype="btrfs")), Kind.FOLDER),
        (
            facts("/srv/g", mount(fstype="btrfs"), subvolume=True),
            Kind.SUBVOLUME,
        ),
        # an image
        (facts("/srv/g.img", mount(), FILE, lv=THIN), Kind.IMAGE),
    ],
)
def test_what_is_read_how(given: Facts, kind: Kind) -> None:
    assert source.decide(given) is kind


@pytest.mark.parametrize(
    "kind", [stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR]
)
def test_what_is_neither_folder_nor_file_is_refused(kind: int) -> None:
    with pytest.raises(UsageError, match="neither") as caught:
        source.decide(facts("/dev/sda", mount("/dev"), kind | 0o600))
    assert "mount" in caught.value.hint


def test_the_path_within_a_file_system() -> None:
    own = mount("/", "btrfs", "/root")
    assert facts("/", own).inside == "/root"
    assert facts("/srv/g", own).inside == "/root/srv/g"
    assert facts("/srv/g", mount("/srv/g", "btrfs")).inside == "/"


def test_mountinfo_is_read() -> None:
    table = mountinfo.parse(DOM0)
    assert len(table) == 10
    assert table[0] == Mount(
        *(Path("/"), "/", "253:4", "ext4", "/dev/mapper/qubes_dom0-root"),
        read_only=False,
    )
    # the optional fields may be none, one or several
    assert table[3].source == "/dev/nvme0n1p2"
    assert table[7].target == Path("/mnt/a disk\t\\")
    assert (table[9].root, table[9].read_only) == ("/home", True)


def test_the_mount_that_holds_a_path() -> None:
    table = mountinfo.parse(DOM0)
    for path, target in (
        ("/", "/"),
        ("/usr/lib", "/"),
        ("/bootx", "/"),
        ("/boot", "/boot"),
        ("/boot/efi/EFI", "/boot/efi"),
    ):
        assert mountinfo.holding(table, Path(path)).target == Path(target)


def test_the_last_mount_at_a_place_is_the_one_that_shows() -> None:
    table = [*mountinfo.parse(DOM0), mount("/boot", "xfs")]
    found = mountinfo.holding(table, Path("/boot/efi-x"))
    assert found.fstype == "xfs"
    below = mountinfo.below(table, Path("/"))
    assert [m.fstype for m in below if m.target == Path("/boot")] == ["xfs"]


def test_the_parts_of_a_system() -> None:
    table = mountinfo.parse(DOM0)
    found = source.parts(table, Path("/"))
    assert [str(m.target) for m in found] == ["/boot", "/boot/efi", "/home"]
    assert source.parts(table, Path("/boot/efi")) == []
    inner = source.parts(table, Path("/mnt"))
    assert [m.source for m in inner] == ["/dev/sdb"]


def test_a_folder_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree, with: odd\nname"
    tree.mkdir()
    (tmp_path / "link").symlink_to(tree)

    def no_lvs() -> list[Lv]:
        pytest.fail("a folder needs no LVM")

    monkeypatch.setattr(lvm, "volumes", no_lvs)
    stream = StringIO()
    work = tmp_path / "work"
    for spec in (tree, tmp_path / "link"):
        with source.opened(str(spec), work, Reporter(stream)) as found:
            assert found == tree
    assert stream.getvalue() == ""
    assert not work.exists()


@pytest.mark.parametrize("spec", ["gone", "file/x", "a\0b", "\x1b[2J"])
def test_what_is_not_there_is_refused_in_plain_words(
    tmp_path: Path, spec: str
) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(UsageError) as caught,
        source.opened(
            str(tmp_path / spec), tmp_path / "work", Reporter(quiet=True)
        ),
    ):
        pytest.fail("opened")
    assert "--from" in caught.value.hint
    assert caught.value.message.isprintable()


def test_without_the_right_to_a_namespace_the_build_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Libc:
        def __init__(self, name: None, use_errno: bool) -> None:
            assert use_errno

        def unshare(self, flags: int) -> int:
            assert flags == 0x20000
            ctypes.set_errno(errno.EPERM)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", Libc)
    with pytest.raises(SysPxeError, match="Operation not permitted") as caught:
        mounts.private()
    assert "sudo" in caught.value.hint


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(UsageError, match="neither"),
        source.opened(
            str(tmp_path / "pipe"), tmp_path / "work", Reporter(quiet=True)
        ),
    ):
        pytest.fail("opened")
