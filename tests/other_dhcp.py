"""A LAN's own DHCP server, beside which sys-pxe is the proxy: a dnsmasq."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sys_pxe import run
from sys_pxe.lab.network import Lan, inside

ADDRESS = "192.0.2.254"
# none of them is in the pool of a site of the tests
FIRST, LAST = "192.0.2.210", "192.0.2.240"


@contextmanager
def serving(lan: Lan, leases: Path) -> Iterator[None]:
    """Run it while the block runs, on a host of its own; once on each LAN.

    It gives addresses and a router, and knows nothing of booting; whom it gave
    one is in the file ``leases`` (dnsmasq(8), --dhcp-leasefile).
    """
    router = lan.host("router", f"{ADDRESS}/24")
    argv = [
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"),
        *("--port=0", "--interface=eth0", "--bind-interfaces", "--no-ping"),
        *("--user=root", "--group=root", "--pid-file="),
        f"--dhcp-range={FIRST},{LAST},1h",
        f"--dhcp-option=3,{ADDRESS}",
        f"--dhcp-leasefile={leases}",
    ]
    child = run.spawn(inside(router, argv))
    try:
        yield
    finally:
        run.stop(child)
