"""How many bytes the lab's server sent, by protocol: counters of nftables."""

import json

from sys_pxe import run
from sys_pxe.lab.network import Lan

TABLE = "lab"
# dnsmasq sends files from a port of its own each, so: UDP that is no DHCP
_RULES = f"""
table inet {TABLE} {{
    counter tftp {{ }}
    counter http {{ }}
    chain sent {{
        type filter hook output priority 0;
        udp sport != {{ 67, 4011 }} counter name tftp
        tcp sport 80 counter name http
    }}
}}
"""


def count(lan: Lan) -> None:
    """Begin to count on a LAN, or begin anew."""
    old = ["nft", "delete", "table", "inet", TABLE]
    run.run(lan.exec_argv(old), check=False)
    argv = lan.exec_argv(["nft", "--file", "-"])
    run.run(argv, stdin=_RULES.encode("ascii"))


def counted(lan: Lan) -> dict[str, int]:
    """Return the bytes by TFTP and by HTTP, with their headers."""
    argv = ["nft", "--json", "list", "counters", "table", "inet", TABLE]
    said = json.loads(run.run(lan.exec_argv(argv)).stdout)
    found = [one["counter"] for one in said["nftables"] if "counter" in one]
    return {one["name"]: int(one["bytes"]) for one in found}
