"""Zeros that are fetched stay holes, and never leave what was there before."""

import hashlib
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

from sys_pxe.client import fetch
from sys_pxe.manifest import Artifact, Role
from tests.chunk_server import Web

STEP = 1 << 20
PARTS = (b"\1" + bytes(STEP - 1), bytes(STEP), bytes(STEP - 1) + b"\2")
ARTIFACT = Artifact(
    Role.VOLUMES,
    "volumes-office",
    3 * STEP,
    hashlib.sha256(b"".join(PARTS)).hexdigest(),
    STEP,
    tuple(hashlib.sha256(part).hexdigest() for part in PARTS),
)


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web(dict(zip(ARTIFACT.digests, PARTS, strict=True)))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[FileIO]:
    with FileIO(tmp_path / "image", "w+") as place:
        place.truncate(ARTIFACT.size)
        yield place


def get(web: Web, target: FileIO) -> None:
    progress = fetch.Progress(ARTIFACT.size)
    server = ("127.0.0.1", web.port)
    fetch.fetch(server, ARTIFACT, target, progress, lambda: None)
    target.seek(0)
    assert target.readall() == b"".join(PARTS)


def test_zeros_take_no_room(web: Web, target: FileIO) -> None:
    get(web, target)
    assert os.fstat(target.fileno()).st_blocks * 512 < STEP


def test_zeros_replace_what_a_damaged_chunk_left(
    web: Web, target: FileIO
) -> None:
    wrong = b"\3" * STEP
    web.hook = lambda r: (
        wrong if r.digest == ARTIFACT.digests[1] and r.number == 1 else None
    )
    get(web, target)
