"""What sealing changes in the root of a release: rules, each with its reason.

A release is made from a dom0 that is in use. The rules take out what belongs
to that PC, to its people or to one boot, and keep the clients off their disks.
"""

from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What happens to each place that a rule's pattern names."""

    REMOVE = "remove"  # a file, a link, or a folder with all it holds
    EMPTY = "empty"  # keep the file or folder, drop its content
    CLEAR = "clear"  # remove the files below a folder, keep all folders
    REPLACE = "replace"  # a file with the rule's content, also a new one
    MASK = "mask"  # a link to /dev/null, also a new one


@dataclass(frozen=True)
class Rule:
    """One rule. ``path`` is seen from the root, with no slash in front.

    It may have fnmatch's wildcards in its parts (a dot in front is nothing
    special) unless the action also makes files. The last two are REPLACE's.
    """

    path: str
    action: Action
    reason: str
    content: bytes = b""
    mode: int = 0o644


NO_DISKS = b"# sealed by sys-pxe: a client mounts none of its disks\n"
# Where lvm.conf and lvmlocal.conf both set a value, lvmlocal.conf's holds
# (lvm.conf(5)). While a devices file is in use all filters are ignored, and it
# is in use by default on Fedora (lvmdevices(8)). A device that global_filter
# rejects is not opened.
LVM_LOCAL = b"""\
# sealed by sys-pxe: LVM must not see, activate or change anything on the disks
# of a client, least of all a volume group that is named as the server's own
devices {
	use_devicesfile=0
	global_filter=["r|.*|"]
}
"""
# mdadm.conf(5): no array is assembled that is not named here
NO_ARRAYS = b"# sealed by sys-pxe: no array of a client's disks\nAUTO -all\n"

_HOMES = ("root", "home/*")
_UNITS = "etc/systemd/system"
_REMOVE, _EMPTY, _CLEAR = Action.REMOVE, Action.EMPTY, Action.CLEAR
_REPLACE, _MASK = Action.REPLACE, Action.MASK


def _each(
    places: tuple[str, ...], action: Action, reason: str
) -> tuple[Rule, ...]:
    return tuple(Rule(place, action, reason) for place in places)


_DISKS = (
    Rule("etc/fstab", _REPLACE, "the disks of the golden PC", NO_DISKS),
    Rule("etc/crypttab", _REMOVE, "the encrypted disks of the golden PC"),
    *_each(
        ("etc/cryptsetup-keys.d/*", "etc/luks-keys/*"),
        *(_REMOVE, "keys of the golden PC's disks, crypttab(5)"),
    ),
    *_each(
        (
            f"{_UNITS}/*.swap",
            f"{_UNITS}/swap.target.wants/*",
            *("swapfile", "swap.img", "swap/swapfile", "var/swapfile"),
        ),
        *(_REMOVE, "swap of the golden PC; swap files hold its memory"),
    ),
    *_each(
        # the generator too: it also reads drop-ins, zram-generator.conf(5)
        (
            "etc/systemd/zram-generator.conf",
            "etc/systemd/system-generators/zram-generator",
        ),
        *(_MASK, "swap in RAM is not in the RAM plan, and takes zram devices"),
    ),
    *_each(
        (
            *("etc/lvm/devices/*", "etc/lvm/archive/*", "etc/lvm/backup/*"),
            "etc/lvm/cache/*",
        ),
        *(_REMOVE, "devices and volume groups of the golden PC"),
    ),
    Rule("etc/lvm/lvm_*.conf", _REMOVE, "goes over lvmlocal.conf (host tags)"),
    Rule("etc/lvm/lvmlocal.conf", _REPLACE, "a client's disks", LVM_LOCAL),
    Rule("etc/mdadm/mdadm.conf", _REMOVE, "read before /etc/mdadm.conf"),
    Rule("etc/mdadm.conf", _REPLACE, "a client's disks", NO_ARRAYS),
    *_each(
        ("etc/multipath/bindings", "etc/multipath/wwids"),
        *(_REMOVE, "devices of the golden PC"),
    ),
    # what clients boot is fetched on its own; an initramfs of the golden PC
    # may hold crypttab and keys
    Rule("boot", _EMPTY, "clients do not boot from it"),
    *_each(
        ("usr/lib/modules/*/initrd*", "usr/lib/modules/*/initramfs*"),
        *(_REMOVE, "an initramfs of the golden PC may hold keys"),
    ),
)

_IDENTITY = (
    # machine-id(5): an empty one is made anew at each boot, in RAM; without
    # the file it would be a first boot, which asks questions
    Rule("etc/machine-id", _REPLACE, "each boot makes its own", b"", 0o444),
    *_each(
        (
            *("var/lib/dbus/machine-id", "etc/ssh/ssh_host_*"),
            *("etc/iscsi/initiatorname.iscsi", "etc/nvme/hostnqn"),
            *("etc/nvme/hostid", "var/lib/fwupd/pki/*"),
        ),
        *(_REMOVE, "an identity that all clients would share"),
    ),
    *_each(
        (
            *("var/lib/systemd/random-seed", "var/lib/random-seed"),
            *("var/lib/urandom/random-seed", "var/lib/seedrng/*"),
        ),
        *(_REMOVE, "a seed that all clients would share"),
    ),
    *_each(
        (
            *("var/lib/systemd/credential.secret", "etc/credstore/*"),
            "etc/credstore.encrypted/*",
        ),
        *(_REMOVE, "secrets of the golden PC, systemd-creds(1)"),
    ),
    *_each(
        ("etc/shadow-", "etc/gshadow-"),
        *(_REMOVE, "password hashes that are no longer in use"),
    ),
    Rule("root/*-ks.cfg", _REMOVE, "the installer's answers, with hashes"),
)

_NETWORK = (
    *_each(
        (
            *("etc/NetworkManager/system-connections/*", "var/lib/iwd/*"),
            *("var/lib/NetworkManager/*", "var/lib/dhcp*/*"),
            *("var/lib/dhclient/*", "var/lib/bluetooth/*"),
        ),
        *(_REMOVE, "networks, leases and secrets of the golden PC"),
    ),
    Rule("etc/resolv.conf", _EMPTY, "dom0 has no network"),
    Rule(
        *("etc/udev/rules.d/*persistent-net*.rules", _REMOVE),
        "names for the network cards of the golden PC",
    ),
)

_TRACES = (
    Rule("var/log/journal/*", _REMOVE, "named after the golden PC's identity"),
    Rule("var/log", _CLEAR, "what happened on the golden PC"),
    *_each(
        (
            *("var/lib/systemd/coredump/*", "var/spool/abrt/*"),
            *("var/lib/abrt/*", "var/crash/*"),
        ),
        *(_REMOVE, "the memory of programs that crashed"),
    ),
    Rule("var/lib/fprint/*", _REMOVE, "fingerprints"),
    *(
        Rule(f"{home}/{name}", _REMOVE, "what somebody did on the golden PC")
        for home in _HOMES
        for name in (
            *(".*_history", ".lesshst", ".viminfo", ".Xauthority"),
            *(".xsession-errors*", ".ICEauthority", ".wget-hsts"),
            *(".local/share/fish/fish_history", ".local/state/*_history"),
            ".local/share/recently-used.xbel*",
        )
    ),
    *(
        Rule(f"{home}/{name}", _EMPTY, "of no use")
        for home in _HOMES
        for name in (".cache", ".local/share/Trash")
    ),
    # services want the folders of the first level
    Rule("var/cache/*/*", _REMOVE, "of no use"),
    Rule("var/cache", _CLEAR, "of no use"),
    Rule("var/tmp", _EMPTY, "of no use"),
)

_QUBES = (
    # the pool is mounted over it; what it needs is in the seed of a set, and
    # its qubes.xml too
    Rule("var/lib/qubes/*/*", _REMOVE, "qubes and kernels are in the seed"),
    Rule("var/lib/qubes", _CLEAR, "qubes.xml is in the release of its own"),
    Rule(
        *(f"{_UNITS}/*.wants/qubes-vm@*.service", _REMOVE),
        "what starts by itself is in the release's set of qubes",
    ),
    # _load_backup_profile in qubes/api/admin.py of qubes-core-admin; Qube
    # Manager saves its passphrase there too
    Rule(
        *("etc/qubes/backup/*.conf", _REMOVE),
        "may hold the passphrase of the golden PC's backups in clear",
    ),
    # qmemman counts the pages of a tmpfs as free cache (meminfo-writer.c of
    # qubes-linux-utils) and would balloon dom0 below what it holds; it leaves
    # a domain alone that reports nothing (algo.py of qubes-core-admin)
    Rule(
        *(f"{_UNITS}/qubes-meminfo-writer-dom0.service", _MASK),
        "Qubes' memory balancer would starve dom0",
    ),
    *_each(
        ("var/lib/sys-pxe", "etc/sys-pxe"),
        *(_EMPTY, "the signing key, site and releases of the server"),
    ),
)

RULES: tuple[Rule, ...] = (*_DISKS, *_IDENTITY, *_NETWORK, *_TRACES, *_QUBES)
