"""``sys-pxe release build`` as a whole, with all but dracut. Root.

A golden tree with qubes goes through the command: sealed root, seed, store,
signed manifest; what is wrong is refused, and nothing is ever left behind.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe import files, plan, run
from sys_pxe.client import store
from sys_pxe.dom0 import profiles, sitefile
from sys_pxe.dom0.state import State
from sys_pxe.lab import qubes
from sys_pxe.manifest import Role
from tests import golden_tree
from tests.dom0_world import SITE, new_state
from tests.golden_tree import VERSION, put

REPOSITORY = Path(__file__).resolve().parents[2]
MIB = 1 << 20
STORES = "var/lib/qubes"
WORK = f"{STORES}/appvms/work/private.img"
KEY = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


def image(path: Path, size: int, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as stream:
        stream.truncate(size * MIB)
        stream.seek(MIB)
        stream.write(content)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A golden image with the lab's qubes, their volumes almost empty."""
    root = golden_tree.bootable(golden_tree.make(tmp_path / "golden"))
    put(root, "etc/machine-id", b"0123456789abcdef0123456789abcdef\n")
    put(root, "root/.bash_history", b"a secret\n")
    put(root, "etc/group", b"root:x:0:\nqubes:x:98:user\n")
    put(root, f"{STORES}/qubes.xml", qubes.store(VERSION))
    template = f"{STORES}/vm-templates/{qubes.TEMPLATE}"
    image(root / template / "root.img", qubes.ROOT_MIB, b"template" * 99999)
    image(root / template / "private.img", qubes.PRIVATE_MIB, b"")
    for qube in qubes.QUBES:
        place = root / STORES / "appvms" / qube.name / "private.img"
        image(place, qubes.PRIVATE_MIB, qube.name.encode() * 1000)
    put(root, f"{STORES}/vm-kernels/{VERSION}/vmlinuz", b"a guest's kernel")
    return root


@pytest.fixture
def state(tmp_path: Path) -> State:
    return new_state(tmp_path / "state")


class Command:
    """The command, in a process of its own as it always runs."""

    def __init__(self, folder: Path, state: State) -> None:
        self.site = folder / "site.yaml"
        self.choose("work", "vault")
        self.argv = [
            *(sys.executable, "-m", "sys_pxe.dom0"),
            *("--state", str(state.root), "--site", str(self.site)),
        ]

    def choose(self, *names: str) -> None:
        wanted = f"{{inherits: base, qubes: [{', '.join(names)}]}}"
        text = SITE.replace("{inherits: base}", wanted)
        files.write(self.site, text.encode())

    def start(self, tree: Path, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [
                *(*self.argv, "release", "build", "r1"),
                *("--from", str(tree), "--compression", "1", *words),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    def build(self, tree: Path, *words: str) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        child = self.start(tree, *words)
        out, err = child.communicate(timeout=300)
        return child.returncode, out, err


@pytest.fixture
def command(tmp_path: Path, state: State) -> Command:
    return Command(tmp_path, state)


def surroundings(state: State) -> tuple[list[str], list[str], list[str]]:
    """Return mounts, loop devices and files of the state's folder.

    Other tests may run at the same time: theirs do not count.
    """
    listed = run.run(
        ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"]
    )
    root = str(state.root)
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    loops = listed.stdout.decode().splitlines()
    folder = state.releases_folder
    left = [p.name for p in folder.iterdir()] if folder.exists() else []
    return (
        [line for line in mounts if root in line],
        [line for line in loops if root in line],
        left,
    )


def snapshot(tree: Path) -> dict[str, tuple[int, int]]:
    found = {p: p.lstat() for p in sorted(tree.rglob("*"))}
    return {str(p): (s.st_mtime_ns, s.st_blocks) for p, s in found.items()}


@pytest.fixture
def seed(tmp_path: Path) -> Iterator[Path]:
    """Where the test mounts a seed."""
    place = tmp_path / "seed"
    place.mkdir()
    yield place
    if place.is_mount():
        run.run(["umount", str(place)])


def test_a_release_with_qubes_is_built_whole(
    tree: Path, state: State, command: Command, seed: Path, tmp_path: Path
) -> None:
    before, golden = surroundings(state), snapshot(tree)
    code, out, err = command.build(tree)
    assert (code, out[:18]) == (0, "release r1 built: "), err
    assert surroundings(state) == (*before[:2], ["r1"])
    assert snapshot(tree) == golden
    made = state.release("r1")
    (one,) = made.sets
    assert (one.name, one.qubes) == ("office", ("vault", "work"))
    # work starts with the system
    assert 2 * one.boot_mib == one.all_mib >= 2 * qubes.MEMORY_MIB
    folder = state.release_folder("r1")
    found = store.read(folder / made.of_set(one, Role.QUBES).name)
    assert found.autostart == ("work",)
    assert "personal" not in found.xml
    assert ">work<" in found.xml
    image = folder / made.of_set(one, Role.VOLUMES).name
    run.run(["mount", "-o", "loop,ro", str(image), str(seed)])
    assert sorted(str(p.relative_to(seed)) for p in seed.rglob("*.img")) == [
        *("appvms/vault/private.img", "appvms/work/private.img"),
        f"vm-templates/{qubes.TEMPLATE}/private.img",
        f"vm-templates/{qubes.TEMPLATE}/root.img",
    ]
    for path in seed.rglob("*.img"):
        with (
            open(path, "rb") as copy,
            open(tree / STORES / path.relative_to(seed), "rb") as original,
        ):
            assert copy.read(4 * MIB) == original.read(4 * MIB)
        assert path.stat().st_gid == 98
    assert (seed / f"vm-kernels/{VERSION}/vmlinuz").read_bytes() == (
        b"a guest's kernel"
    )


def test_a_release_holds_a_set_for_each_profile(
    tree: Path, state: State, command: Command, seed: Path
) -> None:
    command.choose("work", "vault")
    lines = "profiles:\n  alone:  {inherits: base, qubes: [personal]}\n"
    text = command.site.read_text().replace("profiles:\n", lines)
    # a set is made for what a client has
    lines = "clients:\n  desk-02: {mac: 52:54:00:00:00:02, profile: alone}\n"
    text = text.replace("clients:\n", lines)
    files.write(command.site, text.encode())
    code, _, err = command.build(tree)
    assert code == 0, err
    made = state.release("r1")
    named = [a.name for a in made.artifacts if a.role is Role.VOLUMES]
    assert sorted(named) == ["volumes-alone", "volumes-office"]
    named = [a.name for a in made.artifacts if a.role is Role.QUBES]
    assert sorted(named) == ["qubes-alone", "qubes-office"]
    _, site = sitefile.load(command.site)
    folder = state.release_folder("r1")
    wanted = {"office": ["vault", "work"], "alone": ["personal"]}
    for profile, names in wanted.items():
        one = plan.qube_set(profiles.settings(site, profile, "here"), made)
        assert one is not None
        assert (one.name, list(one.qubes)) == (profile, names)
        xml = store.read(folder / made.of_set(one, Role.QUBES).name).xml
        others = [q.name for q in qubes.QUBES if f">{q.name}<" in xml]
        assert sorted(others) == names
        image = folder / made.of_set(one, Role.VOLUMES).name
        run.run(["mount", "-o", "loop,ro", str(image), str(seed)])
        held = [p.parent.name for p in seed.glob("appvms/*/*.img")]
        assert sorted(held) == names
        assert (seed / f"vm-templates/{qubes.TEMPLATE}/root.img").is_file()
        run.run(["umount", str(seed)])


def test_the_root_is_sealed_and_watched(
    tree: Path, state: State, command: Command, tmp_path: Path
) -> None:
    assert command.build(tree)[0] == 0
    root = tmp_path / "root"
    run.run(["unsquashfs", "-q", "-n", "-d", str(root),
             str(state.release_folder("r1") / "dom0-root")])  # fmt: skip
    assert (root / "etc/machine-id").read_bytes() == b""
    assert not (root / "root/.bash_history").exists()
    assert not list((root / STORES).rglob("*.img"))
    assert not (root / STORES / "qubes.xml").exists()
    writer = root / "etc/systemd/system/qubes-meminfo-writer-dom0.service"
    assert str(writer.readlink()) == "/dev/null"
    assert (root / "usr/lib/sys-pxe/sys_pxe/client/watch.py").is_file()
    wants = root / "usr/lib/systemd/system/multi-user.target.wants"
    link = wants / "sys-pxe-watch.service"
    assert link.resolve().is_file()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("work", "nobody"), "nobody"),
        (("orphan",), "orphan"),
    ],
)
def test_qubes_that_there_are_not_are_refused(
    tree: Path,
    state: State,
    command: Command,
    names: tuple[str, ...],
    said: str,
) -> None:
    text = (tree / STORES / "qubes.xml").read_text()
    # a qube whose template is gone
    gone = text.replace(">personal<", ">orphan<").replace("<tags>", "<tags>", 1)
    (tree / STORES / "qubes.xml").write_text(gone)
    if names == ("orphan",):
        begin = gone.index(">orphan<")
        at = gone.index(f">{qubes.TEMPLATE}<", begin)
        broken = gone[:at] + ">no-such<" + gone[at + len(qubes.TEMPLATE) + 2 :]
        (tree / STORES / "qubes.xml").write_text(broken)
    before = surroundings(state)
    command.choose(*names)
    code, _, err = command.build(tree)
    assert code == 3
    assert said in err and "hint: " in err
    assert surroundings(state)[:2] == before[:2]
    assert surroundings(state)[2] == []


def test_a_volume_that_is_missing_or_cut_off_is_named(
    tree: Path, state: State, command: Command
) -> None:
    os.truncate(tree / WORK, MIB)
    code, _, err = command.build(tree)
    assert code in (1, 3)
    assert "work" in err and "private" in err
    (tree / WORK).unlink()
    code, _, err = command.build(tree)
    assert code in (1, 3)
    assert "private.img" in err and "hint: " in err
    assert surroundings(state)[2] == []


def test_a_secret_that_no_rule_knows_ends_the_build_with_its_name(
    tree: Path, state: State, command: Command
) -> None:
    put(tree, "srv/web/tls.pem", KEY)
    before = surroundings(state)
    code, _, err = command.build(tree)
    assert code == 1
    assert "/srv/web/tls.pem" in err
    assert surroundings(state)[:2] == before[:2]
    assert surroundings(state)[2] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_build_that_is_stopped_leaves_nothing(
    tree: Path, state: State, command: Command, number: signal.Signals
) -> None:
    # no two blocks are equal: what is shared is filled in within a moment
    image(tree / WORK, qubes.PRIVATE_MIB, os.urandom(200 * MIB))
    before = surroundings(state)
    child = command.start(tree, "--compression", "15")
    assert child.stderr is not None
    seen = ""
    # while the seed is being filled
    while "volumes-office:" not in seen:
        line = child.stderr.readline()
        assert line, seen
        seen += line
    child.send_signal(number)
    _, rest = child.communicate(timeout=60)
    assert child.returncode == 130, seen + rest
    assert surroundings(state)[:2] == before[:2]
    assert surroundings(state)[2] == []


def test_what_was_killed_is_swept_by_the_next_build(
    tree: Path, state: State, command: Command
) -> None:
    before = surroundings(state)
    child = command.start(tree)
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("5/6"):
            break
    child.kill()
    child.communicate(timeout=60)
    # its mounts and loop devices ended with it
    deadline = time.monotonic() + 20
    while surroundings(state)[:2] != before[:2]:
        assert time.monotonic() < deadline, surroundings(state)
        time.sleep(0.2)
    assert surroundings(state)[2] == [".building-r1"]
    assert command.build(tree)[0] == 0
    assert surroundings(state)[2] == ["r1"]
    shown = run.run([*command.argv, "release", "show", "r1", "--json"],
                    env={"PYTHONPATH": str(REPOSITORY)})  # fmt: skip
    (one,) = json.loads(shown.stdout)["sets"]
    assert one["qubes"] == ["vault", "work"]
