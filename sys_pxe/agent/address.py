"""Is the site's address on the network card? Else no client gets an answer."""

import json

from sys_pxe import run
from sys_pxe.errors import SysPxeError
from sys_pxe.site import Site

_TIMEOUT = 10.0


def check(checked: Site, interface: str) -> None:
    """Raise SysPxeError unless the interface has ``network.address``."""
    wanted = str(checked.network.address)
    argv = ["ip", "-json", "-4", "address", "show", "dev", interface]
    try:
        found = addresses(run.run(argv, timeout=_TIMEOUT).stdout)
    except ValueError as error:
        raise SysPxeError(f"ip address show: {error}") from None
    if wanted not in found:
        has = ", ".join(found) or "none"
        raise SysPxeError(
            f"{interface} does not have the site's address {wanted} (it has "
            f"{has}), so no client will get an answer: change network.address "
            "of the site, or the address that the card is given"
        )


def addresses(output: bytes) -> list[str]:
    """Return the ADDRESS/LENGTH texts in the JSON of ip-address(8)."""
    return [
        f"{one['local']}/{one['prefixlen']}"
        for card in json.loads(output)
        for one in card.get("addr_info", ())
        if "local" in one
    ]
