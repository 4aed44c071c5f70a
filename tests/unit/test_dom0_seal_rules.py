"""Sealing a plain folder: each rule, all together, and the check after it."""

import os
import stat
from pathlib import Path

import pytest

from sys_pxe.dom0 import seal
from sys_pxe.dom0.seal_rules import RULES, Action, Rule
from sys_pxe.errors import SysPxeError
from tests.seal_tree import CONTENT, PLACES, golden, put, snapshot

TIME = 1_700_000_000_123_456_789


def kept(path: Path) -> tuple[object, ...]:
    """Return what must not change of a file; not the time it was read."""
    seen = path.stat()
    return path.read_bytes(), seen.st_mode, seen.st_ino, seen.st_ctime_ns


def only(monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    monkeypatch.setattr(seal, "RULES", (rule,))


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
