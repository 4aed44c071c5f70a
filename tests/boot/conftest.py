"""One lab for all boot tests: LAN, agent, a release that is active."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe.lab.world import World

BUILD = Path(__file__).resolve().parents[2] / "build"


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World(BUILD / "boot-tests", BUILD / "cache", print) as lab:
        lab.create_key()
        lab.command("key", "create", "--secure-boot")
        # first, as images for UEFI hold the options of its profiles
        lab.write_site()
        lab.build("r1", lab.golden())
        lab.start_agent()
        lab.command("release", "push", "r1", shown=False)
        lab.command("site", "push")
        lab.command("channel", "set", "stable", "r1")
        yield lab
