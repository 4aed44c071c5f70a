"""What a push moves: a whole release, then one that differs in one file."""

import random
import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from sys_pxe import files, manifest, signature
from sys_pxe.dom0 import artifacts, push, squash
from sys_pxe.dom0.progress import Reporter
from sys_pxe.dom0.state import State
from sys_pxe.dom0.transport import LocalTransport, Payload
from sys_pxe.manifest import Manifest, Role
from tests.bench import rows
from tests.dom0_world import new_state

MIB = 1 << 20
QUICK = 3
QUIET = Reporter(quiet=True)
CREATED, EXPIRES = 1_700_000_000, 4_000_000_000
# folder -> MiB, as in a small system
TREE = {
    "usr/lib/firmware": 30,
    "usr/lib/modules": 30,
    "usr/lib": 30,
    "usr/share": 20,
    "usr/bin": 20,
    "boot": 10,
    "var/lib": 9,
    "etc": 1,
}


class Counting(LocalTransport):
    """Counts the bytes that go to the store, manifests and frames as well."""

    def __init__(self, agent_root: Path) -> None:
        super().__init__(agent_root)
        self.nbytes = 0

    def call(
        self,
        service: str,
        argument: str | None = None,
        payload: Payload | None = None,
    ) -> bytes:
        """Call the service with a payload that is counted."""

        def counted(stream: IO[bytes]) -> None:
            if payload is not None:
                payload(_Counter(stream, self._add))  # type: ignore[arg-type]

        return super().call(service, argument, counted)

    def _add(self, count: int) -> None:
        self.nbytes += count


class _Counter:
    def __init__(self, stream: IO[bytes], add: Callable[[int], None]) -> None:
        self._stream = stream
        self._add = add

    def write(self, content: bytes) -> int:
        self._add(len(content))
        return self._stream.write(content)


def make_tree(root: Path) -> None:
    """Write files that do not compress: what is moved is what they hold."""
    maker = random.Random(1)
    for place, size in TREE.items():
        folder = root / place
        folder.mkdir(parents=True, exist_ok=True)
        left, number = size * MIB, 0
        while left > 0:
            count = min(left, maker.randrange(10_000, 800_000))
            (folder / f"file-{number:04}").write_bytes(maker.randbytes(count))
            left -= count
            number += 1


def keep(state: State, name: str, tree: Path, work: Path) -> Manifest:
    """Keep a release of the tree, with dummies for boot files."""
    folder = files.make_folder(state.release_folder(name))
    for role in manifest.BOOT_ROLES:
        files.write(folder / role.value, role.value.encode("ascii") * 1000)
    squash.build(tree, folder / "dom0-root", work, QUICK, QUIET)
    found = tuple(
        artifacts.describe(
            folder / role.value, role, role in manifest.BOOT_ROLES
        )
        for role in (*manifest.BOOT_ROLES, Role.DOM0_ROOT)
    )
    serial = state.take_serial("release")
    made = Manifest(name, serial, CREATED, EXPIRES, found)
    signed = signature.signed(manifest.write(made), state.private_key)
    files.write(folder / "manifest", signed)
    return made


def moved(state: State, made: Manifest, agent: Path) -> int:
    """Push a release and return all bytes that went to the store."""
    transport = Counting(agent)
    push.push(
        made,
        state.signed_manifest(made.release),
        state.release_folder(made.release),
        transport,
        QUIET,
    )
    return transport.nbytes


def once(number: int, folder: Path) -> dict[str, tuple[int, int]]:
    """Push two releases to a new store: push -> (bytes moved, bytes new)."""
    state = new_state(folder / f"state-{number}")
    agent = files.make_folder(folder / f"agent-{number}")
    files.copy(state.public_key, agent / "key.pem")
    tree = folder / "tree"
    # one line of one small file, another one in each round
    (tree / "etc/one-file").write_text(f"round {number}\n", "ascii")
    first = keep(state, "r1", tree, folder)
    (tree / "etc/one-file").write_text(f"round {number}, changed\n", "ascii")
    second = keep(state, "r2", tree, folder)
    old, new = first.chunks(), second.chunks()
    changed = sum(size for digest, size in new.items() if digest not in old)
    found = {
        "first": (moved(state, first, agent), sum(old.values())),
        "second": (moved(state, second, agent), changed),
    }
    files.remove(state.root)
    files.remove(agent)
    return found


def bench() -> list[rows.Row]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_tree(folder / "tree")
        found = [once(n, folder) for n in range(rows.ROUNDS)]
    both = {
        "first": "push of a first release",
        "second": "push of a release with one small file changed",
    }
    measured = []
    for key, what in both.items():
        runs = {
            "ours": [f[key][0] / MIB for f in found],
            "theirs": [f[key][1] / MIB for f in found],
        }
        measured.append(
            rows.compared(
                what,
                "its new chunks alone",
                "MiB",
                runs,
                0.99,
                more_is_better=False,
            )
        )
    whole = [f["first"][0] / MIB for f in found]
    part = [f["second"][0] / MIB for f in found]
    runs = {"ours": part, "theirs": whole}
    what = f"second push (whole: {statistics.median(whole):.0f} MiB)"
    measured.append(
        rows.compared(
            what, "the first push", "MiB", runs, None, more_is_better=False
        )
    )
    return measured
