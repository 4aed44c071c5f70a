"""The sys-pxe qube as the Salt formula makes it, in a QEMU machine of the lab.

Salt applies ``sys-pxe.install`` to a tree of Debian and ``sys-pxe.configure``
in the running machine; systemd starts the units. What stands in for Qubes OS
are a few files: the flag of the qube's service, /rw with bind-dirs, the
firewall's table.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import golden, mirror
from sys_pxe.lab.machine import Hardware, Machine
from sys_pxe.lab.network import Lan

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = "requirements-salt.txt"
MAC = "52:54:00:00:00:f1"
SALT = "usr/local/bin/salt-call"
_MEMORY_MIB = 1024
_IMAGE_MIB = 1536
_INITRAMFS = "boot/initramfs-of-the-qube"
# Qubes' own names and rules, so far as the formula meets them: the tables of
# qubes-core-agent-networking, loaded before the network comes up
_FIREWALL = """\
table ip qubes {
    chain input {
        type filter hook input priority filter; policy drop;
        jump custom-input
        ct state invalid drop
        ct state related,established accept
        iif lo accept
    }
    chain custom-input {}
}
table ip6 qubes {
    chain input {
        type filter hook input priority filter; policy drop;
        jump custom-input
        ct state related,established accept
        iif lo accept
        meta l4proto ipv6-icmp accept
    }
    chain custom-input {}
}
"""
_FIREWALL_UNIT = """\
[Unit]
Before=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/qubes-firewall.nft
[Install]
RequiredBy=network-pre.target
"""
# what the qube's root forgets and /rw keeps: as bind-dirs.sh does it
_BIND_DIRS = """\
binds=()
for file in /usr/lib/qubes-bind-dirs.d/*.conf; do . "$file"; done
for bind in "${binds[@]}"; do
    mkdir -p "/rw/bind-dirs$(dirname "$bind")"
    [ -e "/rw/bind-dirs$bind" ] || cp --archive "$bind" "/rw/bind-dirs$bind"
    mount --bind "/rw/bind-dirs$bind" "$bind"
done
"""
_BIND_DIRS_UNIT = """\
[Unit]
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash /etc/qubes-bind-dirs.sh
[Install]
WantedBy=sysinit.target
"""
_FILES: Mapping[str, str] = {
    "etc/hostname": "sys-pxe\n",
    "etc/qubes-firewall.nft": _FIREWALL,
    "etc/systemd/system/qubes-iptables.service": _FIREWALL_UNIT,
    "etc/qubes-bind-dirs.sh": _BIND_DIRS,
    "etc/systemd/system/qubes-bind-dirs.service": _BIND_DIRS_UNIT,
    # the features of the qube, as Qubes' agent shows them
    "etc/tmpfiles.d/qubes.conf": "f /run/qubes-service/sys-pxe 0644\n",
    "rw/config/.keep": "",
}
# besides what the formula installs: for Salt, and for the tests to look with
_PACKAGES = ("ca-certificates", "python3-venv", "nftables", "procps", "curl")
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

Progress = Callable[[str], None]


def base_tree(cache: Path, progress: Progress) -> Path:
    """Return the tree that has Salt, below ``cache``; made if it is absent."""
    tree = golden.golden_tree(cache, progress)
    wanted = (REPOSITORY / REQUIREMENTS).read_bytes()
    parts = (tree.name, wanted, _PACKAGES, sorted(_FILES.items()))
    recipe = repr(parts).encode()
    recipe += salt_call_source()
    target = cache / f"qube-{hashlib.sha256(recipe).hexdigest()[:16]}"
    if target.exists():
        return target
    with files.locked(cache / "qube.lock", "the build of the qube's tree"):
        for stale in cache.glob(f"{files.TEMPORARY_PREFIX}qube-*"):
            files.remove(stale)
        made = cache / f"{files.TEMPORARY_PREFIX}{target.name}"
        try:
            progress("the qube's tree: Salt, and an initramfs for a disk")
            run.run(["cp", "-a", str(tree), str(made)])
            _prepare(made)
            files.rename(made, target)
        except BaseException:
            files.remove(made)
            raise
    return target


def _prepare(tree: Path) -> None:
    for name, text in _FILES.items():
        files.make_folder((tree / name).parent)
        files.write(tree / name, text.encode())
    inside(tree, "systemctl", "enable", "qubes-iptables", "qubes-bind-dirs")
    # what a package starts in here would be on the network of this machine
    files.write(tree / "usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n", 0o755)
    files.copy(REPOSITORY / REQUIREMENTS, tree / "root" / REQUIREMENTS)
    install(tree, *_PACKAGES)
    # this machine may have authorities of its own
    files.copy(_AUTHORITIES, tree / _AUTHORITIES.relative_to("/"))
    inside(tree, "python3", "-m", "venv", "/opt/salt")
    inside(tree, "/opt/salt/bin/pip", "install", "--quiet", "-r",
           f"/root/{REQUIREMENTS}")  # fmt: skip
    files.write(tree / SALT, salt_call_source(), 0o755)
    disk_initramfs(tree, _INITRAMFS)


def install(tree: Path, *packages: str) -> None:
    """Install Debian packages in a tree, from where the tree itself is."""
    files.copy(Path("/etc/resolv.conf"), tree / "etc/resolv.conf")
    inside(tree, "apt-get", "--quiet", "update")
    inside(tree, "apt-get", "--yes", "--no-install-recommends", "install",
           *packages)  # fmt: skip


def disk_initramfs(tree: Path, path: str) -> None:
    """Make an initramfs below a tree for a machine with the tree on a disk."""
    inside(
        tree, "dracut", "--force", "--no-hostonly", "--no-early-microcode",
        "--modules", "base rootfs-block fs-lib kernel-modules udev-rules",
        "--drivers", "virtio_blk virtio_pci ext4", "--filesystems", "ext4",
        "--kver", kernel(tree), f"/{path}",
    )  # fmt: skip


def salt_call_source() -> bytes:
    """Return the program that starts Salt in the qube."""
    return (resources.files("sys_pxe.lab") / "files/salt-call").read_bytes()


def kernel(tree: Path) -> str:
    """Return the version of the tree's kernel."""
    return max(p.name for p in (tree / "usr/lib/modules").iterdir())


def inside(tree: Path, *argv: str, check: bool = True) -> bytes:
    """Run a program in a tree, with /proc, and return what it printed."""
    return run.run(
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("--root", str(tree), "--mount-proc", "--", *argv),
        ],
        env={
            **mirror.proxies(),
            **mirror.python_index(),
            "DEBIAN_FRONTEND": "noninteractive",
            "TMPDIR": "/var/tmp",  # noqa: S108 (inside)
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
        },
        check=check,
        hint=f"is the mirror reachable? {mirror.MIRROR_VARIABLE} names another",
    ).stdout


def salt(
    tree: Path, state: str, pillar: Mapping[str, object]
) -> dict[str, dict[str, object]]:
    """Apply a state of /srv/salt in a tree; return state id -> its result.

    Raises SysPxeError with the comments of what failed.
    """
    argv = salt_argv(state, pillar)
    return outcome(inside(tree, *argv, check=False), state)


def salt_argv(state: str, pillar: Mapping[str, object]) -> list[str]:
    """Return the command that applies a state in a machine or tree."""
    return [
        *(f"/{SALT}", "--local", "--retcode-passthrough", "--out", "json"),
        *("--log-level", "error", "--file-root", "/srv/salt"),
        *("state.apply", state, f"pillar={json.dumps(pillar)}"),
    ]


def outcome(printed: bytes, state: str) -> dict[str, dict[str, object]]:
    """Return what salt-call's JSON says of each state id."""
    try:
        found = json.loads(printed[printed.index(b"{") :])["local"]
    except (ValueError, KeyError):
        found = None
    if not isinstance(found, dict):
        said = printed[-1000:].decode("utf-8", "replace")
        raise SysPxeError(f"salt-call did not apply {state}: {said}")
    failed = [
        f"{key.split('_|-')[1]}: {row['comment']}"
        for key, row in found.items()
        if row["result"] is False
    ]
    if failed:
        raise SysPxeError(f"{state}: " + "; ".join(failed))
    return found


def image(tree: Path, target: Path) -> Path:
    """Make a disk image (ext4) of a tree and return its path."""
    files.new_sparse(target, _IMAGE_MIB << 20).close()
    run.run(["mke2fs", "-q", "-t", "ext4", "-L", "qube", "-d", str(tree),
             str(target)])  # fmt: skip
    return target


def machine(lan: Lan, tree: Path, disk: Path, folder: Path) -> Machine:
    """Return the qube's machine: one PCI card, its root on a disk."""
    boot = tree / f"boot/vmlinuz-{kernel(tree)}"
    hardware = Hardware(
        MAC,
        memory=_MEMORY_MIB,
        nic="virtio-net-pci",
        disks=(disk,),
        disk_device="virtio-blk-pci",
        firmware=(
            *("-kernel", str(boot), "-initrd", str(tree / _INITRAMFS)),
            "-append",
            "root=/dev/vda rw console=ttyS0 lsm=landlock,lockdown,yama",
        ),
    )
    return Machine(lan, "sys-pxe", lan.tap("tap-sys-pxe"), hardware, folder)
