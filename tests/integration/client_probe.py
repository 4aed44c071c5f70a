"""The client program's parts, run in a host's namespace. JSON to stdout.

Words: ``dhcp MAC PATIENCE`` | ``server MAC PATIENCE`` |
``address ADDRESS GATEWAY`` | ``down`` |
``fetch SERVER MANIFEST ROLE TARGET``; the interface is always eth0.
"""

import json
import sys
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from sys_pxe import manifest
from sys_pxe.client import dhcp, fetch, interface, memory
from sys_pxe.errors import SysPxeError

NAME = "eth0"


def get_lease(mac: str, patience: str) -> dict[str, object]:
    waits: list[int] = []
    interface.bring_up(NAME)
    interface.wait_for_carrier(NAME, 10, waits.append)
    lease = dhcp.obtain(NAME, mac, float(patience), waits.append)
    return {
        "address": str(lease.address),
        "gateway": str(lease.gateway),
        "server": str(lease.boot_server),
    }


def get_server(mac: str, patience: str) -> dict[str, object]:
    interface.bring_up(NAME)
    interface.wait_for_carrier(NAME, 10, lambda _: None)
    found = dhcp.boot_server(NAME, mac, float(patience))
    return {"server": str(found) if found else None}


def set_address(address: str, gateway: str) -> dict[str, object]:
    interface.set_address(NAME, IPv4Interface(address), IPv4Address(gateway))
    return {}


def take_down() -> dict[str, object]:
    interface.take_down(NAME)
    return {}


def get_file(
    server: str, description: str, role: str, target: str
) -> dict[str, object]:
    found = manifest.parse(Path(description).read_bytes())
    artifact = found.find(manifest.Role(role))
    progress = fetch.Progress(artifact.size)
    with memory.new_image(Path(target), artifact.size) as place:
        fetch.fetch(
            (server, 80), artifact, place, progress,
            lambda: print(progress.done, file=sys.stderr, flush=True),
        )  # fmt: skip
    return {
        "done": progress.done,
        "received": progress.received,
        "breaks": progress.breaks,
        "resumed_at": progress.resumed_at,
    }


CALLS = {
    "dhcp": get_lease,
    "server": get_server,
    "address": set_address,
    "down": take_down,
    "fetch": get_file,
}


def main() -> int:
    try:
        print(json.dumps(CALLS[sys.argv[1]](*sys.argv[2:])))  # type: ignore[operator]
    except SysPxeError as error:
        print(json.dumps({"error": error.message, "hint": error.hint}))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
