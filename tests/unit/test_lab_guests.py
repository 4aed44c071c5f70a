"""Qubes in a client: what is asked of lab-guest, what it answers."""

import errno
import importlib.machinery
import importlib.util
import json
import os
import pty
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import run
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import guests, qubes
from sys_pxe.lab.guests import Guests

SCRIPT = Path(guests.__file__).parent / "files/lab-guest"
VERSION = "6.12.1-lab"


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("lab_guest", str(SCRIPT))
    spec = importlib.util.spec_from_loader("lab_guest", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "POOL", str(tmp_path))
    (tmp_path / "qubes.xml").write_bytes(qubes.store(VERSION))
    return module


class FakeMachine:
    """A machine whose console says the same to everything."""

    def __init__(self, says: str) -> None:
        self.says = says
        self.lines: list[str] = []

    def command(self, line: str, timeout: float = 0) -> str:
        del timeout
        self.lines.append(line)
        return self.says


def talking(says: str) -> tuple[Guests, FakeMachine]:
    machine = FakeMachine(says)
    return Guests(machine), machine  # type: ignore[arg-type]


def test_a_line_reaches_lab_guest_as_one_word() -> None:
    found, machine = talking('noise\n{"status": 3, "output": "a\\nb"}\n')
    line = """echo "it's" $HOME; rm -rf '/x y'"""
    assert found.run("work", line) == guests.Answer(3, "a\nb")
    assert shlex.split(machine.lines[0]) == ["lab-guest", "run", "work", line]


def test_a_line_that_has_to_succeed_and_does_not_is_an_error() -> None:
    found, _ = talking('{"status": 1, "output": "no such file"}')
    with pytest.raises(SysPxeError, match=r"status 1.*no such file"):
        found.check("work", "cat /x")


def test_the_sizes_of_the_pool_are_read() -> None:
    said = '{"zram_held": 4, "pool_used": 3, "pool_free": 2}'
    assert talking(said)[0].used() == guests.Used(4, 3, 2)


@pytest.mark.parametrize(
    "said",
    ["", "\n", "{", "[]", "7", "null", '{"status": 0}\nTraceback',
     "[" * 100_000],
    ids=range(8),
)  # fmt: skip
def test_what_is_not_one_json_object_is_refused(said: str) -> None:
    with pytest.raises(SysPxeError, match="lab-guest said") as caught:
        guests.parse(said)
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    "value", ["-1", "true", "null", '"4"', "1.5", '"' + "x" * 9000 + '"']
)
def test_a_size_that_is_no_size_is_refused(value: str) -> None:
    said = f'{{"zram_held": {value}, "pool_used": 3, "pool_free": 2}}'
    with pytest.raises(SysPxeError, match="zram_held") as caught:
        talking(said)[0].used()
    assert len(caught.value.message) < 1000


@given(st.text())
def test_noise_is_an_object_or_an_error(noise: str) -> None:
    with suppress(SysPxeError):
        assert isinstance(guests.parse(noise), dict)


def test_a_digest_is_64_hex_digits_or_an_error() -> None:
    digest = "0f" * 32
    assert talking(f"{digest} *seed\n")[0].seed_digest() == digest
    for said in ("", "No such file", digest[:-1] + " *seed", digest + "0 *s"):
        with pytest.raises(SysPxeError, match="openssl said"):
            talking(said)[0].seed_digest()


def test_the_configuration_names_images_kernel_and_memory(
    guest: ModuleType, tmp_path: Path
) -> None:
    qube = guest.Qube("work", str(tmp_path / "qubes.xml"))
    loops = {"root": "/dev/loop4", "private": "/dev/loop7"}
    lines = qube.config(loops).splitlines()
    config = dict(line.split(" = ", 1) for line in lines)
    assert config["name"] == '"work"'
    assert config["type"] == '"pv"'
    assert config["memory"] == config["maxmem"] == str(qubes.MEMORY_MIB)
    assert f"vm-kernels/{VERSION}/vmlinuz" in config["kernel"]
    assert "lab.name=work" in config["extra"]
    root, private = json.loads(config["disk"])
    for disk, name, loop in (
        (root, "xvda", "/dev/loop4"),
        (private, "xvdb", "/dev/loop7"),
    ):
        assert f"vdev={name},backendtype=phy,access=rw," in disk
        # the target has to be the last
        assert disk.endswith(f",target={loop}")


def test_a_qube_that_the_store_does_not_have_is_named(
    guest: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(guest.Failed, match="no qube office"):
        guest.Qube("office", str(tmp_path / "qubes.xml"))


def test_a_volume_outside_of_the_pool_is_refused(
    guest: ModuleType, tmp_path: Path
) -> None:
    store = tmp_path / "qubes.xml"
    text = store.read_text()
    store.write_text(
        text.replace("appvms/work/private", "appvms/../../private")
    )
    with pytest.raises(guest.Failed, match="not in the pool"):
        guest.Qube("work", str(store))


def cloned(source: str, target: str) -> None:
    """Stand in for FICLONE, which not every file system has."""
    Path(target).write_bytes(Path(source).read_bytes())
    times = (os.stat(source).st_mtime_ns,) * 2
    os.utime(target, ns=times)


def test_volumes_start_and_stop_as_the_driver_does_it(
    guest: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest, "clone", cloned)
    template = tmp_path / "vm-templates/lab-template/root.img"
    private = tmp_path / "appvms/work/private.img"
    for path, content in ((template, b"template"), (private, b"old")):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    qube = guest.Qube("work", str(tmp_path / "qubes.xml"))
    for volume in qube.volumes.values():
        volume.start()
    work = private.parent
    assert (work / "root.img").stat().st_ino == template.stat().st_ino
    assert (work / "root-dirty.img").read_bytes() == b"template"
    size = qubes.VOLATILE_MIB << 20
    assert (work / "volatile-dirty.img").stat().st_size == size
    (work / "root-dirty.img").write_bytes(b"changed")
    (work / "private-dirty.img").write_bytes(b"new")
    for volume in qube.volumes.values():
        volume.stop()
    assert template.read_bytes() == b"template"
    assert private.read_bytes() == b"new"
    assert (work / "private-precache.img").read_bytes() == b"new"
    left = sorted(p.name for p in work.iterdir())
    assert left[:2] == ["private-precache.img", "private.img"]
    assert left[2].startswith("private.img.1@")
    assert len(left) == 3
    assert (work / left[2]).read_bytes() == b"old"


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(0, []), (1, [b"2"]), (2, [b"1", b"2"]), (9, [b"0", b"1", b"2"])],
)
def test_as_many_revisions_are_kept_as_the_store_says(
    guest: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep: int,
    kept: list[bytes],
) -> None:
    monkeypatch.setattr(guest, "clone", cloned)
    private = tmp_path / "appvms/work/private.img"
    private.parent.mkdir(parents=True)
    private.write_bytes(b"0")
    volume = guest.Qube("work", str(tmp_path / "qubes.xml")).volumes["private"]
    volume.keep = keep
    for content in (b"1", b"2", b"3"):
        volume.start()
        Path(volume.dirty).write_bytes(content)
        volume.stop()
    assert [Path(path).read_bytes() for path in volume.revisions()] == kept
    assert private.read_bytes() == b"3"


def test_where_nothing_can_be_cloned_nothing_is_copied(
    guest: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(guest.fcntl, "ioctl", refuse)
    (tmp_path / "root.img").write_bytes(b"x" * 5000)
    with pytest.raises(OSError, match="not here"):
        guest.clone(f"{tmp_path}/root.img", f"{tmp_path}/root-dirty.img")
    assert not (tmp_path / "root-dirty.img").exists()


@pytest.fixture
def terminal(guest: ModuleType) -> Iterator[tuple[Any, int]]:
    """A console of lab-guest, and the end of it that a guest has."""
    ours, theirs = pty.openpty()
    console = guest.Console.__new__(guest.Console)
    os.set_blocking(ours, False)
    console.fd, console.text = ours, b""
    yield console, theirs
    os.close(ours)
    os.close(theirs)


@contextmanager
def shell(end: int, folder: Path) -> Iterator[None]:
    """Run the loop of guest-shell on a terminal."""
    script = (SCRIPT.parent / "guest-shell").read_text()
    body = script[script.index("while :; do") :]
    body = body.replace("/tmp/", f"{folder}/")
    child = run.spawn(
        ["bash", "-c", f"box=\nstty raw -echo\n{body}"],
        stdin=end, stdout=end, stderr=end,
    )  # fmt: skip
    try:
        yield
    finally:
        run.stop(child)


@pytest.mark.parametrize(
    ("line", "status", "output"),
    [
        ("echo hello", 0, "hello\n"),
        ("echo 'END-1234 it'\"'\"'s'; exit 3", 3, "END-1234 it's\n"),
        ("true", 0, ""),
        ("printf 'a\\r\\n\\033[0mb'", 0, "a\r\n\x1b[0mb"),
        ("echo oh >&2; false", 1, "oh\n"),
    ],
)
def test_a_guest_answers_with_all_that_a_line_printed(
    terminal: tuple[Any, int],
    tmp_path: Path,
    line: str,
    status: int,
    output: str,
) -> None:
    console, end = terminal
    with shell(end, tmp_path):
        assert console.run(line, 20) == (status, output)


def test_what_a_guests_kernel_says_is_not_its_answer(
    terminal: tuple[Any, int],
) -> None:
    console, end = terminal
    noise = b"[  107.300298] EXT4-fs (xvda): data loss! (error -5)\r\n"
    os.write(end, b"BEGIN-0 0\r\naGVs" + noise + b"bG8=\r\n" + noise)
    os.write(end, b"END-0\n")
    found = console.until(rb"BEGIN-0 0\s+([a-zA-Z0-9=]*)\s+END-0", 5)
    assert found[1] == b"aGVsbG8="


def test_a_guest_that_says_nothing_is_an_error(
    guest: ModuleType, terminal: tuple[Any, int]
) -> None:
    console, end = terminal
    os.write(end, b"BEGIN-00000000 0\nKernel panic\n")
    with pytest.raises(guest.Failed, match="Kernel panic"):
        console.until(rb"GUEST-READY", 0.2)


@pytest.mark.parametrize(
    "words",
    [[], ["start"], ["start", "../x"], ["start", "a b"], ["start", "-x"],
     ["start", "x" * 32], ["run", "work"], ["run", "work", "x" * 2001],
     ["stop", "work", "--now"], ["erase", "work"]],
    ids=range(10),
)  # fmt: skip
def test_a_call_that_makes_no_sense_does_nothing(words: list[str]) -> None:
    done = run.run([sys.executable, str(SCRIPT), *words], check=False)
    assert done.status == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"lab-guest: ")
