"""Runs inside the machine of the pool bench: makes pools, and measures them.

``python3 -m tests.bench.pool_guest ACTION ...`` writes one line of JSON. All
pools are there at the same time, so that what is read of them is read in turn.
The volumes are read as xen-blkback reads them: a loop device (or LVM's) past
its own cache. RAM is in MiB, times in seconds.
"""

import contextlib
import json
import mmap
import os
import random
import re
import sys
import time
from pathlib import Path

from sys_pxe.client import fetch, pool
from tests.bench.pool_kinds import KINDS, MIB, RAM, TEMPLATE, Raw, control, sh

# struct zram_table_entry of Debian's kernel, with CONFIG_ZRAM_TRACK_ENTRY_
# ACTIME; mm_stat does not count it
TABLE_ENTRY, PAGE = 24, 4096
MODULES = (*pool.MODULES, "xfs", "squashfs", "dm-thin-pool", "dm-mod")
DISKS = {
    ("seed", "large"): "/dev/vdc",
    ("squash", "large"): "/dev/vdd",
    ("seed", "small"): "/dev/vde",
    ("squash", "small"): "/dev/vdf",
}
STEP = 256 << 10
SEQUENTIAL, WRITTEN = 24 * MIB, 32 * MIB
RANDOM_READS = 100
QUBES = 10
# not with --config: that would become a part of the volume group's text
LVM_FILE = Path("/etc/lvm/lvmlocal.conf")
LVM = """devices {
 use_devicesfile=0 obtain_device_list_from_udev=0
 global_filter=["a|^/dev/loop5$|","a|^/dev/mapper/tpl$|","r|.*|"]
}
activation { udev_sync=0 udev_rules=0 monitoring=0 }
backup { backup=0 archive=0 }
"""


def free_pages(text: str) -> int:
    """Return the pages that nobody has, of the text of /proc/zoneinfo.

    MemFree leaves out the processors' own lists, some ten MiB.
    """
    lists = re.findall(r"^ +count: +([0-9]+)$", text, re.MULTILINE)
    free = re.findall(r"^ +nr_free_pages +([0-9]+)$", text, re.MULTILINE)
    return sum(int(number) for number in (*lists, *free))


def used() -> float:
    """Return the RAM in use, less what the kernel gives back when asked."""
    found = []
    os.sync()
    control("/proc/sys/vm/compact_memory", "1")
    for _ in range(3):
        control("/proc/sys/vm/drop_caches", "3")
        time.sleep(0.3)
        text = Path("/proc/meminfo").read_text("ascii")
        rows = dict(re.findall(r"^(\S+): +([0-9]+)", text, re.MULTILINE))
        pages = free_pages(Path("/proc/zoneinfo").read_text("ascii"))
        kib = int(rows["MemTotal"]) - pages * PAGE // 1024
        # pages of files of a disk, which programs have mapped
        for name in ("Active(file)", "Inactive(file)"):
            kib -= int(rows[name])
        found.append(kib / 1024)
    return min(found)


def parts() -> dict[str, float]:
    """Return what is known exactly: tmpfs, the zrams, and their tables."""
    at = os.statvfs(RAM)
    stored = table = 0
    for block in Path("/sys/block").glob("zram*"):
        pages = int((block / "disksize").read_text()) // PAGE
        stored += int((block / "mm_stat").read_text().split()[2])
        table += pages * TABLE_ENTRY
    taken = (at.f_blocks - at.f_bfree) * at.f_frsize
    return {
        "tmpfs": taken / MIB,
        "zram": stored / MIB,
        "table": table / MIB,
    }


class Gauge:
    """Tells what RAM was taken since it was made."""

    def __init__(self) -> None:
        self._used, self._parts = used(), parts()

    def read(self) -> dict[str, float]:
        now = used()
        found = {k: v - self._parts[k] for k, v in parts().items()}
        known = sum(found.values())
        return {"ram": now - self._used, "known": known, **found}


def load(kind: str, size: str) -> Path:
    """Copy an artifact into RAM, as the client fetches it."""
    target = RAM / f"{kind}-{size}"
    with (
        open(DISKS[kind, size], "rb", buffering=0) as source,
        open(target, "wb", buffering=0) as made,
    ):
        total = source.seek(0, os.SEEK_END)
        source.seek(0)
        made.truncate(total)
        buffer = memoryview(bytearray(fetch._STEP))
        at = 0
        while count := source.readinto(buffer):
            fetch.write_sparse(made, at, buffer[:count])
            at += count
    return target


def setup() -> object:
    """Load all modules, which takes some their seconds of self-tests."""
    sh("modprobe", "-a", *MODULES)
    LVM_FILE.write_text(LVM, "ascii")
    RAM.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=90%", "sys-pxe", str(RAM))
    Path("/sys/class/zram-control/hot_add").read_text("ascii")
    algorithm = Path("/sys/block/zram1/comp_algorithm").read_text("ascii")
    kernel = os.uname().release
    return {"kernel": kernel, "zram": algorithm.strip()}


def ready(name: str, size: str) -> object:
    """Make a pool; the large one stays."""
    kind = KINDS[name]
    gauge = Gauge()
    artifact = load(kind.artifact, size)
    seconds = []
    for number in range(kind.runs):
        if number:
            kind.undo(artifact)
        os.sync()
        control("/proc/sys/vm/drop_caches", "3")
        begin = time.monotonic()
        kind.make(artifact)
        seconds.append(time.monotonic() - begin)
    kind.done(artifact)
    found = gauge.read()
    if size == "small":
        kind.undo(artifact)
        artifact.unlink(missing_ok=True)
    return {"seconds": seconds, **found}


def roots(name: str) -> object:
    """Make the roots of app qubes; of copies, one stands for all."""
    kind, gauge = KINDS[name], Gauge()
    count = 1 if name == "raw" else QUBES
    for number in range(count):
        kind.root(number)
    return {k: v * QUBES / count for k, v in gauge.read().items()}


def spans() -> list[tuple[int, int]]:
    """Return where the template has data, by the copy that has holes."""
    found, end = [], 0
    with (
        open(Raw.place / TEMPLATE, "rb", buffering=0) as stream,
        contextlib.suppress(OSError),  # ENXIO: no data from here on
    ):
        while True:
            first = os.lseek(stream.fileno(), end, os.SEEK_DATA)
            end = os.lseek(stream.fileno(), first, os.SEEK_HOLE)
            found.append((first, end))
    return found


def fullest(data: list[tuple[int, int]], turn: int) -> int:
    """Return where a window begins that is full of data; each turn its own."""
    inside: dict[int, int] = {}
    for first, end in data:
        at = first - first % SEQUENTIAL
        while at < end:
            part = min(end, at + SEQUENTIAL) - max(first, at)
            inside[at] = inside.get(at, 0) + part
            at += SEQUENTIAL
    return sorted(inside, key=lambda at: (-inside[at], at))[turn]


def reads(name: str, turn: str) -> object:
    """Read a template's volume, in order and here and there; turn 0 to 2."""
    data = spans()
    first = fullest(data, int(turn))
    maker = random.Random(int(turn))
    pages = [at for span in data for at in range(*span, PAGE)]
    chosen = [p - p % PAGE for p in maker.sample(pages, RANDOM_READS)]
    kind = KINDS[name]
    device = kind.template()
    buffer = mmap.mmap(-1, STEP)
    rates = []
    try:
        fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
        for places, size in (
            (list(range(first, first + SEQUENTIAL, STEP)), STEP),
            (chosen, PAGE),
        ):
            control("/proc/sys/vm/drop_caches", "3")
            part = memoryview(buffer)[:size]
            begin = time.monotonic()
            for at in places:
                os.preadv(fd, [part], at)
            rates.append(len(places) / (time.monotonic() - begin))
        os.close(fd)
    finally:
        if "loop" in device:
            sh("losetup", "--detach", device)
    return {"sequential": rates[0] * STEP / MIB, "random": rates[1]}


def writes(name: str) -> object:
    """Write to the root of an app qube as the qube would, and remove it."""
    device = KINDS[name].app()
    place = Path("/mnt/app")
    place.mkdir(exist_ok=True)
    sh("mount", "-t", "ext4", "-o", "noatime", device, str(place))
    gauge = Gauge()
    with open(place / "written", "wb", buffering=0) as made:
        for _ in range(WRITTEN // MIB):
            made.write(os.urandom(MIB))
        os.fsync(made.fileno())
    taken = gauge.read()
    (place / "written").unlink()
    os.sync()
    sh("fstrim", str(place))
    os.sync()
    # what was freed may be given back some moments later
    time.sleep(3)
    left = gauge.read()
    sh("umount", str(place))
    if "loop" in device:
        sh("losetup", "--detach", device)
    return {"taken": taken, "left": left}


ACTIONS = {f.__name__: f for f in (setup, ready, roots, reads, writes)}

if __name__ == "__main__":
    print(json.dumps(ACTIONS[sys.argv[1]](*sys.argv[2:])))
