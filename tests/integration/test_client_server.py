"""Where a client fetches from when its loader could not say it. Needs root.

A unified image has no command line for one client: the server is who answers
firmware on this network, which beside another DHCP server is not who gave the
lease.
"""

import json
import sys
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.lab.network import inside
from tests.agent_world import REPOSITORY
from tests.integration.agent_room import MAC, STRANGER, Room
from tests.integration.test_agent_firmware import beside, room

__all__ = ["beside", "room"]
PROBE = Path(__file__).parent / "client_probe.py"


def asked(place: Room, *words: str) -> dict[str, object]:
    argv = [sys.executable, str(PROBE), *words]
    done = run.run(
        inside(place.host, argv),
        env={"PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_our_own_dhcp_server_is_the_server(room: Room) -> None:
    assert asked(room, "server", MAC, "5") == {"server": "192.0.2.1"}


def test_beside_another_dhcp_server_we_are_found_too(beside: Room) -> None:
    lease = asked(beside, "dhcp", MAC, "10")
    assert lease["server"] == "192.0.2.254"
    assert asked(beside, "server", MAC, "5") == {"server": "192.0.2.1"}


@pytest.mark.usefixtures("beside")
def test_who_is_refused_finds_nobody(beside: Room) -> None:
    assert asked(beside, "server", STRANGER, "1.5") == {"server": None}
