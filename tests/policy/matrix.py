"""Who may call what: all combinations, and the few that are granted.

What is granted is written down here on its own, as the design says it, and not
derived from the policy file.
"""

from collections.abc import Callable, Iterator
from itertools import product

from tests.policy.evaluator import Qube, Request, System

Verdict = Callable[[Request, System], str | None]

NAMED = ("syspxe.Push", "syspxe.Activate")
CHANGING = (*NAMED, "syspxe.Site", "syspxe.Prune")
READING = ("syspxe.Releases", "syspxe.Status", "syspxe.Events")
OURS = CHANGING + READING
# close to ours, or what a curious qube would try
STRANGE = (
    *("syspxe.Reboot", "syspxe.push", "syspxe.Statuss", "syspxe.", "syspxe"),
    *("Push", "qubes.VMShell", "admin.vm.List"),
)
ARGUMENTS = ("+", "+r1", "++", "+..", "+R1+-")
TARGETS = (
    *("sys-pxe", "@default", "sys-pxe-old", "dom0", "@adminvm", "work"),
    *("tpl-sys-pxe", "@dispvm", "@dispvm:dvm", "@dispvm:sys-pxe"),
)
SOURCES = (
    *("admin", "viewer", "both", "work", "sys-pxe", "tpl-sys-pxe", "sys-net"),
    *("sys-pxe-admin", "alike", "dvm"),
)


def system(*, running: bool = True, tagged: bool = False) -> System:
    """Return the qubes; ``tagged`` gives sys-pxe itself both tags."""
    admin, viewer = frozenset({"sys-pxe-admin"}), frozenset({"sys-pxe-viewer"})
    return {
        "dom0": Qube(),
        "admin": Qube(admin, default_dispvm="dvm"),
        "viewer": Qube(viewer, default_dispvm="dvm"),
        "both": Qube(admin | viewer),
        "work": Qube(frozenset({"created-by-dom0"})),
        "sys-pxe": Qube(admin | viewer if tagged else frozenset(), running),
        "tpl-sys-pxe": Qube(running=False),
        "sys-net": Qube(),
        # its name is a tag's name
        "sys-pxe-admin": Qube(),
        # its tags are almost the right ones
        "alike": Qube(frozenset({"sys-pxe", "sys-pxe-admins", "sys-pxe-view"})),
        "dvm": Qube(template_for_dispvms=True),
    }


SYSTEMS = {
    "sys-pxe runs": system(),
    "sys-pxe is off": system(running=False),
    "sys-pxe has both tags": system(tagged=True),
    "no sys-pxe": {k: v for k, v in system().items() if k != "sys-pxe"},
}


def granted(request: Request, qubes: System) -> bool:
    """Whether the design lets this call reach sys-pxe."""
    tags = qubes[request.source].tags
    argument_fits = request.service in NAMED or request.argument == "+"
    # a target that does not exist is taken as none, which is sys-pxe
    reaches = request.target in ("sys-pxe", "@default", "sys-pxe-old")
    if not argument_fits or not reaches or request.source == "sys-pxe":
        return False
    if "sys-pxe" not in qubes:
        return False
    if "sys-pxe-admin" in tags:
        return request.service in OURS
    if "sys-pxe-viewer" in tags:
        return request.service in READING and qubes["sys-pxe"].running
    return False


def cases(
    services: tuple[str, ...] = OURS + STRANGE,
    arguments: tuple[str, ...] = ARGUMENTS,
) -> Iterator[tuple[Request, System]]:
    """Yield every call of these services in every system."""
    for qubes in SYSTEMS.values():
        for source, service, argument, target in product(
            SOURCES, services, arguments, TARGETS
        ):
            if source in qubes:
                yield Request(service, argument, source, target), qubes


def differences(
    verdict: Verdict,
    services: tuple[str, ...] = OURS + STRANGE,
    arguments: tuple[str, ...] = ARGUMENTS,
) -> Iterator[str]:
    """Yield each call that is decided otherwise than the design says."""
    for request, qubes in cases(services, arguments):
        wanted = "sys-pxe" if granted(request, qubes) else None
        found = verdict(request, qubes)
        if found != wanted:
            yield f"{request}: {found} (expected {wanted})"
