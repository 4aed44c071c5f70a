"""What the root of a release must not hold, and what it may."""

import os
from pathlib import Path

import pytest

from sys_pxe.dom0 import suspects

PEM = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"
LUKS = b"LUKS\xba\xbe\x00\x02" + bytes(4096)
SWAP = bytes(4086) + b"SWAPSPACE2" + bytes(4096)
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

SECRETS = [
    ("etc/machine-id", b"0123456789abcdef0123456789abcdef\n", "identity"),
    ("var/lib/dbus/machine-id", b"0123456789abcdef\n", "identity"),
    ("etc/ssh/ssh_host_ed25519_key", OPENSSH, "SSH host key"),
    ("etc/ssh/ssh_host_rsa_key.pub", b"ssh-rsa AAAA\n", "SSH host key"),
    ("etc/ssl/private/ssl-cert-snakeoil.key", PEM, "private key"),
    ("etc/pki/some.pem", CERTIFICATE + PEM, "private key"),
    ("home/user/.ssh/id_ed25519", OPENSSH, "private key"),
    ("root/key", b"-----BEGIN EC PRIVATE KEY-----\n", "private key"),
    ("root/pgp", b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "private key"),
    ("usr/local/etc/tls", b"x\n" + PEM, "private key"),
    ("usr/share/app/server.key", PEM, "private key"),
    ("etc/luks.key", bytes(64), "key file"),
    ("etc/no-zero.key", bytes(range(200, 232)), "key file"),
    ("etc/word.key", b"QmFzZTY0IG9mIHJhbmRvbSBieXRlcw==\n", "key file"),
    ("etc/keys/disk.key", b"\xff" * 512, "key file"),
    ("boot/volume.key", bytes(64), "key file"),
    ("etc/sys-pxe/private.pem", b"whatever", "signing key"),
    ("var/lib/sys-pxe/key/private.pem", PEM, "signing key"),
    ("root/.bash_history", b"ls\n", "history"),
    ("home/user/.zsh_history", b"ls\n", "history"),
    ("home/user/.python_history", b"1+1\n", "history"),
    ("root/.lesshst", b"x", "history"),
    ("var/log/dpkg.log", b"x", "log"),
    ("var/log/journal/0123/system.journal", b"LPKSHHRH", "log"),
    ("var/lib/systemd/random-seed", bytes(512), "seed"),
    (
        "etc/NetworkManager/system-connections/home.nmconnection",
        b"[wifi-security]\nkey-mgmt=wpa-psk\npsk=secret\n",
        "network connection",
    ),
    (
        "etc/wpa_supplicant/wpa_supplicant.conf",
        b'network={\n\tssid="home"\n\tpsk="secret"\n}\n',
        "network connection",
    ),
    (
        "etc/qubes/backup/all.conf",
        b"include:\n- work\npassphrase_text: secret\n",
        "passphrase of a backup",
    ),
    (
        "etc/qubes/backup/all.conf~",
        b'{"include": ["work"], "passphrase_text" : "secret"}\n',
        "passphrase of a backup",
    ),
    ("home/user/header.bak", LUKS, "LUKS"),
    ("srv/luks1", b"LUKS\xba\xbe\x00\x01", "LUKS"),
    ("usr/local/share/header", LUKS, "LUKS"),
    ("srv/swap", SWAP, "swap"),
    ("srv/hibernated", SWAP.replace(b"SWAPSPACE2", b"S1SUSPEND\0"), "swap"),
    ("var/lib/qubes/appvms/work/private.img", b"x", "volume of a qube"),
    ("var/lib/qubes/appvms/a\nb/private.img", b"x", "volume of a qube"),
    ("var/lib/qubes/appvms/w/private.img.2@3", b"x", "volume of a qube"),
    ("var/lib/qubes/vm-templates/d/root-cow.img", b"x", "volume of a qube"),
    ("srv/pool/vm-templates/d/root.img", b"x", "volume of a qube"),
    ("var/lib/sys-pxe/serial", b"1\n", "state of sys-pxe"),
    ("root/.gnupg/private-keys-v1.d/0.key", b"Key: (a b)\n", "GnuPG"),
    ("home/user/.gnupg/secring.gpg", b"\x95\x01", "GnuPG"),
]
HARMLESS = [
    ("etc/shadow", b"root:$y$j9T$abc$def:20000:0:99999:7:::\n"),
    ("etc/passwd-", b"root:x:0:0:root:/root:/bin/bash\n"),
    ("usr/share/cryptsetup/example", LUKS),
    ("srv/luks.txt", b"LUKS\xba"),
    ("srv/about-luks", b"x" + LUKS),
    ("srv/about-swap", b"x" + SWAP),
    ("srv/short", SWAP[:4095]),
    ("usr/share/app/appvms/x/root.img", b"x"),
    ("var/lib/qubes/appvms/work/firewall.xml", b"<x/>"),
    ("var/lib/qubes/vm-kernels/6.12/modules.img", b"x"),
    ("var/lib/sys-pxe/empty", b""),
    ("home/user/.gnupg/pubring.kbx", b"x"),
    ("etc/machine-id", b""),
    ("etc/machine-id", b"uninitialized\n"),
    ("etc/ssl/certs/ca.pem", CERTIFICATE),
    ("etc/pki/public.key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n"),
    ("etc/unbound/root.key", b". 172800 IN DNSKEY 257 3 8 AwEAAa\n" * 20),
    ("etc/ssh/sshd_config", b"HostKey /etc/ssh/ssh_host_rsa_key\n"),
    ("usr/bin/openssl", b"\x7fELF" + bytes(100) + PEM),
    ("usr/share/doc/x/example.pem", PEM),
    ("usr/lib64/python3.13/test/keycert.pem", PEM),
    ("usr/share/app/README", PEM),
    ("var/log/wtmp", b""),
    ("root/.bash_history", b""),
    ("etc/qubes/backup/all.conf", b"passphrase_vm: vault\n"),
    ("etc/qubes/notes", b"passphrase_text: see qubes/api/admin.py\n"),
    ("tmp/key.pem", PEM),
    ("run/secret.pem", PEM),
    (
        "etc/NetworkManager/system-connections/wired.nmconnection",
        b"[connection]\nid=wired\n[wifi-security]\nkey-mgmt=none\npsk=\n",
    ),
]


def put(tree: Path, name: str, content: bytes) -> Path:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("name", "content", "why"), SECRETS)
def test_a_secret_is_found_and_named(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    put(tmp_path, name, content)
    put(tmp_path, "etc/hostname", b"dom0\n")
    (found,) = suspects.findings(tmp_path)
    assert found.path == f"/{name}"
    assert why in found.why
    assert found.hint


@pytest.mark.parametrize(("name", "content"), HARMLESS)
def test_what_is_no_secret_is_left_alone(
    tmp_path: Path, name: str, content: bytes
) -> None:
    put(tmp_path, name, content)
    assert suspects.findings(tmp_path) == []


def test_the_key_file_that_crypttab_names_is_found(tmp_path: Path) -> None:
    put(tmp_path, "srv/unlock", b"not like a key at all")
    put(tmp_path, "srv/other", b"not like a key at all")
    table = (
        b"#old UUID=1 /srv/other\n"
        b"root UUID=2 /srv/unlock luks\n"
        b"swap UUID=3 none\n"
    )
    put(tmp_path, "etc/crypttab", table)
    (found,) = suspects.findings(tmp_path)
    assert (found.path, found.why) == (
        "/srv/unlock",
        "a LUKS key file (crypttab)",
    )


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put(outside, "key.pem", PEM)
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/link").symlink_to(outside / "key.pem")
    (tree / "folder").symlink_to(outside)
    (tree / "etc/crypttab").symlink_to("/etc/passwd")
    (tree / "etc/shadow").symlink_to("/etc/shadow")
    assert suspects.findings(tree) == []
    assert suspects.password_users(tree) == []


def test_a_crypttab_behind_a_link_is_read_inside_of_the_tree(
    tmp_path: Path,
) -> None:
    put(tmp_path, "srv/crypttab", b"root UUID=2 /srv/unlock luks\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/crypttab").symlink_to("/srv/crypttab")
    assert suspects.crypttab_keys(tmp_path) == ["/srv/unlock"]


def test_a_crypttab_that_is_no_file_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/crypttab")
    assert suspects.crypttab_keys(tmp_path) == []


def test_the_users_with_a_password_hash_are_listed(tmp_path: Path) -> None:
    rows = (
        b"root:!:20000:0:99999:7:::\n"
        b"bin:*:20000::::::\n"
        b"user:$y$j9T$abc$def:20000:0:99999:7:::\n"
        b"locked:!$6$salt$hash:20000:0:99999:7:::\n"
        b"old:ab0123456789.:20000:0:99999:7:::\n"
        b"none::20000:0:99999:7:::\n"
        b"\x1b[2Jodd:$6$a$b:1::::::\n"
        b"\n:\nno colon\n"
    )
    put(tmp_path, "etc/shadow", rows)
    users = ["user", "locked", "old", "?[2Jodd"]
    assert suspects.password_users(tmp_path) == users


def test_a_secret_behind_the_first_64_kib_of_a_huge_file_costs_no_memory(
    tmp_path: Path,
) -> None:
    path = put(tmp_path, "srv/huge", b"x")
    with open(path, "r+b") as stream:
        stream.truncate(1 << 40)
    assert suspects.findings(tmp_path) == []
