"""Runs inside the machine of test_golden_dom0: reads a dom0 on real LVM.

``setup`` makes the volumes of a Qubes OS and copies a system onto the root's;
all else is called in a chroot there, so that / is a thin volume, as in dom0.
Each call writes one line of JSON.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

from sys_pxe.client import store
from sys_pxe.dom0 import lvm, mounts, seed, source, volumes
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.volumes import Volume
from sys_pxe.errors import SysPxeError

MIB = 1 << 20
VG = "qubes_dom0"
ROOT = Path("/dom0")
WORK = Path("/var/tmp/work")
STORE = Path("/var/lib/qubes")
STATE = Path("/var/lib/sys-pxe")
SIZE = 64 * MIB
BLOCK = 4096
# a volume that is nearly all hole, and where it has some data
LARGE, LARGE_DATA, FAR = 20 << 30, 48 * MIB, 17 << 30
SMALL_DISK_MIB = 16


def sh(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, check=False, text=True)
    if done.returncode:
        raise SystemExit(f"{argv}: {done.returncode}: {done.stderr}")
    return done.stdout


def thin(name: str, pool: str, mib: int) -> Path:
    sh(*("lvcreate", "-q", "-V", f"{mib}m", "--thinpool", pool),
       *("-n", name, VG))  # fmt: skip
    return Path("/dev", VG, name)


def fill(device: Path, text: str) -> None:
    with open(device, "r+b") as stream:
        stream.write(text.encode().ljust(BLOCK, b"\0"))
        stream.flush()
        os.fsync(stream.fileno())


def setup(root_mib: str, disk: str, copy: str, xfs: str) -> object:
    """Make the volumes; ``copy`` and ``xfs`` are disks with file systems."""
    sh("vgcreate", "-q", VG, disk)
    for pool, mib in (("root-pool", 2200), ("vm-pool", 500)):
        sh(*("lvcreate", "-q", "--type", "thin-pool", "-L", f"{mib}m"),
           *("-n", pool, VG))  # fmt: skip
    root = thin("root", "root-pool", int(root_mib))
    other = thin("other", "root-pool", 320)
    for taken, made in ((copy, root), (xfs, other)):
        sh("dd", f"if={taken}", f"of={made}", "bs=1M", "conv=sparse,fsync",
           "status=none")  # fmt: skip
    sh("lvcreate", "-q", "-L", "96m", "-n", "boot", VG)
    sh("mke2fs", "-q", "-t", "ext4", f"/dev/{VG}/boot")
    ROOT.mkdir()
    sh("mount", str(root), str(ROOT))
    sh("mount", f"/dev/{VG}/boot", str(ROOT / "boot"))
    sh("cp", "--archive", "/boot/.", str(ROOT / "boot"))
    (ROOT / "boot/kernel").write_text("a boot file")
    for name in ("dev", "proc", "sys", "run"):
        sh("mount", "--rbind", f"/{name}", str(ROOT / name))
    (ROOT / "mnt/other").mkdir(parents=True)
    sh("mount", str(other), str(ROOT / "mnt/other"))
    fill(thin("vm-T-root", "vm-pool", 64), "committed")
    return lvs()


def lvs() -> list[str]:
    return sorted(lv.name for lv in lvm.volumes() if "build" in lv.name)


def opened(stack: ExitStack, spec: str, said: StringIO) -> Path:
    WORK.mkdir(exist_ok=True)
    made = source.opened(spec, WORK, Reporter(said))
    return stack.enter_context(made)


def text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def refused(path: Path) -> str:
    try:
        path.write_text("x")
    except OSError as error:
        return error.strerror or ""
    return ""


def view(spec: str) -> object:
    """Read a file system while it is written to."""
    mounts.private()
    live, said = Path(spec), StringIO()
    (live / "before").write_text("first")
    with ExitStack() as stack:
        tree = opened(stack, spec, said)
        (live / "before").write_text("second")
        (live / "after").write_text("second")
        found = {
            "before": text(tree / "before"),
            "after": text(tree / "after"),
            "live": text(live / "before"),
            "boot": text(tree / "boot/kernel"),
            "refused": [refused(tree / n) for n in ("x", "boot/x")],
            "entries": len(list((tree / "usr/bin").glob("*"))),
            "inside": lvs(),
        }
    (live / "after").unlink()
    return {
        **found,
        "said": said.getvalue(),
        "after_lvs": lvs(),
        "mounted": [
            line
            for line in Path("/proc/self/mounts").read_text().splitlines()
            if str(WORK) in line
        ],
    }


def volume(place: str = f"{VG}/vm-T-root", size: int = SIZE) -> Volume:
    return Volume("T", "root", "lvm_thin", place, size, "vm-templates/T/root")


def head(path: Path | None) -> str:
    assert path
    with open(path, "rb") as stream:
        return stream.read(BLOCK).rstrip(b"\0").decode()


def template() -> object:
    """Read a template that runs, and stops while it is read."""
    sh(*("lvcreate", "-q", "-s", "-kn", "-ay", "-n", "vm-T-root-snap"),
       f"{VG}/vm-T-root")  # fmt: skip
    running = Path("/dev", VG, "vm-T-root-snap")
    said = StringIO()
    with open(running, "r+b") as held:
        held.write(b"running".ljust(BLOCK, b"\0"))
        held.flush()
        os.fsync(held.fileno())
        with volumes.opened([volume()], Path("/"), Reporter(said)) as items:
            first = head(items[0].source)
            held.close()
            # what qubesd does when the qube stops
            sh("lvrename", "-q", VG, "vm-T-root", "vm-T-root-1700000000-back")
            sh("lvrename", "-q", VG, "vm-T-root-snap", "vm-T-root")
            then = head(items[0].source)
            inside, size = lvs(), items[0].size
            try:
                fill(items[0].source or Path(), "written")
                writable = True
            except OSError:
                writable = False
    with volumes.opened([volume()], Path("/"), Reporter(StringIO())) as items:
        again = head(items[0].source)
    return {
        "heads": [first, then, again],
        "said": said.getvalue(),
        "inside": inside,
        "size": size,
        "writable": writable,
        "after_lvs": lvs(),
    }


def refusals() -> object:
    """Ask for volumes that are not there or too small, or used in place."""
    found = []
    wrong = [
        volume(size=SIZE + 1),
        volume(place=f"{VG}/vm-gone-root"),
        volume(place=f"{VG}/boot"),
    ]
    for one in wrong:
        try:
            with volumes.opened(
                [volume(), one], Path("/"), Reporter(quiet=True)
            ):
                found.append("")
        except SysPxeError as error:
            found.append(error.explain())
    with open(f"/dev/{VG}/vm-T-root", "rb"):
        try:
            with volumes.opened([volume()], Path("/"), Reporter(quiet=True)):
                found.append("")
        except SysPxeError as error:
            found.append(error.explain())
    return {"found": found, "after_lvs": lvs()}


def disk_of(mib: int, items: list[volumes.Item]) -> str:
    """Build a seed on a disk of that size; return what went wrong."""
    place = Path("/mnt/small")
    place.mkdir(exist_ok=True)
    sh("mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(place))
    try:
        seed.build(place / "seed", items, ["vm-templates"], place, 1,
                   Reporter(quiet=True))  # fmt: skip
    except SysPxeError as error:
        return error.explain()
    finally:
        left = [p.name for p in place.iterdir()]
        sh("umount", str(place))
        assert left == [], left
    return ""


def large() -> object:
    """Look at a large thin volume, nearly empty, and one never written."""
    device = thin("vm-L-private", "vm-pool", LARGE // MIB)
    thin("vm-E-private", "vm-pool", 64)
    sparse(device, LARGE_DATA)
    sizes = {"L": LARGE, "E": SIZE}
    wanted = [
        Volume(qube, "private", "lvm_thin", f"{VG}/vm-{qube}-private", size,
               f"appvms/{qube}/private.img")
        for qube, size in sizes.items()
    ]  # fmt: skip
    sh("lvchange", "-an", f"{VG}/vm-L-private")
    with volumes.opened(wanted, Path("/"), Reporter(quiet=True)) as items:
        found = {
            "mapped": [item.mapped for item in items],
            "sizes": [item.size for item in items],
            "refused": disk_of(SMALL_DISK_MIB, items),
        }
    for qube in sizes:
        sh("lvremove", "-q", "-f", f"{VG}/vm-{qube}-private")
    return {**found, "after_lvs": lvs()}


def sparse(device: Path, count: int) -> None:
    """Write so many bytes that cannot be packed, and one block far away."""
    with open(device, "r+b") as stream:
        for _ in range(count // MIB):
            stream.write(os.urandom(MIB))
        stream.seek(FAR)
        stream.write(b"far away".ljust(BLOCK, b"\0"))
        stream.flush()
        os.fsync(stream.fileno())


def hold() -> None:
    """Open dom0 and a volume, say so, and wait for the end."""
    mounts.private()
    with ExitStack() as stack:
        opened(stack, "/", StringIO())
        made = volumes.opened([volume()], Path("/"), Reporter(quiet=True))
        stack.enter_context(made)
        print("ready", flush=True)
        time.sleep(600)


def ended(number: str) -> object:
    """Start a build, end it by a signal, and look what the next one does."""
    child = subprocess.Popen(
        [sys.executable, __file__, "hold"], stdout=subprocess.PIPE
    )
    assert child.stdout
    ready = child.stdout.readline().decode().strip()
    inside = lvs()
    child.send_signal(signal.Signals[number])
    status = child.wait()
    left = lvs()
    said = StringIO()
    mounts.private()
    with ExitStack() as stack:
        opened(stack, "/", said)
        during = lvs()
    return {
        "ready": ready,
        "inside": inside,
        "status": status,
        "left": left,
        "during": during,
        "said": said.getvalue(),
        "after_lvs": lvs(),
    }


def move_to_lvm() -> None:
    """Put the qubes' images into thin volumes, as Qubes' installer does."""
    document = ElementTree.parse(STORE / "qubes.xml")
    for pool in document.iterfind("pools/pool[@driver='file-reflink']"):
        name = pool.attrib["name"]
        pool.attrib.clear()
        pool.attrib.update(name=name, driver="lvm_thin", volume_group=VG,
                           thin_pool="vm-pool")  # fmt: skip
    for one in document.iterfind(".//volume[@pool='varlibqubes']"):
        image = STORE / f"{one.attrib['vid']}.img"
        for key in {"vid", "source"}.intersection(one.attrib):
            _, qube, kind = one.attrib[key].split("/")
            one.attrib[key] = f"{VG}/vm-{qube}-{kind}"
        if image.exists():
            size = image.stat().st_size // MIB
            made = thin(one.attrib["vid"].split("/")[1], "vm-pool", size)
            sh("dd", f"if={image}", f"of={made}", "bs=1M", "status=none",
               "conv=sparse,fsync")  # fmt: skip
            image.unlink()
    document.write(STORE / "qubes.xml")


def grow(name: str) -> None:
    """Make a volume large, as for a user who wants much space some day."""
    sh("lvextend", "-q", "-L", f"{LARGE}b", f"{VG}/{name}")
    sparse(Path("/dev", VG, name), 0)
    document = ElementTree.parse(STORE / "qubes.xml")
    for one in document.iterfind(f".//volume[@vid='{VG}/{name}']"):
        one.attrib["size"] = str(LARGE)
    document.write(STORE / "qubes.xml")


def grown(path: Path) -> dict[str, object]:
    """Say what is in a seed of the volume that was made large."""
    found = path.stat()
    with open(path, "rb") as stream:
        stream.seek(FAR)
        text = stream.read(BLOCK).rstrip(b"\0").decode()
    return {"size": found.st_size, "data": found.st_blocks * 512, "far": text}


def digest(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def release(
    qubes_set: str, template_name: str, qube: str, large_qube: str
) -> object:
    """Build a release from this dom0 by the command, and look into it."""
    move_to_lvm()
    grow(f"vm-{large_qube}-private")
    command = [sys.executable, "-m", "sys_pxe.dom0"]
    sh(*command, "key", "create")
    built = subprocess.run(
        [*command, "release", "build", "l1", "--compression", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
    )
    found = {
        "status": built.returncode,
        "said": built.stdout[-3000:],
        "after_lvs": lvs(),
        "loops": sh("losetup", "--list", "--noheadings"),
        "building": [p.name for p in (STATE / "releases").glob(".*")],
    }
    if built.returncode:
        return found
    made = STATE / "releases/l1"
    place = Path("/mnt/seed")
    place.mkdir()
    sh("mount", "-o", "loop,ro", str(made / f"volumes-{qubes_set}"), str(place))
    wanted = {
        f"vm-templates/{template_name}/root.img": f"vm-{template_name}-root",
        f"appvms/{qube}/private.img": f"vm-{qube}-private",
    }
    found["same"] = [
        digest(place / image) == digest(Path("/dev", VG, volume))
        for image, volume in wanted.items()
    ]
    found["grown"] = grown(place / f"appvms/{large_qube}/private.img")
    sh("umount", str(place))
    listed = sh("unsquashfs", "-l", str(made / "dom0-root")).splitlines()
    found["root"] = [
        name for name in (f"squashfs-root/{path}" for path in (
            "usr/bin/bash", "etc/hostname", "mnt/other/lost+found",
            "var/lib/sys-pxe/key", "var/lib/qubes/qubes.xml"))
        if name in listed
    ]  # fmt: skip
    found["xml"] = store.read(made / f"qubes-{qubes_set}").xml
    return found


ACTIONS = {
    f.__name__: f
    for f in (setup, view, template, refusals, large, hold, ended, release)
}

if __name__ == "__main__":
    print(json.dumps(ACTIONS[sys.argv[1]](*sys.argv[2:])))
