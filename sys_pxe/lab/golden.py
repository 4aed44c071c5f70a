"""The lab's golden image: Debian with Xen, as a tree that releases come from.

It stands for the installed Qubes OS. It is built once per recipe, beside its
place, and renamed when it is whole; a build that was interrupted is removed
by the next one. Needs root.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.lab import mirror

HOSTNAME = "dom0"
# the programs that measure and use a running machine, below lab/files
PROGRAMS = ("lab-probe", "lab-guest", "lab-block")
PROGRAM_FOLDER = "usr/local/bin"


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a list that is easier to read as one text."""
    return tuple(text.split())


_PACKAGES = _words(
    "systemd systemd-sysv udev kmod dbus login zstd linux-image-amd64 dracut "
    "python3 openssl iproute2 util-linux pciutils xen-utils-common "
    "xenstore-utils btrfs-progs lvm2 thin-provisioning-tools busybox-static"
)

# what no machine of the lab has, or nobody reads; dpkg.cfg(5): * matches /
_EXCLUDED = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/*/kernel/sound/*",
    "/*/kernel/net/bluetooth/*",
    "/*/kernel/net/mac80211/*",
    *(
        f"/*/kernel/drivers/{name}/*"
        for name in _words(
            "gpu media sound bluetooth infiniband iio staging hwmon isdn nfc "
            "mmc mtd comedi accel rtc leds power pinctrl soundwire gnss "
            "firewire memstick thunderbolt net/wireless net/can net/usb "
            "net/wwan net/hamradio net/fddi usb/serial usb/gadget usb/misc "
            "input/touchscreen input/joystick input/tablet platform"
        )
    ),
)

# What Qubes OS does with loop devices in dom0: core-admin-linux,
# system-config/00-qubes-ignore-devices.rules, sets both marks on each of them.
# The first keeps udev from reading what a qube wrote (no blkid, so no link in
# /dev/disk, no volume group, nothing for systemd to mount). By the second,
# linux-utils' udev/udev-qubes-block.rules does not offer the device to qubes;
# images outside of appvms and vm-templates get QUBES_EXPORT_BLOCK_DEVICE, which
# undoes that. No rule keeps partitions away: none is asked of the kernel. The
# pool's seed, outside of /var/lib/qubes, is ours and stays as it is.
_UDEV_RULES = """\
# images of qubes: nothing in dom0 may read what they hold
SUBSYSTEM=="block", KERNEL=="loop*", ACTION!="remove", \\
  ATTR{loop/backing_file}=="/var/lib/qubes/*", \\
  ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1", \\
  ENV{DM_UDEV_DISABLE_DISK_RULES_FLAG}="1"
"""

# files of the finished tree, with their modes
_FILES: Mapping[str, tuple[str, int]] = {
    "etc/hostname": (f"{HOSTNAME}\n", 0o644),
    "etc/hosts": (f"127.0.0.1 localhost {HOSTNAME}\n", 0o644),
    # empty: each boot gets a new one in RAM, machine-id(5)
    "etc/machine-id": ("", 0o444),
    "etc/fstab": ("", 0o644),
    "etc/resolv.conf": ("", 0o644),
    # Xen's daemons end at once without it, and /var/log is emptied
    "etc/tmpfiles.d/lab-xen.conf": ("d /var/log/xen 0755 root root -\n", 0o644),
    "etc/udev/rules.d/00-lab-images.rules": (_UDEV_RULES, 0o644),
}

# no use on a machine that forgets, and slow under emulation
_MASKED = _words(
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer "
    "e2scrub_all.timer e2scrub_reap.service fstrim.timer man-db.timer "
    "systemd-networkd.service systemd-networkd.socket "
    "systemd-network-generator.service systemd-timesyncd.service "
    "systemd-firstboot.service systemd-pstore.service "
    "systemd-random-seed.service systemd-rfkill.service "
    "systemd-rfkill.socket systemd-update-done.service "
    "systemd-hibernate-clear.service systemd-tmpfiles-clean.timer "
    "systemd-journal-catalog-update.service systemd-hwdb-update.service "
    "ldconfig.service systemd-binfmt.service "
    "proc-sys-fs-binfmt_misc.automount systemd-hostnamed.socket "
    "systemd-creds.socket systemd-logind.service systemd-sysusers.service "
    "systemd-machine-id-commit.service dev-hugepages.mount "
    "sys-kernel-debug.mount sys-kernel-tracing.mount "
    "systemd-battery-check.service systemd-remount-fs.service "
    # nothing of LVM at boot; lab-guest starts Xen's daemons when it needs them
    "lvm2-monitor.service lvm2-lvmpolld.socket lvm2-lvmpolld.service "
    "blk-availability.service dm-event.socket dm-event.service "
    "xen.service xendomains.service"
)
# each costs a second or two under emulation; systemd.generator(7): a link to
# /dev/null in /etc takes the place of the one in /usr/lib
_GENERATORS = _words(
    "systemd-debug-generator systemd-fstab-generator "
    "systemd-gpt-auto-generator systemd-hibernate-resume-generator "
    "systemd-rc-local-generator systemd-run-generator systemd-ssh-generator "
    "systemd-system-update-generator systemd-sysv-generator "
    "systemd-tpm2-generator"
)

# what apt, dpkg and the build leave; an image must not hold logs or secrets
_EMPTIED = _words(
    "var/cache/apt var/lib/apt/lists var/log usr/share/doc usr/share/man "
    "usr/share/info usr/share/locale tmp var/tmp"
)
_REMOVED = _words(
    "etc/dpkg/dpkg.cfg.d/lab usr/sbin/policy-rc.d root/.bash_history "
    "var/lib/dbus/machine-id var/lib/systemd/random-seed "
    "var/lib/systemd/credential.secret etc/.pwd.lock etc/shadow- etc/passwd- "
    "etc/group- etc/gshadow- "
    "var/cache/debconf/config.dat-old var/cache/debconf/templates.dat-old "
    "var/lib/dpkg/status-old var/lib/dpkg/available-old"
)

Progress = Callable[[str], None]


def recipe_digest(suite: str) -> str:
    """Return the digest of all that decides what a golden tree looks like."""
    recipe = (suite, _PACKAGES, _EXCLUDED, sorted(_FILES.items()), _MASKED,
              _GENERATORS, _EMPTIED, _REMOVED)  # fmt: skip
    programs = b"".join(program(name) for name in PROGRAMS)
    return hashlib.sha256(repr(recipe).encode() + programs).hexdigest()


def program(name: str) -> bytes:
    """Return a file of lab/files, such as lab-probe."""
    return (resources.files("sys_pxe.lab") / "files" / name).read_bytes()


def golden_tree(cache: Path, progress: Progress) -> Path:
    """Return the golden tree below ``cache``, built if it is not there yet.

    ``progress`` is called with a line about each step. Raises SysPxeError when
    a program fails and Busy when another process builds it. Never write to the
    tree: see :func:`variant`.
    """
    suite = mirror.suite()
    target = cache / f"golden-{suite}-{recipe_digest(suite)[:16]}"
    if target.exists():
        return target
    files.make_folder(cache)
    with files.locked(cache / "golden.lock", "the build of the golden image"):
        for stale in cache.glob(f"{files.TEMPORARY_PREFIX}golden-*"):
            files.remove(stale)
        tree = cache / f"{files.TEMPORARY_PREFIX}{target.name}"
        try:
            _build(tree, suite, progress)
            files.rename(tree, target)
        except BaseException:
            files.remove(tree)
            raise
    return target


@contextmanager
def variant(
    tree: Path, name: str, changes: Mapping[str, bytes]
) -> Iterator[Path]:
    """Yield a tree that differs from ``tree`` in the given files only.

    The keys are paths below the tree. It is an overlay mount: writing to it
    does not touch ``tree``, and it is gone when the block ends.
    """
    with files.scratch(f"sys-pxe-{name}-") as place:
        upper, work, merged = (
            files.make_folder(place / part)
            for part in ("upper", "work", "tree")
        )
        files.set_mode(upper, tree.stat().st_mode & 0o7777)
        layers = f"lowerdir={tree},upperdir={upper},workdir={work}"
        run.run(["mount", "-t", "overlay", "-o", layers, name, str(merged)])
        try:
            for path, content in changes.items():
                _place(merged, path, content, 0o644)
            yield merged
        finally:
            run.run(["umount", "--lazy", str(merged)])


def _build(tree: Path, suite: str, progress: Progress) -> None:
    env = {**mirror.proxies(), "DEBIAN_FRONTEND": "noninteractive"}
    site = mirror.debian_mirror()
    progress(f"debootstrap of Debian {suite} from {site}")
    _private(["debootstrap", "--variant=minbase", suite, str(tree), site], env)
    _place(tree, "etc/dpkg/dpkg.cfg.d/lab", _dpkg_options(), 0o644)
    _place(tree, "usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n", 0o755)
    hypervisor = _hypervisor(tree)
    utilities = f"xen-utils-{hypervisor.split('-')[2]}"
    progress(f"installing {hypervisor}, a kernel and systemd")
    # dracut makes the netboot initramfs later; one made here is of no use
    _private(
        ["chroot", str(tree), "apt-get", "--yes", "--no-install-recommends",
         "install", hypervisor, utilities, *_PACKAGES],
        {**env, "INITRD": "No"},
    )  # fmt: skip
    progress("making it small, quick to boot and free of logs and secrets")
    _customise(tree)


def _hypervisor(tree: Path) -> str:
    """Return the name of the suite's Xen package, which has a version."""
    found = run.run(
        ["chroot", str(tree), "apt-cache", "search", "--names-only",
         "^xen-hypervisor-4[.][0-9]+-amd64$"],
    )  # fmt: skip
    names = [line.split()[0] for line in found.stdout.decode().splitlines()]
    if not names:
        raise SysPxeError("the suite has no package of the Xen hypervisor")
    return max(names, key=lambda name: int(name.split("-")[2].split(".")[1]))


def _customise(tree: Path) -> None:
    # a lab machine has no secrets: whoever sees its console may be root
    run.run(["chroot", str(tree), "passwd", "--delete", "root"])
    for folder in _EMPTIED:
        for path in sorted((tree / folder).glob("*")):
            files.remove(path)
    for name in _REMOVED:
        files.remove(tree / name)
    for name, (content, mode) in _FILES.items():
        _place(tree, name, content.encode(), mode)
    for name in PROGRAMS:
        _place(tree, f"{PROGRAM_FOLDER}/{name}", program(name), 0o755)
    for unit in _MASKED:
        files.link_to(tree / "etc/systemd/system" / unit, "/dev/null")
    generators = files.make_folder(tree / "etc/systemd/system-generators")
    for generator in _GENERATORS:
        files.link_to(generators / generator, "/dev/null")


def _place(tree: Path, name: str, content: bytes, mode: int) -> None:
    """Write a file of a tree; a file that is there keeps its mode."""
    if name.startswith("/") or ".." in name.split("/"):
        raise InvalidInput(f"{name!r} is not a path below the tree")
    path = tree / name
    files.make_folder(path.parent)
    if path.is_file() and not path.is_symlink():
        mode = path.stat().st_mode & 0o7777
    files.write(path, content, mode)


def _dpkg_options() -> bytes:
    lines = ["force-unsafe-io", *(f"path-exclude={path}" for path in _EXCLUDED)]
    return "".join(f"{line}\n" for line in lines).encode()


def _private(argv: list[str], env: Mapping[str, str]) -> None:
    """Run a program whose mounts and children end with it, at any end."""
    run.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", *argv],
        env=env,
        hint=f"is the mirror reachable? {mirror.MIRROR_VARIABLE} names another",
    )
