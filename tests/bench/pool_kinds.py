"""Inside the machine of the pool bench: our pool and its peers, each made."""

import os
import subprocess
from pathlib import Path

from sys_pxe.client import pool

MIB = 1 << 20
RAM = Path("/mnt/ram")
TEMPLATE = "vm-templates/debian/root.img"
SQUASHED = "root.img"
# what can be written; the XFS has to hold the template and its log as well
POOL_MIB = 1024
XFS_MIB = POOL_MIB + 576
XFS_ZRAM = Path("/dev/zram1")
VG = "qubes_dom0"
# fixed, for LVM's filter
DATA, HEADER, ORIGIN = "/dev/loop5", "/dev/loop6", "/dev/loop7"


def sh(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(
        argv, capture_output=True, check=False, text=True, input=stdin
    )
    if done.returncode:
        raise SystemExit(f"{argv}: {done.returncode}: {done.stderr[-400:]}")
    return done.stdout


def control(path: str, text: str) -> None:
    Path(path).write_text(text, "ascii")


def loop(path: Path, *options: str) -> str:
    return sh("losetup", *options, "--find", "--show", str(path)).strip()


class Ours:
    """The client's own code: a btrfs seed and a zram sprout."""

    artifact, runs = "seed", 3
    place = pool.POOL

    def make(self, artifact: Path) -> None:
        pool.make(artifact, POOL_MIB)

    def done(self, artifact: Path) -> None:
        """The seed stays in RAM."""

    def undo(self, artifact: Path) -> None:
        sh("umount", str(self.place))
        control("/sys/block/zram0/reset", "1")

    def root(self, number: int) -> None:
        """Make the root of an app qube, as the file-reflink driver does."""
        folder = self.place / f"appvms/q{number}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(self.place / TEMPLATE, folder / "root-precache.img")
        sh("cp", "--reflink=always", str(self.place / TEMPLATE),
           str(folder / "root-dirty.img"))  # fmt: skip

    def template(self) -> str:
        return loop(self.place / TEMPLATE, "--read-only")

    def app(self) -> str:
        return loop(self.place / "appvms/q0/root-dirty.img")


def unpack(artifact: Path, target: Path) -> None:
    """Unpack a squashfs that holds an image; its holes are not even read."""
    target.parent.mkdir(parents=True)
    place = target.parent / "unpacked"
    sh("unsquashfs", "-quiet", "-no-progress", "-dest", str(place),
       str(artifact))  # fmt: skip
    (place / SQUASHED).rename(target)
    place.rmdir()


class Raw(Ours):
    """The image, unpacked to a tmpfs; an app qube's root is a copy."""

    artifact, runs = "squash", 1
    place = RAM / "raw"

    def make(self, artifact: Path) -> None:
        unpack(artifact, self.place / TEMPLATE)

    def done(self, artifact: Path) -> None:
        artifact.unlink()

    def undo(self, artifact: Path) -> None:
        sh("rm", "-r", str(self.place))

    def root(self, number: int) -> None:
        folder = self.place / f"appvms/q{number}"
        folder.mkdir(parents=True)
        sh("cp", "--sparse=always", str(self.place / TEMPLATE),
           str(folder / "root-dirty.img"))  # fmt: skip


class Xfs(Raw):
    """The image, unpacked to an XFS with reflink on a zram."""

    place = Path("/mnt/xfs")

    def make(self, artifact: Path) -> None:
        self.place.mkdir(exist_ok=True)
        control("/sys/block/zram1/disksize", str(XFS_MIB * MIB))
        sh("mkfs.xfs", "-q", "-K", "-m", "reflink=1", str(XFS_ZRAM))
        sh("mount", "-o", "noatime,discard", str(XFS_ZRAM), str(self.place))
        super().make(artifact)
        os.sync()

    def undo(self, artifact: Path) -> None:
        sh("umount", str(self.place))
        control("/sys/block/zram1/reset", "1")

    root = Ours.root


class Thin(Raw):
    """Thin volumes whose external origin is the image in the squashfs."""

    def make(self, artifact: Path) -> None:
        place = Path("/mnt/origin")
        place.mkdir(exist_ok=True)
        sh("mount", "-t", "squashfs", "-o", "loop,ro", str(artifact),
           str(place))  # fmt: skip
        image = place / SQUASHED
        for name, size in (("data", POOL_MIB * MIB), ("header", 4 * MIB)):
            (RAM / name).touch()
            os.truncate(RAM / name, size)
        sh("losetup", DATA, str(RAM / "data"))
        sh("losetup", HEADER, str(RAM / "header"))
        sh("losetup", "--read-only", ORIGIN, str(image))
        sectors = image.stat().st_size // 512
        table = f"0 8192 linear {HEADER} 0\n8192 {sectors} linear {ORIGIN} 0\n"
        sh("dmsetup", "--noudevsync", "--noudevrules", "create", "tpl",
           stdin=table)  # fmt: skip
        # no udev makes its node
        sh("dmsetup", "mknodes", "tpl")
        tpl, origin = "/dev/mapper/tpl", "vm-T-root-origin"
        sh("vgcreate", VG, DATA)
        # LVM writes its tables' zeros, and would write a spare one's as well
        sh("lvcreate", "--type", "thin-pool", "-L", f"{POOL_MIB - 40}m",
           "--poolmetadatasize", "4m", "--poolmetadataspare", "n",
           "-c", "64k", "-Zn", "-n", "vm-pool", VG)  # fmt: skip
        sh("pvcreate", "--dataalignment", "4m", "--metadatacopies", "0", tpl)
        sh("vgextend", VG, tpl)
        sh("lvcreate", "-Wn", "-Zn", "-an", "-pr", "-l", "100%PVS", "-n",
            origin, VG, tpl)  # fmt: skip
        sh("lvcreate", "--type", "thin", "-n", "vm-T-root", "--thinpool",
            "vm-pool", f"{VG}/{origin}")  # fmt: skip

    def done(self, artifact: Path) -> None:
        """The squashfs stays in RAM."""

    def undo(self, artifact: Path) -> None:
        sh("vgchange", "-an", VG)
        sh("dmsetup", "--noudevsync", "remove", "tpl")
        sh("losetup", "--detach", DATA, HEADER, ORIGIN)
        sh("umount", "/mnt/origin")
        for name in ("data", "header"):
            (RAM / name).unlink()

    def root(self, number: int) -> None:
        sh("lvcreate", "-s", "-kn", "-n", f"vm-q{number}-root-snap",
            f"{VG}/vm-T-root")  # fmt: skip

    def template(self) -> str:
        return f"/dev/{VG}/vm-T-root"

    def app(self) -> str:
        return f"/dev/{VG}/vm-q0-root-snap"


KINDS: dict[str, Ours] = {
    "ours": Ours(),
    "raw": Raw(),
    "xfs": Xfs(),
    "thin": Thin(),
}
