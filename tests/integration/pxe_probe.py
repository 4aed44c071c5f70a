"""A PC's firmware, as far as the tests need it: DHCP question, TFTP fetch.

``dhcp MAC ARCH [ipxe] [http]`` prints the offer as JSON, null if none came;
``raw MAC OPTIONS`` sends these options, in hex, instead of those of a firmware;
``offers MAC ARCH [http]`` prints the offers of all servers; ``menu MAC ARCH
SERVER [TYPE]`` asks a boot server on port 4011, as firmware does after the
offer of a proxy (PXE 2.1); ``tftp SERVER FILE`` prints size and SHA-256;
``flood SERVER FILE COUNT OPEN`` fetches it so many times at once, and ends no
fetch until so many are open; ``strangers SERVER COUNT`` asks with so many MAC
addresses; ``slow SERVER PATH COUNT [ADDRESS ...]`` opens so many connections,
reads the status of each, counts them and waits for the end of its input. Runs
in a host's namespace, with the standard library only.
"""

import hashlib
import json
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

COOKIE = b"\x63\x82\x53\x63"
PATIENCE = 2.5
# seconds; dnsmasq waits longer for the acknowledgement of a last block
HELD = 20.0


def option(number: int, value: bytes) -> bytes:
    return bytes([number, len(value)]) + value


def question(
    mac: bytes,
    arch: int,
    words: Collection[str] = (),
    kind: int = 1,
    ours: str = "0.0.0.0",
    more: bytes = b"",
) -> bytes:
    name = "HTTP" if "http" in words else "PXE"
    vendor = f"{name}Client:Arch:{arch:05}:UNDI:002001".encode()
    parts = [
        option(55, bytes([1, 3, 6, 43, 54, 60, 66, 67])),
        option(60, vendor),
        option(93, struct.pack("!H", arch)),
        option(94, b"\x01\x02\x01"),
        option(97, bytes(17)),
    ]
    if "ipxe" in words:
        parts += [option(77, b"iPXE"), option(175, b"\x01\x01\x01")]
    return packet(mac, option(53, bytes([kind])), b"".join(parts) + more, ours)


def packet(
    mac: bytes, kind: bytes, more: bytes, ours: str = "0.0.0.0"
) -> bytes:
    flags = 0x8000 if kind == option(53, b"\x01") else 0
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, 0x53595058, 0, flags)
    head += socket.inet_aton(ours) + bytes(12) + mac + bytes(10 + 64 + 128)
    return head + COOKIE + kind + more + b"\xff"


def answer(reply: bytes) -> dict[str, object]:
    got = options(reply)
    named = reply[108:236].rstrip(b"\0") or got.get(67, b"").rstrip(b"\0")
    return {
        "type": got[53][0],
        "address": socket.inet_ntoa(reply[16:20]),
        "server": socket.inet_ntoa(reply[20:24]),
        "file": named.decode(),
        "options": sorted(got),
        "vendor": got.get(60, b"").decode(),
        "from": socket.inet_ntoa(got[54]),
        "menu": got.get(43, b"").hex(),
    }


def options(reply: bytes) -> dict[int, bytes]:
    found, rest = {}, reply[240:]
    while rest and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        found[rest[0]] = rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    return found


def ask(mac: bytes, asked: bytes, patience: float) -> list[dict[str, object]]:
    """Return the first offer of each server; of one only, in less time."""
    found: dict[object, dict[str, object]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        sock.bind(("0.0.0.0", 68))
        end = time.monotonic() + patience
        while (left := end - time.monotonic()) > 0:
            sock.sendto(asked, ("255.255.255.255", 67))
            until = time.monotonic() + min(left, 1.0)
            while (left := until - time.monotonic()) > 0:
                sock.settimeout(left)
                try:
                    reply = sock.recv(4096)
                except TimeoutError:
                    break
                if reply[28:34] != mac or reply[0] != 2:
                    continue
                one = answer(reply)
                found.setdefault(one["from"], one)
                if patience == PATIENCE:
                    return [one]
    return list(found.values())


def menu(
    mac: bytes, arch: int, server: str, item_type: str = "8000"
) -> dict[str, object]:
    # BIOS chose the menu's first item; UEFI got no menu and names none
    chosen = option(71, bytes.fromhex(item_type) + b"\x00\x00")
    item = b"" if arch else option(43, chosen + b"\xff")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind(("0.0.0.0", 68))
        ours = "192.0.2.50"
        asked = question(mac, arch, (), 3, ours, item)
        sock.sendto(asked, (server, 4011))
        return answer(sock.recv(4096))


def tftp(server: str, name: str) -> dict[str, object]:
    digest, size = hashlib.sha256(), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(request(name), (server, 69))
        block = 1400
        while True:
            reply, peer = sock.recvfrom(4096)
            code, number = struct.unpack("!HH", reply[:4])
            if code == 5:
                return {"error": number}
            sock.sendto(struct.pack("!HH", 4, 0 if code == 6 else number), peer)
            if code == 6:
                continue
            digest.update(reply[4:])
            size += len(reply) - 4
            if len(reply) - 4 < block:
                return {"size": size, "sha256": digest.hexdigest()}


def request(name: str) -> bytes:
    return b"\0\x01" + name.encode() + b"\0octet\0blksize\x001400\0"


@dataclass
class Fetch:
    """One TFTP fetch of many: what came so far, and when to ask again."""

    sock: socket.socket
    again: float
    size: int = 0
    blocks: int = 0
    peer: tuple[str, int] | None = None
    whole: bool = False

    def receive(self) -> None:
        """Take a packet and acknowledge it, unless it brings the last block:
        until then the server keeps the fetch open."""
        reply, peer = self.sock.recvfrom(4096)
        code, number = struct.unpack("!HH", reply[:4])
        if code == 5:
            raise SystemExit(f"TFTP error {number}")
        self.peer = self.peer or peer
        if peer != self.peer:
            # asked twice, answered twice: unknown transfer ID (RFC 1350, 5)
            self.sock.sendto(struct.pack("!HH", 5, 5) + b"\0", peer)
            return
        if code == 3 and number == self.blocks + 1:
            self.blocks += 1
            self.size += len(reply) - 4
            self.whole = len(reply) - 4 < 1400
        if not self.whole:
            self.acknowledge()

    def acknowledge(self) -> None:
        assert self.peer
        self.sock.sendto(struct.pack("!HH", 4, self.blocks), self.peer)


def flood(server: str, name: str, count: int, least: int) -> dict[str, object]:
    poll = selectors.DefaultSelector()
    fetches = []
    now = time.monotonic()
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.sendto(request(name), (server, 69))
        fetches.append(Fetch(sock, now + 2))
        poll.register(sock, selectors.EVENT_READ, fetches[-1])
    sizes: list[int] = []
    most = 0
    while len(sizes) < count and time.monotonic() < now + 60:
        for key, _ in poll.select(0.2):
            key.data.receive()
        begun = sum(one.peer is not None for one in fetches)
        most = max(most, begun - len(sizes))
        later = time.monotonic()
        if most >= least or later > now + HELD:
            for one in [o for o in fetches if o.whole and o.sock.fileno() >= 0]:
                one.acknowledge()
                sizes.append(one.size)
                poll.unregister(one.sock)
                one.sock.close()
        for one in fetches:
            if one.peer is None and later > one.again:
                one.again = later + 2
                one.sock.sendto(request(name), (server, 69))
    return {"done": len(sizes), "sizes": sorted(set(sizes)), "open": most}


def strangers(count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        sock.bind(("0.0.0.0", 68))
        for n in range(count):
            mac = bytes([0x52, 0x54, 1, 0, n >> 8, n & 255])
            sock.sendto(question(mac, 0), ("255.255.255.255", 67))
    print(json.dumps({"sent": count}))


def slow(server: str, path: str, count: int, ours: Sequence[str]) -> None:
    conns = []
    for n in range(count):
        conn = socket.socket()
        # a small window: the server cannot get rid of the file
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        if ours:
            conn.bind((ours[n % len(ours)], 0))
        conn.settimeout(20)
        conn.connect((server, 80))
        conn.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        conns.append(conn)
    codes = Counter(conn.recv(13)[9:12].decode() for conn in conns)
    print(json.dumps(codes), flush=True)
    sys.stdin.read()


def main() -> None:
    kind, first, *rest = sys.argv[1:]
    mac = bytes.fromhex(first.replace(":", "")) if ":" in first else b""
    if kind == "dhcp":
        offers = ask(mac, question(mac, int(rest[0]), rest[1:]), PATIENCE)
        print(json.dumps(offers[0] if offers else None))
    elif kind == "raw":
        asked = packet(mac, option(53, b"\x01"), bytes.fromhex(rest[0]))
        offers = ask(mac, asked, PATIENCE)
        print(json.dumps(offers[0] if offers else None))
    elif kind == "offers":
        offers = ask(mac, question(mac, int(rest[0]), rest[1:]), 3.5)
        print(json.dumps({one["from"]: one for one in offers}))
    elif kind == "menu":
        print(json.dumps(menu(mac, int(rest[0]), *rest[1:])))
    elif kind == "flood":
        print(json.dumps(flood(first, rest[0], *map(int, rest[1:]))))
    elif kind == "strangers":
        strangers(int(rest[0]))
    elif kind == "slow":
        slow(first, rest[0], int(rest[1]), rest[2:])
    else:
        print(json.dumps(tftp(first, rest[0])))


if __name__ == "__main__":
    main()
