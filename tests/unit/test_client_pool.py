"""The VM pool: its steps in their order, and what goes wrong in them."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sys_pxe import files, run
from sys_pxe.client import chunks, pool
from sys_pxe.errors import SysPxeError

MIB = 1 << 20
BOUNDARY = 1 << 40


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the pool does, in order; the kernel's part is stood in for."""
    done: list[str] = []
    folder = tmp_path / "pool"
    monkeypatch.setattr(pool, "POOL", folder)
    monkeypatch.setattr(pool, "RESERVE", folder / "reserve")
    monkeypatch.setattr(pool, "SYSFS", tmp_path)

    def mount(argv: list[str], **_: object) -> None:
        done.append(" ".join(argv).replace(str(tmp_path), "HERE"))

    def control(path: Path, text: str) -> None:
        done.append(f"{path.name} {text}")

    monkeypatch.setattr(run, "run", mount)
    monkeypatch.setattr(files, "write_control", control)

    def end_of(mounted: Path) -> int:
        assert mounted == folder
        done.append("end")
        return BOUNDARY

    monkeypatch.setattr(chunks, "end_of", end_of)
    monkeypatch.setattr(
        files, "allocate", lambda p, size: done.append(f"{p.name} {size}")
    )
    return done


def ioctl(steps: list[str]) -> Callable[[int, int, bytearray], int]:
    def call(fd: int, number: int, argument: bytearray) -> int:
        assert (number, len(argument)) == (0x5000940A, 4096)
        assert os.path.samestat(os.fstat(fd), pool.POOL.stat())
        name = bytes(argument[8:]).rstrip(b"\0").decode()
        steps.append(f"add {name}")
        return 0

    return call


def test_the_seed_is_mounted_and_grows_by_a_zram_of_the_limit(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", ioctl(steps))
    seed = tmp_path / "seed"
    files.write(seed, bytes(1000))
    assert pool.make(seed, 512) == pool.Pool(1000, 512 * MIB, BOUNDARY)
    assert steps == [
        "mount -t btrfs -o loop,ro HERE/seed HERE/pool",
        # before there is a sprout
        "end",
        f"disksize {512 * MIB}",
        "add /dev/zram0",
        "mount -o remount,rw,noatime,discard HERE/pool",
        f"reserve {16 * MIB}",
    ]


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EBUSY, errno.EINVAL])
def test_a_kernel_that_cannot_is_told_with_the_size(
    steps: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "ioctl", fail)
    files.write(tmp_path / "seed", b"x")
    with pytest.raises(SysPxeError, match="zram of 512 MiB") as caught:
        pool.make(tmp_path / "seed", 512)
    assert os.strerror(number) in caught.value.message
    assert "btrfs" in caught.value.hint
    assert not any("remount" in step for step in steps)


def test_the_real_call_takes_a_buffer_of_its_size(tmp_path: Path) -> None:
    # fcntl refuses long bytes before the kernel sees them
    with files.opened_folder(tmp_path) as folder:
        argument = bytearray(pool._VOL_ARGS.pack(0, b"/nonexistent"))
        with pytest.raises(OSError) as caught:
            fcntl.ioctl(folder, pool._ADD_DEVICE, argument)
    assert caught.value.errno in (errno.ENOTTY, errno.EPERM, errno.ENOENT)
