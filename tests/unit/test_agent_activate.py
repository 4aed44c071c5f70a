"""Channels and site: checked first, then stored and rendered in one step."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from sys_pxe import files, render
from sys_pxe.agent import activate, apply
from sys_pxe.errors import InvalidInput, SysPxeError, VerificationError
from tests.agent_world import DAY, Release, World, key_pair


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.set_site(floors={"stable": 2})
    return made


def pushed(world: World, name: str, serial: int) -> Release:
    release = world.release(name, serial)
    world.push(release)
    return release


def pointed(world: World, channel: str = "stable") -> str | None:
    found = world.store.pointer(channel)
    return found.release if found else None


def test_a_channel_moves_from_release_to_release(world: World) -> None:
    first, second = pushed(world, "r2", 2), pushed(world, "r3", 3)
    done = world.activate(1, first)
    assert (done.old, done.new) == (None, "r2")
    done = world.activate(2, second)
    assert (done.old, done.new) == ("r2", "r3")
    xen = second.manifest.artifacts[0].digests[0]
    assert f"kernel http://192.0.2.1/chunks/{xen} " in world.script()


def test_a_release_that_is_not_complete_is_refused(world: World) -> None:
    release = world.release("r2", 2)
    world.push(release, release.frames(only=()))
    with pytest.raises(SysPxeError, match="not complete"):
        world.activate(1, release)
    assert pointed(world) is None


def test_a_release_whose_chunks_are_gone_is_refused(world: World) -> None:
    release = pushed(world, "r2", 2)
    files.remove(world.store.chunks / next(iter(release.chunks)))
    with pytest.raises(SysPxeError, match="1 chunks of release r2"):
        world.activate(1, release)


def test_a_release_without_boot_files_is_refused(world: World) -> None:
    release = world.release("r2", 2, boot=False)
    world.push(release)
    with pytest.raises(InvalidInput, match="role xen"):
        world.activate(1, release)
    assert pointed(world) is None


def test_a_pointer_of_another_channel_is_refused(world: World) -> None:
    release = pushed(world, "r2", 2)
    signed = world.pointer(1, release, "testing")
    with pytest.raises(VerificationError, match="channel testing"):
        activate.activate(world.store, "stable", signed, world.now)
    assert pointed(world) is None


def test_a_channel_that_the_site_lacks_is_refused(world: World) -> None:
    release = pushed(world, "r2", 2)
    with pytest.raises(InvalidInput, match="not in the site"):
        world.activate(1, release, "other")
    assert pointed(world, "other") is None


def test_a_serial_below_the_floor_needs_a_signed_rollback(
    world: World,
) -> None:
    old = pushed(world, "r1", 1)
    with pytest.raises(VerificationError, match="accepts 2 and above"):
        world.activate(1, old)
    assert pointed(world) is None
    signed = world.pointer(1, old, rollback=True)
    with pytest.raises(VerificationError, match="when the floor was 1"):
        activate.activate(world.store, "stable", signed, world.now)
    signed = world.pointer(1, old, rollback=True, floor=2)
    activate.activate(world.store, "stable", signed, world.now)
    assert pointed(world) == "r1"
    assert "release r1 " in world.script()


def test_an_old_pointer_cannot_come_back(world: World) -> None:
    first, second = pushed(world, "r2", 2), pushed(world, "r3", 3)
    world.activate(1, first)
    world.activate(2, second)
    with pytest.raises(VerificationError, match="not newer"):
        world.activate(1, first)
    assert pointed(world) == "r3"


def test_the_same_pointer_again_is_no_error(world: World) -> None:
    release = pushed(world, "r2", 2)
    signed = world.pointer(1, release)
    for _ in range(2):
        done = activate.activate(world.store, "stable", signed, world.now)
        assert done.new == "r2"
    assert done.old == "r2"


@pytest.mark.parametrize("key", [0, 1])
def test_a_pointer_that_is_not_dom0s_is_refused(world: World, key: int) -> None:
    release = pushed(world, "r2", 2)
    world.private.write_bytes(key_pair(key)[0])
    signed = world.pointer(1, release)
    if key == 0:
        signed = signed.replace(b"rollback no", b"rollback yes")
    with pytest.raises(VerificationError):
        activate.activate(world.store, "stable", signed, world.now)
    assert pointed(world) is None


def test_an_expired_release_is_refused(world: World) -> None:
    release = pushed(world, "r2", 2)
    signed = world.pointer(1, release)
    with pytest.raises(VerificationError, match="expired"):
        activate.activate(world.store, "stable", signed, world.now + 2 * DAY)


@pytest.mark.parametrize("path", ["dnsmasq.conf", "dnsmasq.hosts"])
def test_what_dnsmasq_refuses_is_never_current(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    release = pushed(world, "r2", 2)
    before = apply.current_name(world.store)
    real = render.everything

    def broken(*args: object) -> dict[str, str]:
        texts = real(*args)  # type: ignore[arg-type]
        return {**texts, path: texts[path] + "no such thing\n"}

    monkeypatch.setattr(render, "everything", broken)
    with pytest.raises(SysPxeError, match="dnsmasq"):
        world.activate(1, release)
    assert pointed(world) is None
    assert apply.current_name(world.store) == before
    assert [p.name for p in world.store.generated.iterdir()] == [before]


def test_what_nginx_refuses_is_never_current(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = pushed(world, "r2", 2)
    before = apply.current_name(world.store)
    monkeypatch.setattr(
        "sys_pxe.render.nginx.configuration", lambda *_: "no such thing;\n"
    )
    with pytest.raises(SysPxeError, match="nginx"):
        world.activate(1, release)
    assert pointed(world) is None
    assert apply.current_name(world.store) == before


def test_a_site_must_be_newer_than_the_stored_one(world: World) -> None:
    for serial in (1, 5, 6):
        if serial == 1:
            with pytest.raises(VerificationError, match="has serial 1"):
                world.set_site(1)
            continue
        world.set_site(serial)
    with pytest.raises(VerificationError, match="has 6"):
        world.set_site(5)


def test_a_site_from_the_future_is_refused(world: World) -> None:
    signed = world.signed_site(2)
    with pytest.raises(VerificationError, match="clock"):
        activate.replace_site(world.store, signed, world.now - 3 * DAY)


def test_a_damaged_site_changes_nothing(world: World) -> None:
    before = world.store.site_file.read_bytes()
    signed = world.signed_site(2).replace(b"refuse", b"base01")
    with pytest.raises(VerificationError):
        activate.replace_site(world.store, signed, world.now)
    assert world.store.site_file.read_bytes() == before


def test_a_pointer_may_come_before_the_site(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.activate(1, pushed(world, "r1", 1))
    assert not world.store.current.exists()
    world.set_site()
    assert "release r1 " in world.script()


def test_a_raised_floor_takes_a_release_out_of_service(world: World) -> None:
    world.activate(1, pushed(world, "r2", 2))
    assert "release r2 " in world.script()
    world.set_site(2, floors={"stable": 3})
    assert "no release that may be used" in world.script()


def test_a_client_called_unknown_is_refused(world: World) -> None:
    clients = {"unknown": {"mac": "52:54:00:00:00:09", "profile": "base"}}
    with pytest.raises(InvalidInput, match=r"clients\.unknown"):
        world.set_site(2, clients=clients)


def test_a_pointer_that_the_disk_damaged_can_be_replaced(
    world: World,
) -> None:
    world.activate(1, pushed(world, "r2", 2))
    (world.store.channels / "stable").write_bytes(b"damaged")
    with pytest.raises(VerificationError):
        apply.refresh(world.store, apply.load_server(world.store))
    assert "release r2 " in world.script()
    assert world.activate(2, pushed(world, "r3", 3)).old is None
    assert "release r3 " in world.script()


def test_a_site_that_the_disk_damaged_can_be_replaced(world: World) -> None:
    world.store.site_file.write_bytes(b"damaged")
    world.set_site(1)
    assert world.store.site() is not None


def test_activate_killed_at_ten_random_points(world: World) -> None:
    releases = [pushed(world, "r2", 2), pushed(world, "r3", 3)]
    serial = 1
    world.activate(serial, releases[0])
    before = time.monotonic()
    serial += 1
    world.rpc(
        "syspxe.Activate", "stable", stdin=world.pointer(serial, releases[1])
    )
    whole = time.monotonic() - before
    for share in random.Random(2).sample(range(20, 105), 10):
        serial += 1
        old = pointed(world)
        wanted = releases[serial % 2]
        child = world.spawn_rpc("syspxe.Activate", "stable")
        with child:
            assert child.stdin
            child.stdin.write(world.pointer(serial, wanted))
            child.stdin.close()
            time.sleep(whole * share / 100)
            child.kill()
        now = pointed(world)
        assert now in (old, wanted.name)
        assert any(f"release {n} " in world.script() for n in (old, now))
        assert world.script().endswith("reboot\n")
        # what the daemon does at its start, and when the store changed
        apply.refresh(world.store, apply.load_server(world.store))
        assert f"release {now} " in world.script()
        assert len(list(world.store.generated.iterdir())) == 1
    serial += 1
    assert world.activate(serial, releases[0]).new == "r2"


CHANGES = ("os.rename", "os.symlink", "os.mkdir", "os.remove", "os.rmdir")


def activate_dying_at(world: World, signed: bytes, change: int) -> int:
    """Activate in a child that kill -9s itself at its n-th change of a name.

    Returns the child's wait status.
    """
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    left = change

    def hook(event: str, _arguments: object) -> None:
        nonlocal left
        if event in CHANGES:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(hook)
        activate.activate(world.store, "stable", signed, world.now)
    finally:
        os._exit(0)


def test_activate_killed_before_each_change_it_makes(world: World) -> None:
    releases = [pushed(world, "r2", 2), pushed(world, "r3", 3)]
    world.activate(1, releases[0])
    serial, change, results = 1, 0, set()
    while True:
        serial += 1
        old = pointed(world)
        wanted = releases[serial % 2]
        signed = world.pointer(serial, wanted)
        status = activate_dying_at(world, signed, change)
        now = pointed(world)
        assert now in (old, wanted.name)
        assert any(f"release {n} " in world.script() for n in (old, now))
        assert world.script().endswith("reboot\n")
        apply.refresh(world.store, apply.load_server(world.store))
        assert f"release {now} " in world.script()
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        results.add(now == wanted.name)
        change += 1
    assert results == {True, False}
    assert change >= 5
    assert now == wanted.name
