"""The files that loaders fetch: there, whole, and the right ones."""

from pathlib import Path

from sys_pxe import manifest
from sys_pxe.agent import apply, signed
from sys_pxe.agent.bootfiles import BootFiles
from sys_pxe.manifest import Manifest, Role
from tests.agent_world import DAY, Release, World, artifact


def served(world: World) -> dict[str, Manifest]:
    return apply.active(world.store, apply.load_state(world.store))


def states(world: World, files: BootFiles) -> dict[str, str]:
    rows = files.rows(world.store, served(world))
    return {f"{row['release']} {row['file']}": row["state"] for row in rows}


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    release = world.release()
    world.push(release)
    world.set_site()
    files = BootFiles()
    assert states(world, files) == {}
    world.activate(1, release)
    names = ("xen", "kernel", "initramfs")
    assert states(world, files) == {f"r1 {name}": "good" for name in names}
    chunks = {
        a.name: world.store.chunks / a.digests[0]
        for a in release.manifest.artifacts
    }
    chunks["xen"].unlink()
    content = chunks["kernel"].read_bytes()
    chunks["kernel"].write_bytes(bytes(len(content)))
    assert states(world, files) == {
        "r1 xen": "missing", "r1 kernel": "damaged", "r1 initramfs": "good",
    }  # fmt: skip
    # dom0's root is checked chunk by chunk by who fetches it
    chunks["dom0-root"].unlink()
    assert "r1 dom0-root" not in states(world, files)


def test_another_signed_loader_than_the_newest_release_is_stale(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    content = b"a signed loader"
    loader = artifact(Role.LOADER, "snponly.efi", content, len(content))
    made = Manifest("r1", 1, world.now - DAY, world.now + DAY, (loader,))
    release = Release(
        made,
        world.sign(manifest.write(made)),
        {loader.sha256: content},
    )
    world.push(release)
    active = {"stable": made}
    files = BootFiles()
    good = {"release": "r1", "file": "snponly.efi", "state": "good"}
    stale = {**good, "state": "stale"}
    assert files.rows(world.store, active) == [good, stale]
    signed.put(world.store, active.values())
    assert files.rows(world.store, active) == [good]
    (world.store.tftp / "snponly.efi").write_bytes(b"the package's")
    assert files.rows(world.store, active) == [good, stale]
