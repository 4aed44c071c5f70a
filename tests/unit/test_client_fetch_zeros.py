"""Zeros that are fetched stay holes, and never leave what was there before."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
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


def get(web: Web, target: FileIO) -> fetch.Progress:
    progress = fetch.Progress(ARTIFACT.size)
    server = ("127.0.0.1", web.port)
    fetch.fetch(server, ARTIFACT, target, progress, lambda: None)
    target.seek(0)
    assert target.readall() == b"".join(PARTS)
    return progress


def test_zeros_take_no_room_and_whole_chunks_of_them_are_not_fetched(
    web: Web, target: FileIO
) -> None:
    progress = get(web, target)
    assert os.fstat(target.fileno()).st_blocks * 512 < STEP
    assert ARTIFACT.digests[1] not in [digest for digest, _ in web.asked]
    assert progress.received == 2 * STEP
    assert progress.done == ARTIFACT.size


@pytest.mark.parametrize(
    ("before", "pages"),
    [
        (b"", 0),
        (b"\1", 1),
        (bytes(4096) + b"\1", 1),
        (b"\1" * 4097 + bytes(9999) + b"\2", 3),
        (bytes(4095) + b"\1" + bytes(4096) + b"\2" * 8192, 3),
    ],
)
def test_pages_of_zeros_take_no_room(
    target: FileIO, before: bytes, pages: int
) -> None:
    # not a whole number of pages
    content = before + bytes(20_000)
    fetch.write_sparse(target, 3 * 4096, memoryview(bytearray(content)))
    assert target.readall() == bytes(3 * 4096) + content + bytes(
        ARTIFACT.size - 3 * 4096 - len(content)
    )
    assert os.fstat(target.fileno()).st_blocks * 512 == pages * 4096


def test_an_artifact_of_zeros_needs_no_server(target: FileIO) -> None:
    zeros = hashlib.sha256(bytes(STEP)).hexdigest()
    empty = replace(ARTIFACT, digests=(zeros,) * 3)
    progress = fetch.Progress(ARTIFACT.size)
    fetch.fetch(("127.0.0.1", 9), empty, target, progress, lambda: None)
    assert (progress.done, progress.received) == (ARTIFACT.size, 0)


def test_zeros_replace_what_a_damaged_chunk_left(
    web: Web, target: FileIO
) -> None:
    wrong = b"\3" * STEP
    # zeros but for its first byte
    web.hook = lambda r: (
        wrong if r.digest == ARTIFACT.digests[0] and r.number == 1 else None
    )
    get(web, target)
