"""The VM pool in RAM: a btrfs seed with a zram sprout, against its peers.

All are made in one QEMU machine, with the kernel of the lab's golden image,
and by the client's own code where it is ours. The peers are (a) the image
unpacked to a tmpfs, (b) the same on an XFS with reflink on a zram, (c) LVM
thin volumes with an external origin in a squashfs. Each comes from what a
client fetches: the seed, or a squashfs of the same image at the same level.
"""

import hashlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sys_pxe import files, run
from sys_pxe.dom0 import seed, squash
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.volumes import Item
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import golden, qube
from sys_pxe.lab.machine import Hardware, Machine
from sys_pxe.lab.network import Lan
from tests.bench import pool_guest, pool_kinds, rows, sources

MIB = 1 << 20
BUILD = rows.FOLDER.parent
REPOSITORY = BUILD.parent
# the golden image's /usr without what dom0 gives a qube: the kernel's modules
LEFT_OUT = "usr/lib/modules"
# and some of this machine's, in MiB
MORE = {"bin": 70, "lib/x86_64-linux-gnu": 80, "share": 80}
SMALL = "usr/bin"
# what a seed looks like is theirs to say
SEED = tuple(
    f"sys_pxe/dom0/{name}.py" for name in ("seed", "seed_fill", "seed_image")
)
IMAGE_MIB, ROOT_MIB, CODE_MIB = 2048, 1024, 64
RAM_MIB = 3584
PACKAGES = ("xfsprogs", "squashfs-tools")
CODE = "opt/sys-pxe"
GUEST = "tests.bench.pool_guest"
GUEST_FILES = tuple(
    f"tests/bench/{name}.py" for name in ("pool_guest", "pool_kinds")
)
INITRAMFS = "boot/initramfs-of-the-bench"
# the first process: systemd and udev would take minutes, and move the figures
INIT = "usr/local/sbin/bench-init"
INIT_TEXT = """\
#!/bin/bash
export PATH=/usr/sbin:/usr/bin HOME=/root PS1='# '
mkdir -p /run/lock
printf 'bench login: '
read -r _
exec setsid --ctty --wait bash --norc </dev/ttyS0 >/dev/ttyS0 2>&1
"""
BOOT_SECONDS, CALL_SECONDS = 600.0, 600.0
TURNS = 3
NAMES = {
    "raw": "raw in tmpfs",
    "xfs": "XFS on zram",
    "thin": "LVM thin on squashfs",
}
# the least ratios: RAM at most 0.4, 0.75, 1.1 of the peers'
RAM_AIMS = {"raw": 1 / 0.4, "xfs": 1 / 0.75, "thin": 1 / 1.1}
READY_AIMS = {"xfs": 10.0}
# a large template may take at most 1.3 times as long as a small one
SIZED_AIM = 1 / 1.3
SEQUENTIAL_AIMS = {"xfs": 0.5}
QUIET = Reporter(quiet=True)

Found = dict[str, Any]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cached(name: str, recipe: object, make: Callable[[Path], None]) -> Path:
    """Return a folder below build/cache that is made once per recipe."""
    cache = files.make_folder(BUILD / "cache")
    digest = hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]
    target = cache / f"{name}-{digest}"
    with files.locked(cache / f"{name}.lock", f"the build of {name}"):
        if target.exists():
            return target
        for stale in (
            *cache.glob(f"{files.TEMPORARY_PREFIX}{name}-*"),
            *cache.glob(f"{name}-*"),
        ):
            files.remove(stale)
        made = cache / f"{files.TEMPORARY_PREFIX}{target.name}"
        try:
            make(files.make_folder(made))
            files.rename(made, target)
        except BaseException:
            files.remove(made)
            raise
    return target


def image(path: Path, tree: Path) -> None:
    """Make the image of a template: nothing in it is filled in later."""
    full = path.with_suffix(".full")
    files.new_sparse(full, IMAGE_MIB * MIB).close()
    run.run(["mke2fs", "-q", "-t", "ext4", "-E",
             "lazy_itable_init=0,lazy_journal_init=0", "-d", str(tree),
             str(full)])  # fmt: skip
    run.run(["cp", "--sparse=always", str(full), str(path)])
    files.remove(full)


def make_artifacts(folder: Path, golden_tree: Path) -> None:
    """Make the seeds and the squashfs of a large and a small template."""
    say("the templates: images, seeds, squashfs")
    tree = files.make_folder(folder / "tree")
    run.run(["cp", "-a", str(golden_tree / "usr"), str(tree)])
    files.remove(tree / LEFT_OUT)
    for name, mib in MORE.items():
        for path in sources.some_files(Path("/usr") / name, mib * MIB):
            target = tree / "more" / path.relative_to("/")
            files.make_folder(target.parent)
            shutil.copy(path, target)
    for size, content in (("large", tree), ("small", tree / SMALL)):
        source = folder / pool_kinds.SQUASHED
        image(source, content)
        seed.build(
            folder / f"seed-{size}",
            [Item(pool_kinds.TEMPLATE, source, source.stat().st_size)],
            ["appvms"],
            folder,
            squash.DEFAULT_LEVEL,
            QUIET,
        )
        run.run(
            ["mksquashfs", str(source), str(folder / f"squash-{size}"),
             "-noappend", "-quiet", "-no-progress", "-comp", "zstd",
             "-Xcompression-level", str(squash.DEFAULT_LEVEL)]
        )  # fmt: skip
        files.remove(source)
    files.remove(tree)


def make_system(folder: Path, golden_tree: Path) -> None:
    """Make the root with the peers' tools, its kernel and initramfs."""
    say("the machine's root and its initramfs")
    with golden.variant(golden_tree, "pool-bench", {}) as tree:
        qube.install(tree, *PACKAGES)
        files.make_folder(tree / CODE)
        files.write(tree / INIT, INIT_TEXT.encode("ascii"), 0o755)
        version = qube.kernel(tree)
        qube.disk_initramfs(tree, INITRAMFS)
        files.copy(tree / f"boot/vmlinuz-{version}", folder / "kernel")
        files.copy(tree / INITRAMFS, folder / "initramfs")
        for left in ("var/cache/apt/archives", "var/lib/apt/lists"):
            for path in (tree / left).iterdir():
                files.remove(path)
        disk(folder / "root", ROOT_MIB, tree)


def disk(path: Path, mib: int, tree: Path) -> None:
    files.new_sparse(path, mib * MIB).close()
    run.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(path)])


def code(folder: Path) -> Path:
    """Make the disk with the package and the guest's program."""
    tree = files.make_folder(folder / "code-tree")
    run.run(["cp", "-r", str(REPOSITORY / "sys_pxe"), str(tree)])
    for name in GUEST_FILES:
        files.make_folder((tree / name).parent)
        files.copy(REPOSITORY / name, tree / name)
    disk(folder / "code", CODE_MIB, tree)
    return folder / "code"


@contextmanager
def guest(folder: Path) -> Iterator[Machine]:
    """Yield the machine, logged in, with the artifacts on its disks."""
    cache = BUILD / "cache"
    tree = golden.golden_tree(cache, say)
    writers = [(REPOSITORY / name).read_bytes() for name in SEED]
    made = cached(
        "pool-artifacts",
        (
            tree.name,
            writers,
            LEFT_OUT,
            MORE,
            SMALL,
            IMAGE_MIB,
            pool_kinds.TEMPLATE,
        ),
        lambda place: make_artifacts(place, tree),
    )
    system = cached(
        "pool-system",
        (tree.name, PACKAGES, CODE, INIT, INIT_TEXT, ROOT_MIB),
        lambda place: make_system(place, tree),
    )
    root = folder / "root"
    run.run(["cp", "--sparse=always", str(system / "root"), str(root)])
    artifacts = [made / f"{k}-{s}" for k, s in pool_guest.DISKS]
    hardware = Hardware(
        "52:54:00:00:00:f3",
        memory=RAM_MIB,
        nic="virtio-net-pci",
        disks=(root, code(folder), *artifacts),
        disk_device="virtio-blk-pci",
        firmware=(
            *("-kernel", str(system / "kernel")),
            *("-initrd", str(system / "initramfs"), "-append"),
            f"root=/dev/vda rw console=ttyS0 init=/{INIT} "
            "lsm=landlock,lockdown,yama",
        ),
    )
    with Lan("192.0.2.254/24") as lan:
        tap = lan.tap("tap-pool")
        with Machine(lan, "pool-bench", tap, hardware, folder) as machine:
            machine.login(BOOT_SECONDS)
            machine.command(f"mount -r /dev/vdb /{CODE}")
            yield machine


def call(machine: Machine, *words: str) -> Found:
    """Run an action of the guest's program and return its answer."""
    begin = time.monotonic()
    line = shlex.join(
        [
            *("env", f"PYTHONPATH=/{CODE}", "PYTHONDONTWRITEBYTECODE=1"),
            *("python3", "-m", GUEST, *words),
        ]
    )
    printed = machine.command(f"{line} 2>&1", CALL_SECONDS)
    last = printed.strip().splitlines()[-1]
    say(f"  {time.monotonic() - begin:5.0f} s {' '.join(words)}: {last}")
    try:
        found = json.loads(last)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SysPxeError(f"the machine said {printed[-400:]!r}")
    return found


def measured(machine: Machine) -> dict[str, Found]:
    """Return kind -> what was measured of it."""
    call(machine, "setup")
    found: dict[str, Found] = {}
    for name in pool_kinds.KINDS:
        of = found[name] = {"reads": []}
        for size in ("small", "large"):
            of[size] = call(machine, "ready", name, size)
        of["roots"] = call(machine, "roots", name)
    for turn in range(TURNS):
        for name, of in found.items():
            of["reads"].append(call(machine, "reads", name, str(turn)))
    for name, of in found.items():
        of["writes"] = call(machine, "writes", name)
    return found


def against(
    what: str,
    unit: str,
    found: dict[str, Found],
    figure: Callable[[Found], Sequence[float]],
    aims: dict[str, float],
    more_is_better: bool = False,
) -> list[rows.Row]:
    """Return the rows of one figure, ours against each peer's."""
    ours = list(figure(found["ours"]))
    return [
        rows.compared(
            what,
            NAMES[name],
            unit,
            {"ours": ours, "theirs": list(figure(found[name]))},
            aims.get(name),
            more_is_better=more_is_better,
        )
        for name in NAMES
    ]


def given_back(of: Found) -> list[float]:
    """Return how many percent of what was written came back."""
    taken, left = of["writes"]["taken"], of["writes"]["left"]
    share = 100 * (taken["known"] - left["known"]) / taken["known"]
    # none at all is no ratio
    return [max(share, 0.1)]


def grown(of: Found, key: str) -> list[float]:
    return [of["large"][key] + of["roots"][key]]


def table(found: dict[str, Found]) -> list[rows.Row]:
    """Return all rows of what was measured."""

    def of(size: str, key: str) -> Callable[[Found], Sequence[float]]:
        return lambda f: [f[size][key]]

    count = f"{pool_guest.QUBES} app-qube roots"
    note = f"{count} (the tmpfs': one copy times {pool_guest.QUBES})"
    mib = pool_guest.WRITTEN // MIB
    made = [
        *against("RAM in use, ready", "MiB", found, of("large", "ram"),
                 RAM_AIMS),
        *against("known of it: tmpfs, zram and its table", "MiB", found,
                 of("large", "known"), {}),
        *against(f"RAM in use with {note}", "MiB", found,
                 lambda f: grown(f, "ram"), RAM_AIMS),
        *against("artifacts in RAM to ready", "s", found,
                 lambda f: f["large"]["seconds"], READY_AIMS),
        *against("the same, small template", "s", found,
                 lambda f: f["small"]["seconds"], {}),
        *against("sequential read, cold", "MiB/s", found,
                 lambda f: [r["sequential"] for r in f["reads"]],
                 SEQUENTIAL_AIMS, more_is_better=True),
        *against("4 KiB reads anywhere, cold", "/s", found,
                 lambda f: [r["random"] for r in f["reads"]], {},
                 more_is_better=True),
        *against(f"RAM taken by {mib} MiB written to an app qube's root",
                 "MiB", found, lambda f: [f["writes"]["taken"]["known"]], {}),
        *against("of it given back by rm and fstrim", "%", found,
                 given_back, {}, more_is_better=True),
    ]  # fmt: skip
    ours = found["ours"]
    runs = {"ours": ours["large"]["seconds"],
            "theirs": ours["small"]["seconds"]}  # fmt: skip
    sized = rows.compared("artifacts in RAM to ready", "ours, small template",
                          "s", runs, SIZED_AIM,
                          more_is_better=False)  # fmt: skip
    return [*made, sized]


def bench() -> list[rows.Row]:
    folder = BUILD / "bench-pool"
    files.remove(folder)
    files.make_folder(folder)
    with guest(folder) as machine:
        found = measured(machine)
    for name in ("root", "code", "code-tree"):
        files.remove(folder / name)
    return table(found)
