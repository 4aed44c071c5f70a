"""One lab for all boot tests of a process: LAN, agent, an active release."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe.lab.world import World
from tests import matrix

BUILD = Path(__file__).resolve().parents[2] / "build"


@pytest.fixture(scope="session")
def world(worker_id: str) -> Iterator[World]:
    """``worker_id`` tells processes of pytest-xdist that run side by side."""
    folder = BUILD / "boot-tests" / worker_id
    with World(folder, BUILD / "cache", print) as lab:
        matrix.start(lab)
        yield lab
