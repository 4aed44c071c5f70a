"""Sealing a plain folder: each rule, hostile links, and the check after it."""

import os
import stat
from pathlib import Path

import pytest

from sys_pxe.dom0 import seal, seal_rules
from sys_pxe.dom0.seal_rules import RULES, Action, Rule
from sys_pxe.errors import SysPxeError

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
TIME = 1_700_000_000_123_456_789


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


def kept(path: Path) -> tuple[object, ...]:
    """Return what must not change of a file; not the time it was read."""
    seen = path.stat()
    return path.read_bytes(), seen.st_mode, seen.st_ino, seen.st_ctime_ns


def only(monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    monkeypatch.setattr(seal, "RULES", (rule,))


def rule_of(path: str) -> Rule:
    (found,) = [rule for rule in RULES if rule.path == path]
    return found


def test_each_rule_has_a_fixture_and_a_reason() -> None:
    assert sorted(PLACES) == sorted(rule.path for rule in RULES)
    assert [r for r in RULES if not r.reason or r.path.startswith("/")] == []
    # what makes files needs a path without wildcards
    made = [r.path for r in RULES if r.action in (Action.REPLACE, Action.MASK)]
    assert made
    assert [path for path in made if set(path) & set("*?[")] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.path)
def test_a_rule_changes_its_place_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Rule
) -> None:
    only(monkeypatch, rule)
    hit, miss = PLACES[rule.path]
    place, other = put(tmp_path, hit), put(tmp_path, miss)
    before = kept(other)
    (done,) = seal.apply(tmp_path)
    assert rule.reason in done
    assert rule.action.value in done
    assert kept(other) == before
    if rule.action is Action.REPLACE:
        assert place.read_bytes() == rule.content
        assert stat.S_IMODE(place.stat().st_mode) == rule.mode
    elif rule.action is Action.MASK:
        assert os.readlink(place) == "/dev/null"
    elif hit == rule.path and rule.action is Action.EMPTY:
        assert place.read_bytes() == b""
    else:
        assert not place.exists()
    assert seal.apply(tmp_path) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.path)
def test_what_a_rule_makes_is_made_in_an_empty_tree_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Rule
) -> None:
    only(monkeypatch, rule)
    made = rule.action in (Action.REPLACE, Action.MASK)
    assert len(seal.apply(tmp_path)) == (1 if made else 0)
    assert os.path.lexists(tmp_path / rule.path) is made
    assert bool(os.listdir(tmp_path)) is made


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


def test_all_rules_together_leave_nothing_to_find(tmp_path: Path) -> None:
    golden(tmp_path)
    put(tmp_path, "etc/crypttab", b"root UUID=1 /srv/unlock luks\n")
    put(tmp_path, "srv/unlock")
    with pytest.raises(SysPxeError):
        seal.check(tmp_path)
    done = seal.apply(tmp_path)
    assert "remove /srv/unlock: a key file (crypttab)" in done
    seal.check(tmp_path)
    assert not (tmp_path / "srv/unlock").exists()
    assert os.readlink(tmp_path / "etc/resolv.conf") == "../run/resolv.conf"
    assert (tmp_path / "etc/shadow").read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path / "var/lib/qubes")) == ["appvms"]
    assert sorted(os.listdir(tmp_path / "var/log")) == ["journal", "xen"]
    assert (tmp_path / "var/log/xen/console").is_dir()


def test_sealing_twice_changes_nothing_more(tmp_path: Path) -> None:
    golden(tmp_path)
    seal.apply(tmp_path)
    before = snapshot(tmp_path)
    assert seal.apply(tmp_path) == []
    assert snapshot(tmp_path) == before


def test_the_times_do_not_tell_when_it_was_sealed(tmp_path: Path) -> None:
    golden(tmp_path)
    (tmp_path / "etc/resolv.conf").unlink()
    put(tmp_path, "etc/resolv.conf")
    for folder, _, names in os.walk(tmp_path, topdown=False):
        for name in (*names, "."):
            path = Path(folder, name)
            os.utime(path, ns=(TIME, TIME), follow_symlinks=False)
    assert any("/etc/resolv.conf" in line for line in seal.apply(tmp_path))
    other = {row[0]: row[3] for row in snapshot(tmp_path) if row[3] != TIME}
    assert other == {}


@pytest.mark.parametrize(
    ("table", "kept"),
    [
        (b"root UUID=1 /srv/key luks\n", False),
        (b"root UUID=1 /srv/link luks\n", False),
        (b"root UUID=1 /srv/../../../srv/key luks\n", False),
        (b"#root UUID=1 /srv/key luks\n", True),
        (b"root UUID=1 none luks\n", True),
        (b"root UUID=1 /srv luks\n", True),
        (b"root UUID=1 /dev/urandom swap\n", True),
        (b"root UUID=1 /usr/bin/tool luks,keyscript=x\n", True),
    ],
)
def test_key_files_that_crypttab_names_go_with_it(
    tmp_path: Path, table: bytes, kept: bool
) -> None:
    put(tmp_path, "etc/crypttab", table)
    key = put(tmp_path, "srv/key")
    (tmp_path / "srv/link").symlink_to("/srv/key")
    others = [put(tmp_path, "usr/bin/tool"), put(tmp_path, "dev/urandom")]
    seal.apply(tmp_path)
    assert key.exists() is kept
    assert [p for p in others if not p.exists()] == []


# hostile or odd trees


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the tree that looks as if the rules were for it."""
    folder = tmp_path / "outside"
    golden(folder)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "srv/log/deep").mkdir(parents=True)
    (root / "srv/log/deep/x").write_bytes(CONTENT)
    (root / "usr/share/x").mkdir(parents=True)
    return root


@pytest.mark.parametrize("name", ["etc", "var", "home", "root", "boot"])
@pytest.mark.parametrize("inner", ["", "etc", "var"])
def test_nothing_outside_is_touched_by_way_of_a_link(
    tree: Path, outside: Path, name: str, inner: str
) -> None:
    (tree / name).symlink_to(outside / inner)
    before = snapshot(outside)
    if name == "etc":
        # it has to be made, and that link leads nowhere in the tree
        with pytest.raises(SysPxeError, match="/etc is not a folder"):
            seal.apply(tree)
    else:
        seal.apply(tree)
    assert snapshot(outside) == before


def test_links_at_every_place_of_a_rule_are_not_followed(
    tree: Path, outside: Path
) -> None:
    for hit, _ in PLACES.values():
        place = tree / hit
        place.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(place):
            place.symlink_to(outside / hit)
    before = snapshot(outside)
    seal.apply(tree)
    assert snapshot(outside) == before
    for path in (*("etc/fstab", "etc/machine-id", "etc/lvm/lvmlocal.conf"),):
        assert (tree / path).is_file()
        assert not (tree / path).is_symlink()


def test_other_names_of_a_file_keep_its_content(
    tree: Path, outside: Path
) -> None:
    (tree / "etc").mkdir()
    for name in ("fstab", "resolv.conf", "machine-id", "shadow-"):
        os.link(outside / "srv/swapfile", tree / "etc" / name)
    seal.apply(tree)
    assert (outside / "srv/swapfile").read_bytes() == CONTENT
    assert (tree / "etc/resolv.conf").read_bytes() == b""


@pytest.mark.parametrize("target", ["/srv/log", "../srv/log", "../../srv/log"])
def test_a_folder_behind_a_link_inside_is_sealed_there(
    tree: Path, target: str
) -> None:
    (tree / "var").mkdir()
    (tree / "var/log").symlink_to(target)
    (done,) = [line for line in seal.apply(tree) if "/var/log" in line]
    assert done.startswith("clear /var/log")
    assert not (tree / "srv/log/deep/x").exists()
    assert (tree / "srv/log/deep").is_dir()
    assert os.readlink(tree / "var/log") == target


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("etc", "/"),
        ("etc", ".."),
        ("etc", "/usr/share"),
        ("var", "/"),
        ("var/log", "/"),
        ("var/log", "../usr"),
        ("var/log", "/usr/share/x"),
        ("var/lib/qubes", "/var/lib"),
        ("var/cache", "../srv"),
        ("home/user", "/usr/share"),
    ],
)
def test_a_link_into_the_system_is_refused_by_name(
    tree: Path, name: str, target: str
) -> None:
    link = tree / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    with pytest.raises(SysPxeError, match=f"/{name} is, or lies") as caught:
        seal.apply(tree)
    assert "folder" in caught.value.hint
    assert (tree / "usr/share/x").is_dir()
    assert (tree / "srv/log/deep/x").exists()


@pytest.mark.parametrize("target", ["/tmp", "../run/x", "/dev/null", "loop"])
def test_a_link_to_what_is_no_part_of_a_release_is_left(
    tree: Path, target: str
) -> None:
    for name in ("var/log", "tmp", "run/x", "dev"):
        (tree / name).parent.mkdir(exist_ok=True)
    put(tree, "tmp/x")
    put(tree, "run/x/x")
    (tree / "var/log").symlink_to(target)
    seal.apply(tree)
    assert os.readlink(tree / "var/log") == target
    assert (tree / "tmp/x").exists()
    assert (tree / "run/x/x").exists()


def test_names_with_newlines_and_odd_bytes(tree: Path) -> None:
    names = [b"a\nb", b"\xff\xfe", b"-rf", b"*", b"\x1b[2J", b" "]
    for name in names:
        log = tree / "var/log/x" / os.fsdecode(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(CONTENT)
        put(tree, f"home/{os.fsdecode(name)}/.bash_history")
        put(tree, f"var/cache/{os.fsdecode(name)}/x")
    done = seal.apply(tree)
    assert all(line.isprintable() for line in done)
    assert len([line for line in done if "_history" in line]) == len(names)
    assert os.listdir(tree / "var/log/x") == []
    assert not list((tree / "home").glob("*/.bash_history"))
    seal.check(tree)


def test_odd_things_in_place_of_files_are_replaced(tree: Path) -> None:
    put(tree, "etc/fstab/folder/x")
    (tree / "etc/lvm/lvmlocal.conf").parent.mkdir()
    os.mkfifo(tree / "etc/lvm/lvmlocal.conf")
    os.mkfifo(tree / "etc/resolv.conf")
    (tree / "var").mkdir()
    os.mkfifo(tree / "var/log")
    os.mkfifo(tree / "etc/crypttab")
    seal.apply(tree)
    assert (tree / "etc/fstab").read_bytes() == seal_rules.NO_DISKS
    assert (tree / "etc/lvm/lvmlocal.conf").is_file()
    assert not (tree / "var/log").exists()


def test_a_file_where_a_folder_must_be_is_told(tree: Path) -> None:
    put(tree, "etc/lvm")
    with pytest.raises(SysPxeError, match="/etc/lvm is not a folder"):
        seal.apply(tree)


def test_a_huge_file_is_not_read(tree: Path) -> None:
    for name in ("var/lib/qubes/appvms/w/private.img", "etc/fstab", "swapfile"):
        path = put(tree, name)
        os.truncate(path, 1 << 40)
    seal.apply(tree)
    seal.check(tree)


# the check and the notices


def test_the_refusal_names_each_file_and_what_to_do(tmp_path: Path) -> None:
    put(tmp_path, "etc/machine-id", b"1234\n")
    put(tmp_path, "root/.bash_history", b"ls\n")
    with pytest.raises(SysPxeError, match="2 files") as caught:
        seal.check(tmp_path)
    for text in (caught.value.message, caught.value.hint):
        assert "/etc/machine-id" in text
        assert "/root/.bash_history" in text
    assert "empty it" in caught.value.hint


def test_one_file_is_one_file_and_its_name_is_harmless(tmp_path: Path) -> None:
    put(tmp_path, "var/log/a\x1b[2Jb\nc", b"x")
    with pytest.raises(SysPxeError, match="1 file must not") as caught:
        seal.check(tmp_path)
    assert "/var/log/a\\x1b[2Jb\\nc" in caught.value.message
    assert "\x1b" not in caught.value.explain()


def test_a_flood_of_findings_is_cut(tmp_path: Path) -> None:
    for number in range(60):
        put(tmp_path, f"var/log/{number}.log", b"x")
    with pytest.raises(SysPxeError, match="and 40 more") as caught:
        seal.check(tmp_path)
    assert len(caught.value.explain().splitlines()) < 60


def test_a_secret_that_no_rule_removes_is_still_refused(tmp_path: Path) -> None:
    put(tmp_path, "home/user/.ssh/id_rsa", b"-----BEGIN RSA PRIVATE KEY-----\n")
    put(tmp_path, "srv/pool/appvms/w/private.img")
    seal.apply(tmp_path)
    with pytest.raises(SysPxeError, match="2 files") as caught:
        seal.check(tmp_path)
    assert "/home/user/.ssh/id_rsa: a private key" in caught.value.message
    assert "/srv/pool/appvms/w/private.img" in caught.value.message


def test_password_hashes_stay_and_are_told(tmp_path: Path) -> None:
    assert seal.notices(tmp_path) == []
    content = b"root:*:1::::::\nuser:$y$j9T$a$b:1::::::\n"
    shadow = put(tmp_path, "etc/shadow", content)
    seal.apply(tmp_path)
    seal.check(tmp_path)
    assert shadow.read_bytes() == content
    (notice,) = seal.notices(tmp_path)
    assert "/etc/shadow" in notice
    assert "user" in notice
    assert "root" not in notice
    assert "$y$" not in notice


def test_files_of_people_stay_and_are_told(tmp_path: Path) -> None:
    for name in (
        *("home/user/Documents/a", "home/user/b", "home/user/.config/c"),
        *("home/a\x1bb/x", "root/notes", "home/nobody/.profile", "home/stray"),
    ):
        put(tmp_path, name)
    (tmp_path / "home/link").symlink_to("/home/user")
    (tmp_path / "home/user/.empty").touch()
    seal.apply(tmp_path)
    assert (tmp_path / "home/user/Documents/a").exists()
    told = [notice.split(":")[0] for notice in seal.notices(tmp_path)]
    assert told == ["/home/a\\x1bb", "/home/user", "/root"]
    assert "2 files" in seal.notices(tmp_path)[1]
    assert "1 file " in seal.notices(tmp_path)[2]
