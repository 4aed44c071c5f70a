"""A PC whose PXE ROM is not iPXE, as most are; QEMU's network cards have iPXE.

What tells the server that it is iPXE is taken out of what the ROM asks, until
it loads a file: what runs then may say again what it is. A process of its own
does it, in the LAN's namespace, on the PC's tap.
"""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sys_pxe import run
from sys_pxe.errors import SysPxeError
from sys_pxe.lab.network import BRIDGE, Lan

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = "rom"
PORT, PEER = "v-rom", "v-rom-in"
# what is seen on the tap is seen before this drops it
_RULES = """
table netdev {table} {{
    chain asked {{
        type filter hook ingress device {tap} priority 0;
        udp dport 67 drop
    }}
}}
"""
_USER_CLASS, _IPXE = 77, 175  # RFC 3004; iPXE's own encapsulated options
_PAD, _END = 0, 255  # RFC 2132, section 3
_ETHERNET, _UDP, _BOOTP = 14, 8, 240
_ALL_PROTOCOLS = 3  # ETH_P_ALL of linux/if_ether.h
_FRAME_MAX = 2048
_UNDISGUISE = ("nft", "delete", "table", "netdev", TABLE)
# the PC's address must not be learned at this port of the bridge
_DEVICES = (
    ("ip", "link", "add", PORT, "type", "veth", "peer", "name", PEER),
    ("ip", "link", "set", PORT, "master", BRIDGE),
    ("bridge", "link", "set", "dev", PORT, "learning", "off"),
    ("ip", "link", "set", PORT, "up"),
    # else Linux answers here too for the server's address, and the PC may take
    # this device for the server
    ("ip", "link", "set", PEER, "arp", "off", "up"),
)


def port_of(frame: bytes) -> int | None:
    """Return where a frame with UDP over IPv4 goes, None for any other."""
    if len(frame) < _ETHERNET + 20 or frame[12:14] != b"\x08\x00":
        return None
    udp = _ETHERNET + 4 * (frame[14] & 15)
    if frame[23] != socket.IPPROTO_UDP or len(frame) < udp + _UDP:
        return None
    return int.from_bytes(frame[udp + 2 : udp + 4], "big")


def disguised(frame: bytes) -> bytes:
    """Return a DHCP request without the options that only iPXE sends."""
    made = bytearray(frame)
    udp = _ETHERNET + 4 * (frame[14] & 15)
    # none: RFC 768
    made[udp + 6 : udp + 8] = bytes(2)
    at = udp + _UDP + _BOOTP
    while at + 1 < len(made) and made[at] != _END:
        if made[at] == _PAD:
            at += 1
            continue
        size = min(2 + made[at + 1], len(made) - at)
        if made[at] in {_USER_CLASS, _IPXE}:
            made[at : at + size] = bytes(size)
        at += size
    return bytes(made)


@contextmanager
def plain(lan: Lan, tap: str) -> Iterator[None]:
    """Let the ROM behind a tap be no iPXE, while the block runs.

    Raises SysPxeError where the devices, the rule or the process cannot be
    made.
    """
    rules = _RULES.format(table=TABLE, tap=tap).encode("ascii")
    argv = [sys.executable, "-m", "sys_pxe.lab.rom", tap]
    with ExitStack() as undo:
        undo.callback(_run, lan, "ip", "link", "delete", PORT)
        for words in _DEVICES:
            _run(lan, *words, check=True)
        undo.callback(_run, lan, *_UNDISGUISE)
        run.run(lan.exec_argv(["nft", "--file", "-"]), stdin=rules)
        child = run.spawn(
            lan.exec_argv(argv),
            stdout=run.PIPE,
            env={"PYTHONPATH": str(REPOSITORY)},
        )
        undo.callback(run.stop, child)
        if child.stdout is None or child.stdout.readline() != b"ready\n":
            raise SysPxeError(f"nobody listens on {tap}: see what it said")
        yield


def _run(lan: Lan, *argv: str, check: bool = False) -> None:
    run.run(lan.exec_argv(argv), check=check)


def pass_on(tap: str) -> None:
    """Hand on what a ROM asks, disguised, until it loads a file by TFTP."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as into,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out,
    ):
        out.bind((PEER, 0))
        into.bind((tap, _ALL_PROTOCOLS))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            frame, address = into.recvfrom(_FRAME_MAX)
            if address[2] == socket.PACKET_OUTGOING:
                continue
            match port_of(frame):
                case 67:
                    out.send(disguised(frame))
                case 69:
                    run.run(_UNDISGUISE)
                    return


if __name__ == "__main__":
    pass_on(sys.argv[1])
