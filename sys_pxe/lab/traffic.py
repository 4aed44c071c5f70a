"""What the lab's server sent and was asked, in bytes: counters of nftables."""

import json

from sys_pxe import run
from sys_pxe.lab.network import Lan

TABLE = "lab"
# dnsmasq sends files from a port of its own each, so: UDP that is no DHCP, nor
# the agent's own question (port 68) who else answers it
_RULES = f"""
table inet {TABLE} {{
    counter tftp {{ }}
    counter http {{ }}
    counter dhcp {{ }}
    chain asked {{
        type filter hook input priority 0;
        udp dport 67 counter name dhcp
    }}
    chain sent {{
        type filter hook output priority 0;
        udp sport != {{ 67, 68, 4011 }} counter name tftp
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
    """Return the bytes that were sent by TFTP and by HTTP, and those of what
    DHCP was asked, with their headers."""
    argv = ["nft", "--json", "list", "counters", "table", "inet", TABLE]
    said = json.loads(run.run(lan.exec_argv(argv)).stdout)
    found = [one["counter"] for one in said["nftables"] if "counter" in one]
    return {one["name"]: int(one["bytes"]) for one in found}
