"""The boot of the lab's release beside dracut's own livenet.

Both boot by PXE and Xen with the same kernel, the same options and the same
squashfs, each from a server in a LAN of its own. What is compared begins with
systemd's start in the initramfs and ends at switch_root.
"""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.dom0.build import boot_sources
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import golden, mirror
from sys_pxe.lab.machine import Hardware, Machine
from sys_pxe.lab.network import Lan
from sys_pxe.lab.world import BOOT_SECONDS, DESKS, IPV6, RAM_MIB, World
from tests.bench import rows

RUNS = int(os.environ.get("SYS_PXE_BENCH_RUNS", rows.ROUNDS))
BUILD = rows.FOLDER.parent
DESK = DESKS[0]
RELEASE = "r1"
PEER = "dracut livenet"
PACKAGES = ("dracut-network", "dracut-live", "curl")
OUTPUT = "var/tmp/livenet-initramfs"
DRACUT = (
    *("--force", "--no-hostonly", "--reproducible", "--zstd"),
    *("--no-early-microcode", "--add"),
    "systemd-networkd livenet dmsquash-live",
)
OPTIONS = (
    "root=live:http://192.0.2.1/dom0-root.squashfs rd.live.image "
    "rd.live.overlay.overlayfs=1 ip=dhcp rd.neednet=1"
)
STAMPS = ("InitRDTimestampMonotonic", "UserspaceTimestampMonotonic")
# as the agent's: no wait for a router or a second DHCP server
DNSMASQ = """\
port=0
interface=lan
bind-interfaces
no-hosts
no-resolv
no-ping
user=root
pid-file=
log-facility=-
dhcp-authoritative
dhcp-leasefile={folder}/leases
dhcp-range=192.0.2.100,192.0.2.199,255.255.255.0,192.0.2.255,1h
dhcp-option=3
dhcp-option=6
dhcp-match=set:ipxe,175
dhcp-boot=tag:ipxe,http://192.0.2.1/boot.ipxe
dhcp-option=tag:ipxe,encap:175,176,1b
dhcp-range=::,constructor:lan,ra-only
ra-param=lan,10,0
"""
NGINX = """\
daemon off;
user root;
worker_processes auto;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 192.0.2.1:80;
        root {folder}/www;
    }}
}}
"""


@dataclass(frozen=True)
class Figures:
    """What one boot cost: times in seconds, RAM in MiB."""

    initramfs: float
    kernel: float
    ram: float


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def stamps(shown: str) -> tuple[float, float]:
    """Return when the initramfs and the real root began, in seconds."""
    found = dict(re.findall(r"^(\w+)=([0-9]+)\r?$", shown, re.MULTILINE))
    begin, end = (int(found[name]) / 1e6 for name in STAMPS)
    if not 0 < begin < end:
        raise SysPxeError(f"no two times of a boot: {shown!r}")
    return begin, end


def measured(machine: Machine) -> Figures:
    """Boot a machine, wait until it is at rest, and read its figures."""
    with machine:
        machine.login(BOOT_SECONDS)
        # a degraded system is at rest as well
        machine.command(
            "systemctl is-system-running --wait || true", BOOT_SECONDS
        )
        asked = " ".join(f"-p {name}" for name in STAMPS)
        begin, end = stamps(machine.command(f"systemctl show {asked}"))
        found = machine.probe()
    root, ram = found["root"], found["ram_used_mib"]
    if not isinstance(root, dict) or root.get("fstype") != "overlay":
        raise SysPxeError(f"{machine.name}: the root is {root}")
    if not isinstance(ram, int):
        raise SysPxeError(f"{machine.name}: lab-probe found no RAM")
    say(f"  {machine.name}: {end - begin:.2f} s, {ram} MiB")
    return Figures(end - begin, end, ram)


def prepare(world: World) -> Path:
    """Build and publish the release; return the folder of its files."""
    world.create_key()
    world.build(RELEASE, world.golden())
    world.start_agent()
    world.command("release", "push", RELEASE)
    world.write_site()
    world.command("site", "push")
    world.command("channel", "set", "stable", RELEASE)
    return world.state / "releases" / RELEASE


def peer_initramfs(tree: Path, cache: Path) -> Path:
    """Return livenet's initramfs for a golden tree, made once per recipe."""
    recipe = repr((tree.name, PACKAGES, DRACUT, mirror.suite()))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    target = cache / f"livenet-{digest}"
    if target.exists():
        return target
    say("building the initramfs of dracut's livenet")
    sources = f"deb {mirror.debian_mirror()} {mirror.suite()} main\n"
    changes = {
        "etc/apt/sources.list": sources.encode("ascii"),
        "etc/resolv.conf": Path("/etc/resolv.conf").read_bytes(),
    }
    with golden.variant(tree, "livenet", changes) as changed:
        version = boot_sources(changed).version
        inside(changed, "apt-get", "--quiet", "update")
        inside(changed, "apt-get", "--yes", "--no-install-recommends",
               "install", *PACKAGES)  # fmt: skip
        inside(changed, "dracut", *DRACUT, "--kver", version, f"/{OUTPUT}")
        files.copy(changed / OUTPUT, target)
    return target


def inside(tree: Path, *argv: str) -> None:
    """Run a program in a tree, with a /proc that ends with it."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "INITRD": "No"}
    run.run(
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *(f"--root={tree}", "--mount-proc", *argv),
        ],
        env={**mirror.proxies(), **quiet, "TMPDIR": "/var/tmp"},
    )


def peer_script(ours: str) -> bytes:
    """Return the peer's iPXE script, with the options that our PCs get."""
    xen = re.search(r"^kernel \S+ (.*) \|\|", ours, re.MULTILINE)
    linux = re.search(r"^module \S+ (.*) syspxe[.]server=", ours, re.MULTILINE)
    if xen is None or linux is None:
        raise SysPxeError(f"no options of Xen and the kernel in {ours!r}")
    lines = (
        "#!ipxe",
        f"kernel http://192.0.2.1/xen {xen[1]}",
        f"module http://192.0.2.1/kernel {linux[1]} {OPTIONS}",
        "module http://192.0.2.1/initramfs",
        "boot",
    )
    return "".join(f"{line}\n" for line in lines).encode("ascii")


@contextmanager
def peer_lan(folder: Path, served: dict[str, Path], ours: str) -> Iterator[Lan]:
    """Yield a LAN whose server hands out livenet's system."""
    www = files.make_folder(folder / "www")
    for name, path in served.items():
        files.link_to(www / name, str(path))
    files.write(www / "boot.ipxe", peer_script(ours))
    for name, text in (("dnsmasq.conf", DNSMASQ), ("nginx.conf", NGINX)):
        filled = text.format(folder=folder)
        files.write(folder / name, filled.encode("ascii"))
    with Lan(ipv6=IPV6) as lan, ExitStack() as undo:
        log = undo.enter_context(open(folder / "server.log", "ab"))
        for argv in (
            ["dnsmasq", "--keep-in-foreground", f"-C{folder}/dnsmasq.conf"],
            ["nginx", "-e", "stderr", "-c", f"{folder}/nginx.conf"],
        ):
            child = run.spawn(lan.exec_argv(argv), stdout=log, stderr=log,
                              new_session=True)  # fmt: skip
            undo.callback(run.stop, child)
        lan.tap("tap-peer")
        yield lan


def row(
    what: str,
    unit: str,
    runs: dict[str, list[Figures]],
    figure: Callable[[Figures], float],
    aim: float | None,
) -> rows.Row:
    both = {side: [figure(f) for f in found] for side, found in runs.items()}
    return rows.compared(what, PEER, unit, both, aim, more_is_better=False)


def table(runs: dict[str, list[Figures]], sizes: dict[str, float]) -> list[
    rows.Row
]:  # fmt: skip
    one = {side: [size] for side, size in sizes.items()}
    return [
        row("initramfs start to switch_root", "s", runs,
            lambda f: f.initramfs, 1.0),
        row("RAM in use after login", "MiB", runs, lambda f: f.ram, 1.0),
        row("kernel start to switch_root", "s", runs,
            lambda f: f.kernel, None),
        rows.compared("initramfs", PEER, "MiB", one, None,
                      more_is_better=False),
    ]  # fmt: skip


def bench() -> list[rows.Row]:
    folder, cache = BUILD / "bench-boot", BUILD / "cache"
    with World(folder, cache, say) as world:
        release = prepare(world)
        peer = peer_initramfs(world.golden(), cache)
        served = {
            "xen": release / "xen",
            "kernel": release / "kernel",
            "initramfs": peer,
            "dom0-root.squashfs": release / "dom0-root",
        }
        script = world.agent_root / "current/ipxe" / f"{DESK.name}.ipxe"
        place = files.make_folder(folder / "peer")
        ours = script.read_text("ascii")
        runs: dict[str, list[Figures]] = {"ours": [], "theirs": []}
        with peer_lan(place, served, ours) as lan:
            pc = Hardware(mac=DESK.mac, memory=RAM_MIB)
            for _ in range(RUNS):
                machine = world.machine(DESK, disks=())
                runs["ours"].append(measured(machine))
                other = Machine(lan, "livenet", "tap-peer", pc, place)
                runs["theirs"].append(measured(other))
        sizes = {
            "ours": (release / "initramfs").stat().st_size / (1 << 20),
            "theirs": peer.stat().st_size / (1 << 20),
        }
    return table(runs, sizes)
