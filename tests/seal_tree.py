"""Trees with all that is sealed, and what is seen of a tree."""

import os
import stat
from pathlib import Path

UNITS = "etc/systemd/system"
# a rule's path -> what it must change, and what beside it must stay
PLACES = {
    "etc/fstab": ("etc/fstab", "etc/fstab.d/x"),
    "etc/crypttab": ("etc/crypttab", "etc/crypttab.txt"),
    "etc/cryptsetup-keys.d/*": ("etc/cryptsetup-keys.d/x.key", "etc/x"),
    "etc/luks-keys/*": ("etc/luks-keys/.hidden", "etc/luks-keys.txt"),
    f"{UNITS}/*.swap": (f"{UNITS}/dev-sda2.swap", f"{UNITS}/swap.service"),
    f"{UNITS}/swap.target.wants/*": (
        f"{UNITS}/swap.target.wants/x.swap",
        f"{UNITS}/basic.target.wants/x.service",
    ),
    "swapfile": ("swapfile", "srv/swapfile"),
    "swap.img": ("swap.img", "srv/swap.img"),
    "swap/swapfile": ("swap/swapfile", "swap/readme"),
    "var/swapfile": ("var/swapfile", "var/swapfile.txt"),
    "etc/systemd/zram-generator.conf": (
        "etc/systemd/zram-generator.conf",
        "usr/lib/systemd/zram-generator.conf",
    ),
    "etc/systemd/system-generators/zram-generator": (
        "etc/systemd/system-generators/zram-generator",
        "usr/lib/systemd/system-generators/zram-generator",
    ),
    "etc/lvm/devices/*": ("etc/lvm/devices/system.devices", "etc/lvm/x"),
    "etc/lvm/archive/*": ("etc/lvm/archive/qubes_dom0_1.vg", "etc/lvm/x"),
    "etc/lvm/backup/*": ("etc/lvm/backup/qubes_dom0", "etc/lvm/x"),
    "etc/lvm/cache/*": ("etc/lvm/cache/.cache", "etc/lvm/x"),
    "etc/lvm/lvm_*.conf": ("etc/lvm/lvm_host.conf", "etc/lvm/lvm.conf"),
    "etc/lvm/lvmlocal.conf": ("etc/lvm/lvmlocal.conf", "etc/lvm/lvm.conf"),
    "etc/mdadm/mdadm.conf": ("etc/mdadm/mdadm.conf", "etc/mdadm/x"),
    "etc/mdadm.conf": ("etc/mdadm.conf", "etc/mdadm.conf.txt"),
    "etc/multipath/bindings": ("etc/multipath/bindings", "etc/multipath/x"),
    "etc/multipath/wwids": ("etc/multipath/wwids", "etc/multipath/x"),
    "boot": ("boot/initramfs-6.12.img", "usr/boot/x"),
    "usr/lib/modules/*/initrd*": (
        "usr/lib/modules/6.12/initrd",
        "usr/lib/modules/6.12/vmlinuz",
    ),
    "usr/lib/modules/*/initramfs*": (
        "usr/lib/modules/6.12/initramfs.img",
        "usr/lib/modules/6.12/modules.dep",
    ),
    "etc/machine-id": ("etc/machine-id", "etc/machine-info"),
    "var/lib/dbus/machine-id": ("var/lib/dbus/machine-id", "var/lib/dbus/x"),
    "etc/ssh/ssh_host_*": ("etc/ssh/ssh_host_rsa_key", "etc/ssh/sshd_config"),
    "etc/iscsi/initiatorname.iscsi": (
        "etc/iscsi/initiatorname.iscsi",
        "etc/iscsi/iscsid.conf",
    ),
    "etc/nvme/hostnqn": ("etc/nvme/hostnqn", "etc/nvme/discovery.conf"),
    "etc/nvme/hostid": ("etc/nvme/hostid", "etc/nvme/discovery.conf"),
    "var/lib/fwupd/pki/*": ("var/lib/fwupd/pki/secret.key", "var/lib/fwupd/x"),
    "root/*-ks.cfg": ("root/anaconda-ks.cfg", "root/ks.cfg"),
    "var/lib/systemd/random-seed": (
        "var/lib/systemd/random-seed",
        "var/lib/systemd/catalog/database",
    ),
    "var/lib/random-seed": ("var/lib/random-seed", "var/lib/x"),
    "var/lib/urandom/random-seed": (
        "var/lib/urandom/random-seed",
        "var/lib/urandom/x",
    ),
    "var/lib/seedrng/*": ("var/lib/seedrng/seed.credit", "var/lib/x"),
    "var/lib/systemd/credential.secret": (
        "var/lib/systemd/credential.secret",
        "var/lib/systemd/linger/user",
    ),
    "etc/credstore/*": ("etc/credstore/secret", "etc/credstore.txt"),
    "etc/credstore.encrypted/*": ("etc/credstore.encrypted/x", "etc/x"),
    "etc/shadow-": ("etc/shadow-", "etc/shadow"),
    "etc/gshadow-": ("etc/gshadow-", "etc/gshadow"),
    "etc/NetworkManager/system-connections/*": (
        "etc/NetworkManager/system-connections/home.nmconnection",
        "etc/NetworkManager/NetworkManager.conf",
    ),
    "var/lib/iwd/*": ("var/lib/iwd/home.psk", "var/lib/x"),
    "var/lib/NetworkManager/*": (
        "var/lib/NetworkManager/secret_key",
        "var/lib/x",
    ),
    "var/lib/dhcp*/*": ("var/lib/dhcpcd/eth0.lease", "var/lib/dhcp.txt"),
    "var/lib/dhclient/*": ("var/lib/dhclient/leases", "var/lib/x"),
    "var/lib/bluetooth/*": ("var/lib/bluetooth/00:11/info", "var/lib/x"),
    "etc/resolv.conf": ("etc/resolv.conf", "etc/resolv.conf.d/x"),
    "etc/udev/rules.d/*persistent-net*.rules": (
        "etc/udev/rules.d/70-persistent-net.rules",
        "etc/udev/rules.d/70-own.rules",
    ),
    "var/log/journal/*": ("var/log/journal/0123/system.journal", "var/lib/x"),
    "var/log": ("var/log/xen/console/hypervisor.log", "var/logs/x"),
    "var/lib/systemd/coredump/*": (
        "var/lib/systemd/coredump/core.x.zst",
        "var/lib/systemd/x",
    ),
    "var/spool/abrt/*": ("var/spool/abrt/ccpp-1/core", "var/spool/cron/x"),
    "var/lib/abrt/*": ("var/lib/abrt/x", "var/lib/x"),
    "var/crash/*": ("var/crash/1/vmcore", "var/x"),
    "var/lib/fprint/*": ("var/lib/fprint/user/x", "var/lib/x"),
    "var/cache/*/*": ("var/cache/dnf/packages/x.rpm", "var/cache/x"),
    "var/cache": ("var/cache/a/b", "var/caches"),
    "var/tmp": ("var/tmp/.hidden/x", "var/x"),
    "var/lib/qubes/*/*": (
        "var/lib/qubes/appvms/work/private.img",
        "var/lib/qubes/qubes.xml",
    ),
    "var/lib/qubes": ("var/lib/qubes/qubes.xml", "var/lib/qubes.txt"),
    f"{UNITS}/*.wants/qubes-vm@*.service": (
        f"{UNITS}/multi-user.target.wants/qubes-vm@sys-usb.service",
        f"{UNITS}/multi-user.target.wants/qubesd.service",
    ),
    "etc/qubes/backup/*.conf": (
        "etc/qubes/backup/qubes-manager-backup.conf",
        "etc/qubes/backup.conf",
    ),
    f"{UNITS}/qubes-meminfo-writer-dom0.service": (
        f"{UNITS}/qubes-meminfo-writer-dom0.service",
        f"{UNITS}/qubes-meminfo-writer.service",
    ),
    "var/lib/sys-pxe": ("var/lib/sys-pxe/key/private.pem", "var/lib/x"),
    "etc/sys-pxe": ("etc/sys-pxe/site.yaml", "etc/sys-pxe.txt"),
    **{
        f"{home}/{rule}": (f"{user}/{name}", f"{user}/Documents/x")
        for home, user in (("root", "root"), ("home/*", "home/some user"))
        for rule, name in (
            (".*_history", ".bash_history"),
            (".lesshst", ".lesshst"),
            (".viminfo", ".viminfo"),
            (".Xauthority", ".Xauthority"),
            (".xsession-errors*", ".xsession-errors.old"),
            (".ICEauthority", ".ICEauthority"),
            (".wget-hsts", ".wget-hsts"),
            (
                ".local/share/fish/fish_history",
                ".local/share/fish/fish_history",
            ),
            (".local/state/*_history", ".local/state/python_history"),
            (
                ".local/share/recently-used.xbel*",
                ".local/share/recently-used.xbel",
            ),
            (".cache", ".cache/thumbnails/x.png"),
            (".local/share/Trash", ".local/share/Trash/files/x"),
        )
    },
}
CONTENT = b"of the golden PC\n"


def put(tree: Path, name: str, content: bytes = CONTENT) -> Path:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def snapshot(tree: Path) -> list[tuple[object, ...]]:
    """Return all that is seen of a tree, without following links."""
    rows: list[tuple[object, ...]] = []
    for folder, folders, names in os.walk(tree):
        for name in sorted((*folders, *names, ".")):
            path = Path(folder, name)
            seen = path.lstat()
            content = (
                path.read_bytes()
                if stat.S_ISREG(seen.st_mode)
                else os.readlink(path)
                if path.is_symlink()
                else ""
            )
            rows.append(
                (
                    str(path),
                    seen.st_mode,
                    seen.st_ino,
                    seen.st_mtime_ns,
                    content,
                )
            )
    return sorted(rows, key=str)


def golden(tree: Path) -> None:
    """Make a tree with all that the rules are for, and some links."""
    for hit, miss in PLACES.values():
        for name in (hit, miss):
            if not (tree / name).exists():
                put(tree, name)
    (tree / "etc/resolv.conf").unlink()
    (tree / "etc/resolv.conf").symlink_to("../run/resolv.conf")
    (tree / "var/lib/dbus/machine-id").unlink()
    (tree / "var/lib/dbus/machine-id").symlink_to("/etc/machine-id")
