"""A PC's firmware, as far as the tests need it: DHCP question, TFTP fetch.

``pxe_probe.py dhcp MAC ARCH [ipxe]`` prints the offer as JSON, null if none
came; ``menu MAC ARCH SERVER`` asks a boot server on port 4011, as firmware does
after the offer of a proxy (PXE 2.1); ``tftp SERVER FILE`` prints size and
SHA-256. Runs in a host's namespace, with the standard library only.
"""

import hashlib
import json
import socket
import struct
import sys
import time

COOKIE = b"\x63\x82\x53\x63"
PATIENCE = 2.5


def option(number: int, value: bytes) -> bytes:
    return bytes([number, len(value)]) + value


def question(
    mac: bytes,
    arch: int,
    ipxe: bool,
    kind: int = 1,
    ours: str = "0.0.0.0",
    more: bytes = b"",
) -> bytes:
    flags = 0x8000 if kind == 1 else 0
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, 0x53595058, 0, flags)
    head += socket.inet_aton(ours) + bytes(12) + mac + bytes(10 + 64 + 128)
    vendor = f"PXEClient:Arch:{arch:05}:UNDI:002001".encode()
    parts = [
        option(53, bytes([kind])),
        option(55, bytes([1, 3, 6, 43, 54, 60, 66, 67])),
        option(60, vendor),
        option(93, struct.pack("!H", arch)),
        option(94, b"\x01\x02\x01"),
        option(97, bytes(17)),
    ]
    if ipxe:
        parts += [option(77, b"iPXE"), option(175, b"\x01\x01\x01")]
    return head + COOKIE + b"".join(parts) + more + b"\xff"


def answer(reply: bytes) -> dict[str, object]:
    got = options(reply)
    named = reply[108:236].rstrip(b"\0") or got.get(67, b"").rstrip(b"\0")
    return {
        "type": got[53][0],
        "address": socket.inet_ntoa(reply[16:20]),
        "server": socket.inet_ntoa(reply[20:24]),
        "file": named.decode(),
        "options": sorted(got),
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


def dhcp(mac_text: str, arch: int, ipxe: bool) -> dict[str, object] | None:
    mac = bytes.fromhex(mac_text.replace(":", ""))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        sock.bind(("0.0.0.0", 68))
        end = time.monotonic() + PATIENCE
        while (left := end - time.monotonic()) > 0:
            sock.sendto(question(mac, arch, ipxe), ("255.255.255.255", 67))
            sock.settimeout(min(left, 1.0))
            try:
                reply = sock.recv(4096)
            except TimeoutError:
                continue
            if reply[28:34] != mac or reply[0] != 2:
                continue
            return answer(reply)
    return None


def menu(mac_text: str, arch: int, server: str) -> dict[str, object]:
    mac = bytes.fromhex(mac_text.replace(":", ""))
    # BIOS chose the menu's first item; UEFI got no menu and names none
    item = (
        b"" if arch else option(43, option(71, b"\x80\x00\x00\x00") + b"\xff")
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind(("0.0.0.0", 68))
        ours = "192.0.2.50"
        asked = question(mac, arch, False, 3, ours, item)
        sock.sendto(asked, (server, 4011))
        return answer(sock.recv(4096))


def tftp(server: str, name: str) -> dict[str, object]:
    digest, size = hashlib.sha256(), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        request = b"\0\x01" + name.encode() + b"\0octet\0blksize\x001400\0"
        sock.sendto(request, (server, 69))
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


def main() -> None:
    if sys.argv[1] == "dhcp":
        found = dhcp(sys.argv[2], int(sys.argv[3]), "ipxe" in sys.argv[4:])
        print(json.dumps(found))
    elif sys.argv[1] == "menu":
        print(json.dumps(menu(sys.argv[2], int(sys.argv[3]), sys.argv[4])))
    else:
        print(json.dumps(tftp(sys.argv[2], sys.argv[3])))


if __name__ == "__main__":
    main()
