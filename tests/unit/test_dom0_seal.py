"""What a golden image must not hold, and what it may."""

from pathlib import Path

import pytest

from sys_pxe.dom0 import seal
from sys_pxe.errors import SysPxeError

PEM = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"
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
]
HARMLESS = [
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
    (found,) = seal.findings(tmp_path)
    assert found.path == f"/{name}"
    assert why in found.why
    assert found.hint


@pytest.mark.parametrize(("name", "content"), HARMLESS)
def test_what_is_no_secret_is_left_alone(
    tmp_path: Path, name: str, content: bytes
) -> None:
    put(tmp_path, name, content)
    assert seal.findings(tmp_path) == []
    seal.check(tmp_path)


def test_the_key_file_that_crypttab_names_is_found(tmp_path: Path) -> None:
    put(tmp_path, "srv/unlock", b"not like a key at all")
    put(tmp_path, "srv/other", b"not like a key at all")
    table = (
        b"#old UUID=1 /srv/other\n"
        b"root UUID=2 /srv/unlock luks\n"
        b"swap UUID=3 none\n"
    )
    put(tmp_path, "etc/crypttab", table)
    (found,) = seal.findings(tmp_path)
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
    assert seal.findings(tree) == []


def test_the_refusal_names_each_file_and_what_to_do(tmp_path: Path) -> None:
    put(tmp_path, "etc/machine-id", b"1234\n")
    put(tmp_path, "root/.bash_history", b"ls\n")
    with pytest.raises(SysPxeError, match="2 files") as caught:
        seal.check(tmp_path)
    for text in (caught.value.message, caught.value.hint):
        assert "/etc/machine-id" in text
        assert "/root/.bash_history" in text
    assert "empty it" in caught.value.hint


def test_a_flood_of_findings_is_cut(tmp_path: Path) -> None:
    for number in range(60):
        put(tmp_path, f"var/log/{number}.log", b"x")
    with pytest.raises(SysPxeError, match="and 40 more") as caught:
        seal.check(tmp_path)
    assert len(caught.value.explain().splitlines()) < 60


def test_a_secret_behind_the_first_64_kib_of_a_huge_file_costs_no_memory(
    tmp_path: Path,
) -> None:
    path = put(tmp_path, "srv/huge", b"x")
    with open(path, "r+b") as stream:
        stream.truncate(1 << 40)
    assert seal.findings(tmp_path) == []
