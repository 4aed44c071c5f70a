"""From files to artifacts: sizes, digests, chunks."""

import hashlib
from pathlib import Path

import pytest

from sys_pxe import manifest
from sys_pxe.dom0 import artifacts
from sys_pxe.errors import InvalidInput
from sys_pxe.manifest import CHUNK_SIZE, Role


@pytest.mark.parametrize(
    "size",
    [1, 999, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE],
)
def test_chunks_cover_the_file_and_each_digest_holds(
    tmp_path: Path, size: int
) -> None:
    content = (b"0123456789" * (size // 10 + 1))[:size]
    path = tmp_path / "dom0-root"
    path.write_bytes(content)
    found = artifacts.describe(path, Role.DOM0_ROOT, whole=False)
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert len(found.digests) == -(-size // CHUNK_SIZE)
    for chunk in found.chunks:
        part = content[chunk.offset : chunk.offset + chunk.size]
        assert hashlib.sha256(part).hexdigest() == chunk.sha256
    assert sum(chunk.size for chunk in found.chunks) == size


def test_a_boot_file_is_one_chunk(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(bytes(CHUNK_SIZE + 5))
    found = artifacts.describe(path, Role.KERNEL, whole=True)
    assert found.digests == (found.sha256,)


def test_an_empty_or_oversized_artifact_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(b"")
    with pytest.raises(InvalidInput, match="0 bytes"):
        artifacts.describe(path, Role.KERNEL, whole=True)
    monkeypatch.setattr(manifest, "CHUNK_MAX", 10)
    path.write_bytes(b"x" * 11)
    with pytest.raises(InvalidInput, match="expected 1 to 10"):
        artifacts.describe(path, Role.KERNEL, whole=True)
