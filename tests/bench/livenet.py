"""dracut's own livenet: its initramfs, and a LAN whose server hands it out."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.dom0 import bootfiles
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import golden, mirror
from sys_pxe.lab.network import Lan
from sys_pxe.lab.world import IPV6

TAP = "tap-peer"
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


def initramfs(tree: Path, cache: Path, say: Callable[[str], None]) -> Path:
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
        version = bootfiles.find(changed).version
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


def script(ours: str) -> bytes:
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
def served_lan(
    folder: Path, served: dict[str, Path], ours: str
) -> Iterator[Lan]:
    """Yield a LAN whose server hands out livenet's system."""
    www = files.make_folder(folder / "www")
    for name, path in served.items():
        files.link_to(www / name, str(path))
    files.write(www / "boot.ipxe", script(ours))
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
        lan.tap(TAP)
        yield lan
