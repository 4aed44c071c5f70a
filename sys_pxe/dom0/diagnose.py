"""What is wrong in a room that boots from here: facts in, findings out. Pure.

One function for each kind of fault, in a table.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sys_pxe import loaders, names
from sys_pxe.dom0.answer_status import RemoteClient
from sys_pxe.dom0.findings import NOTE, Facts, Finding
from sys_pxe.dom0.progress import duration
from sys_pxe.site import Site

# seconds: a call takes some, and the qube has its clock from dom0
CLOCK_PATIENCE = 60
EXPIRY_SOON = 14 * 86_400
# from the loader's offer to the first report: Xen has to be loaded and started
OFFER_PATIENCE = 180
# a client that boots reports every few seconds
STAGE_PATIENCE = 300
_ARRIVED = (None, "handover", "failed")
# what a client says whose clock a release does not suit (trust.check_dates)
_CLOCK_WORDS = ("the clock says", "expired at")
_DATE = re.compile(r"(?<![0-9])20[0-9]{2}[01][0-9][0-3][0-9](?![0-9])")
_PUSH_SITE = "run 'sys-pxe site push'"


@dataclass(frozen=True)
class BadLoader:
    """Builds of iPXE from before a day (YYYYMMDD) that are known to fail."""

    files: tuple[str, ...]
    before: str
    why: str


# Debian 12's, of 2019-01-25, was seen to boot Xen by BIOS and UEFI
BAD_LOADERS = (
    BadLoader(
        tuple(loaders.UEFI.values()),
        # iPXE's commit c89a446c: it runs at TPL_CALLBACK from then on
        "20180220",
        "a timer of the firmware, such as a USB keyboard's, can interrupt it "
        "so that the PC hangs or restarts",
    ),
)


Check = Callable[[Facts], Iterator[Finding]]


def services(facts: Facts) -> Iterator[Finding]:
    """What has to run in the qube does."""
    if facts.status.site_serial is None:
        yield Finding(
            "the sys-pxe qube has no site",
            "it answers no PC as long as it knows none",
            _PUSH_SITE,
        )
        return
    for name, service in sorted(facts.status.services.items()):
        if not service.running:
            yield Finding(
                f"{name} does not run in the sys-pxe qube",
                f"no PC can boot without it; {service.restarts} restarts",
                "look at 'journalctl -u sys-pxe-agent' in the qube",
            )


def dhcp(facts: Facts) -> Iterator[Finding]:
    """Who else answers DHCP, against what the site expects."""
    found = facts.status.dhcp
    if found is None or found.mode is None:
        return
    if found.age is None or found.error is not None:
        yield Finding(
            "whether the LAN has other DHCP servers is not known",
            found.error or "the agent did not ask yet",
            "check the network card of the sys-pxe qube, then call it again",
            NOTE,
        )
        return
    servers = [one.address for one in found.others if not one.proxy]
    if found.mode == "proxy" and not servers:
        yield Finding(
            "no DHCP server answers on the LAN",
            "the site says mode: proxy, so sys-pxe gives no addresses, and "
            "no PC gets one",
            "switch the LAN's DHCP server on, or set network.dhcp to "
            "{mode: server, pool: FIRST-LAST}",
        )
    if found.mode == "proxy" and len(servers) > 1:
        yield Finding(
            f"{len(servers)} DHCP servers answer on the LAN: "
            f"{', '.join(servers)}",
            "a PC takes the first offer, and may get an address of the wrong "
            "network",
            "switch all but one of them off",
        )
    for address in servers if found.mode == "server" else ():
        yield Finding(
            f"{address} is a second DHCP server on the LAN",
            "a PC that takes its offer is not sent to sys-pxe, or gets an "
            "address that another PC has",
            "switch it off, or set network.dhcp to {mode: proxy} and "
            "run 'sys-pxe site push'",
        )
    for one in found.others:
        if one.proxy:
            yield Finding(
                f"{one.address} is another boot server (proxy DHCP) on the LAN",
                "a PC starts what the first answer names, and without Secure "
                "Boot nothing checks it",
                "find the machine with this address and switch its PXE "
                "service off",
            )


def boot_files(facts: Facts) -> Iterator[Finding]:
    """What loaders fetch is there, whole, and of the active release."""
    why = {
        "missing": "a PC that asks for it gets an error",
        "damaged": "it is not what was signed, so PCs do not start with it",
        "stale": "firmware gets another loader than the one that was signed "
        "for this release",
    }
    for one in facts.status.boot_files:
        if one.state in why:
            push = f"run 'sys-pxe release push {one.release}'"
            yield Finding(
                f"boot file {one.file} of release {one.release} is {one.state}",
                why[one.state],
                _PUSH_SITE if one.state == "stale" else push,
            )
    for channel, release in facts.on_channels():
        if release.missing:
            yield Finding(
                f"release {release.release} lacks {release.missing} chunks",
                f"channel {channel} names it, its PCs cannot fetch it whole",
                f"run 'sys-pxe release push {release.release}'",
            )
    wanted = _wanted_loaders(facts.site)
    for loader in facts.status.loaders:
        if loader.path is None and loader.file in wanted:
            yield Finding(
                f"the loader {loader.file} is missing",
                "no package in the sys-pxe qube has it, and PCs ask for it",
                "install iPXE in the qube's template (Debian: ipxe, Fedora: "
                "ipxe-bootimgs-x86), then restart the qube",
            )


def _wanted_loaders(site: Site | None) -> set[str]:
    """Return the files of the loaders that the site's PCs are sent to."""
    chosen = [loaders.DEFAULT]
    if site is not None and site.clients:
        chosen = [
            site.loaders(one.profile, one.loader)
            for one in site.clients.values()
        ]
    if site is not None and site.unknown_clients is not None:
        chosen.append(site.loaders(site.unknown_clients))
    return {loaders.BIOS.get(one.bios or "", "") for one in chosen} | {
        loaders.UEFI.get(one.uefi or "", "") for one in chosen
    }


def served(facts: Facts) -> Iterator[Finding]:
    """What is served is what dom0 has sent."""
    if facts.status.trouble is not None:
        yield Finding(
            "clients are not served what was sent last",
            facts.status.trouble,
            f"correct that, then {_PUSH_SITE}",
        )
    for name, pointer in sorted(facts.pointers.items()):
        there = facts.status.channels.get(name)
        has = "nothing" if there is None else f"release {there.release}"
        if there is None or (there.release, there.serial) != (
            pointer.release,
            pointer.release_serial,
        ):
            yield Finding(
                f"channel {name} names {has} in the sys-pxe qube",
                f"dom0 has pointed it at release {pointer.release}",
                f"run 'sys-pxe channel set {name} {pointer.release}'",
            )


def old_loaders(facts: Facts) -> Iterator[Finding]:
    """No loader is from before a fault in it was mended."""
    for loader in facts.status.loaders:
        day = _DATE.search(loader.version or "")
        if day is None:
            continue
        for bad in BAD_LOADERS:
            if loader.file in bad.files and day[0] < bad.before:
                yield Finding(
                    f"the loader {loader.file} is too old ({loader.version})",
                    bad.why,
                    f"install an iPXE of {_dashed(bad.before)} or later in "
                    "the qube's template, then restart the qube",
                )


def _dashed(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


def clocks(facts: Facts) -> Iterator[Finding]:
    """No clock makes a good release look expired, or from the future."""
    off = facts.agent_now - facts.now
    if abs(off) > CLOCK_PATIENCE:
        order = "ahead of" if off > 0 else "behind"
        yield Finding(
            f"the clock of the sys-pxe qube is {duration(abs(off))} {order} "
            "dom0's",
            "it judges by its clock whether a release has expired",
            "correct dom0's clock if it is wrong, then restart the qube",
        )
    for channel, release in facts.on_channels():
        if facts.now < release.created:
            yield Finding(
                f"by dom0's clock release {release.release} (channel "
                f"{channel}) is from the future",
                f"it was made at {names.format_time(release.created)}, and "
                f"dom0 has {names.format_time(facts.now)}",
                "correct dom0's clock, then restart the sys-pxe qube",
            )
    for client in facts.status.clients:
        if client.stage == "failed" and _by_clock(client):
            yield Finding(
                f"the clock of client {_name(client)} may be wrong",
                f"it said: {client.message}",
                "set date and time in its firmware set-up; a battery that is "
                "flat forgets them",
            )


def _by_clock(client: RemoteClient) -> bool:
    return any(words in client.message for words in _CLOCK_WORDS)


def expiry(facts: Facts) -> Iterator[Finding]:
    """No channel names a release that has expired, or soon will."""
    for channel, release in facts.on_channels():
        left = release.expires - facts.now
        if left > EXPIRY_SOON:
            continue
        state = f"expires in {duration(left)}" if left > 0 else "has expired"
        until = names.format_time(release.expires)
        yield Finding(
            f"release {release.release} (channel {channel}) {state}",
            f"clients accept it until {until}",
            "build and push a new release, and set the channel to it",
        )


def ports(facts: Facts) -> Iterator[Finding]:
    """The qube's firewall lets PCs in."""
    unknown = []
    for one in facts.status.ports:
        if one.open is None:
            unknown.append(f"{one.protocol} {one.port}")
        elif not one.open:
            yield Finding(
                f"the firewall of the sys-pxe qube blocks {one.protocol} port "
                f"{one.port}",
                "PCs that boot need it",
                "run 'systemctl restart sys-pxe-network' in the qube; if that "
                "does not help, look at its nft rules",
            )
    if unknown:
        yield Finding(
            f"whether the firewall lets in {', '.join(unknown)} is not known",
            "the agent cannot read its rules, or they look at more than a port",
            "look at 'nft list ruleset' in the qube",
            NOTE,
        )


def mtu(facts: Facts) -> Iterator[Finding]:
    """Server and clients have the same limit of a packet."""
    ours = facts.status.mtu
    for client in facts.status.clients:
        if None not in (ours, client.mtu) and client.mtu != ours:
            yield Finding(
                f"client {_name(client)} takes packets of up to {client.mtu} "
                f"bytes, the server {ours}",
                "what is larger than one of them, or the switch, takes is "
                "lost: a fetch stands still",
                "give both cards and the switch one MTU; 1500 always works",
            )


def offered(facts: Facts) -> Iterator[Finding]:
    """Whoever was offered a loader has started something."""
    for one in facts.offered:
        age = facts.agent_now - one.seen
        if age > OFFER_PATIENCE:
            yield Finding(
                f"client {one.client or one.mac} ({one.firmware}) was offered "
                f"a loader {duration(age)} ago and started nothing since",
                "it was switched off, another server answered it, or its "
                "firmware refused the loader (Secure Boot, a signature)",
                "look at its screen; with Secure Boot check that it has the "
                "owner's key; else try the other loader of the profile",
            )


def stuck(facts: Facts) -> Iterator[Finding]:
    """No client has failed, or stands still on its way."""
    waiting = {one.mac for one in facts.offered}
    for client in facts.status.clients:
        age = facts.agent_now - client.seen
        if client.mac in waiting:
            continue  # it was started again since
        if client.stage == "failed" and not _by_clock(client):
            yield Finding(
                f"client {_name(client)} failed {duration(max(age, 0))} ago",
                client.message or "it did not say why",
                "follow its message, then restart the PC",
            )
        elif client.stage not in _ARRIVED and age > STAGE_PATIENCE:
            yield Finding(
                f"client {_name(client)} is stuck at stage {client.stage} "
                f"since {duration(age)}",
                client.message or "it was switched off, or lost the network",
                "look at its screen and its cable, then restart the PC",
            )


def _name(client: RemoteClient) -> str:
    return client.client or client.mac


def plain_pxe(facts: Facts) -> Iterator[Finding]:
    """Without Secure Boot nothing checks the boot files: say so."""
    if (
        facts.secure_boot is False
        and facts.site is not None
        and facts.site.clients
    ):
        yield Finding(
            "nothing checks the boot files of this room",
            "plain PXE takes loader, Xen and initramfs from whoever answers "
            "first, and this site has no Secure Boot key",
            "trust the LAN while PCs boot, or run 'sys-pxe key create "
            "--secure-boot' and enrol the key",
            NOTE,
        )


CHECKS: dict[str, Check] = {
    "services": services,
    "dhcp": dhcp,
    "boot-files": boot_files,
    "served": served,
    "loaders": old_loaders,
    "clocks": clocks,
    "expiry": expiry,
    "firewall": ports,
    "mtu": mtu,
    "offered": offered,
    "stuck": stuck,
    "plain-pxe": plain_pxe,
}


def diagnose(facts: Facts) -> dict[str, tuple[Finding, ...]]:
    """Return check -> findings, in order, for every check that there is."""
    return {name: tuple(check(facts)) for name, check in CHECKS.items()}
