"""One lab for all boot tests: LAN, agent, a release that is active."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.lab.world import World
from tests import matrix

BUILD = Path(__file__).resolve().parents[2] / "build"


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    # what it says was seen in this run
    files.remove(BUILD / "matrix.json")
    with World(BUILD / "boot-tests", BUILD / "cache", print) as lab:
        matrix.start(lab)
        yield lab
