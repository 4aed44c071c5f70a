"""One installed formula for all tests; a fresh Qubes OS for each."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.salt.double import model
from tests.salt.world import REPOSITORY, World


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    patch = pytest.MonkeyPatch()
    # for the programs that Salt starts
    patch.setenv("PYTHONPATH", str(REPOSITORY))
    patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    patch.setenv(model.ENVIRONMENT, os.devnull)
    folder: Path = tmp_path_factory.mktemp("salt")
    yield World(folder)
    patch.undo()


@pytest.fixture
def world(installed: World) -> World:
    installed.reset()
    return installed
