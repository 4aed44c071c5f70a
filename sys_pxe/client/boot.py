"""The stages of a boot, in their order. ``main`` shows and reports them.

network -> manifest -> ram -> fetch -> root -> pool -> handover: nothing of the
release is used before its signature, dates and serial are checked, nothing is
fetched that does not fit, and dom0's userspace starts without a network.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from sys_pxe import (
    files,
    manifest,
    measured,
    plan,
    ram,
    run,
    signature,
)
from sys_pxe.client import (
    card,
    dhcp,
    documents,
    fetch,
    identity,
    interface,
    memory,
    pci,
    pool,
    report,
    smbios,
    started,
    store,
    tpm,
)
from sys_pxe.client.pool import Pool
from sys_pxe.client.screen import State
from sys_pxe.document import DOCUMENT_MAX
from sys_pxe.errors import InvalidInput, SysPxeError, VerificationError
from sys_pxe.manifest import SET_ROLES, Artifact, QubeSet, Role
from sys_pxe.trust import Identity

RESULT = memory.BASE / "boot.json"
# seconds between two reports while bytes come in
_REPORT_EVERY = 3.0
# for an answer to the question who boots firmware here, in seconds
_ASK = 3.0
# room for the signature's line
_SIGNED_MAX = DOCUMENT_MAX + 256
_PUSH_AGAIN = "push the site and the release again, then restart this PC"

Show = Callable[[bool], None]


@dataclass
class Facts:
    """What is known so far of this boot; written to boot.json at its end."""

    boot_card: card.Card | None = None
    mtu: int = 0
    server: fetch.Server | None = None
    settings: plan.Settings | None = None
    release: manifest.Manifest | None = None
    qubes: QubeSet | None = None
    pool: Pool | None = None
    progress: fetch.Progress | None = None
    interfaces: tuple[str, ...] = ()


class Boot:
    """One attempt. Each stage is a method; ``run`` calls them in order."""

    def __init__(self, state: State, show: Show) -> None:
        self.state = state
        self.facts = Facts()
        self._loading: run.Popen[bytes] | None = None
        self._show = show
        self._reported = 0.0
        self._quote: dict[str, str] = {}
        self._unmeasured = ""
        self._ram = {"dom0_mib": memory.total_mib()}
        if (pc_mib := smbios.pc_mib()) is not None:
            self._ram["pc_mib"] = pc_mib
        self.pinned = identity.read()
        if isinstance(self.pinned, Identity):
            self.state.release = self.pinned.release

    def run(self) -> None:
        """Run all stages. Raises SysPxeError where one fails."""
        stages = {
            "network": self.stage_network,
            "manifest": self.stage_manifest,
            "ram": self.stage_ram,
            "fetch": self.stage_fetch,
            "root": self.stage_root,
            "pool": self.stage_pool,
            "handover": self.stage_handover,
        }
        for name, stage in stages.items():
            self.state.stage, self.state.note = name, ""
            self._show(True)
            begun = time.monotonic()
            if name == "handover":
                self.report_handover()
            try:
                stage()
            except (InvalidInput, VerificationError) as error:
                # a document's parser does not know who reads its words
                error.hint = error.hint or _PUSH_AGAIN
                raise
            self.state.seconds[name] = round(time.monotonic() - begun, 2)
            if self.facts.server is not None and name != "handover":
                self.report(name, "done")
        self._write_result()

    def _note(self, text: str) -> None:
        if text != self.state.note:
            self.state.note = text
            self._show(True)

    def stage_network(self) -> None:
        """Find the boot card, wait for its link, get an address."""
        hints = identity.hints(Path("/proc/cmdline").read_text("ascii"))
        if hints.mac is not None:
            found = card.find(hints.mac)
            lease = self._lease(found, dhcp.PATIENCE)
        else:
            found, lease = card.answering(self._lease, dhcp.PATIENCE)
        self.facts.boot_card = found
        self.facts.mtu = interface.mtu(found.name)
        interface.set_address(found.name, lease.address, lease.gateway)
        self.facts.server = hints.server or _server(found, lease)
        self._note(f"address {lease.address}, server {self.facts.server[0]}")

    def _lease(self, asked: card.Card, patience: float) -> dhcp.Lease:
        """Return the lease that a card gets within ``patience`` seconds, each
        for link and answer, or raise SysPxeError."""
        interface.bring_up(asked.name)

        def waiting(left: int) -> None:
            if left <= patience - 3:
                self._note(
                    f"waiting for the switch port and an address, {left} s left"
                    " (spanning tree takes up to 50 s)"
                )

        interface.wait_for_carrier(asked.name, patience, waiting)
        return dhcp.obtain(asked.name, asked.mac, patience, waiting)

    def _signed(self, path: str, what: str) -> bytes:
        assert self.facts.server is not None
        untrusted = fetch.get_small(self.facts.server, path, _SIGNED_MAX)
        return signature.opened(untrusted, identity.KEY, what)

    def stage_manifest(self) -> None:
        """Get site, pointer and manifest; check signatures and rules."""
        assert self.facts.boot_card is not None
        here = documents.place(self._signed, self.facts.boot_card.mac)
        self.state.client, self.facts.settings = here.client, here.settings
        # a stick's options are its own, and nobody on the network starts it
        if isinstance(self.pinned, Identity):
            started.check(here.settings)
        now = int(time.time())
        found = documents.choose(self._signed, self.pinned, here, now)
        self.facts.release = found.release
        self.state.release = found.release.release
        self._measure(found.text, here.settings.profile)

    def _measure(self, manifest_text: bytes, profile: str) -> None:
        """Tell the TPM, if there is one, what is about to be used.

        It informs whoever asks the server, and decides nothing: a TPM that
        fails stops no boot.
        """
        device = tpm.find()
        if device is None:
            return
        try:
            with device:
                tpm.extend(device, measured.events(manifest_text, profile))
                found = tpm.quote(device, measured.nonce(manifest_text))
        except SysPxeError as error:
            self._unmeasured = f"; nothing is measured: {error.message}"
            return
        self._quote = {"quote": measured.encode(found)}

    def stage_ram(self) -> None:
        """Check that the release fits, before a byte of it is fetched."""
        assert self.facts.release is not None
        assert self.facts.settings is not None
        found = ram.plan(self.facts.settings, self.facts.release)
        self.facts.qubes = plan.qube_set(
            self.facts.settings, self.facts.release
        )
        total = memory.total_mib()
        ram.check_dom0(found, total)
        self._note(f"{found.need_mib} MiB of {total} MiB")

    def _artifacts(self) -> list[Artifact]:
        """Return what is fetched: the root, and the set's store and seed."""
        release, chosen = self.facts.release, self.facts.qubes
        assert release is not None
        root = release.find(Role.DOM0_ROOT)
        if chosen is None:
            return [root]
        return [root, *(release.of_set(chosen, role) for role in SET_ROLES)]

    def stage_fetch(self) -> None:
        """Fetch the artifacts into RAM, verified chunk by chunk."""
        assert self.facts.server is not None
        if self.facts.qubes is not None:
            self._loading = pool.begin_loading()
        wanted = self._artifacts()
        size = sum(artifact.size for artifact in wanted)
        memory.mount_tmpfs(memory.IMAGES, size)
        progress = fetch.Progress(size)
        self.facts.progress = progress
        begun = time.monotonic()
        for artifact in wanted:
            path = memory.IMAGES / artifact.name
            with memory.new_image(path, artifact.size) as target:
                fetch.fetch(
                    self.facts.server,
                    artifact,
                    target,
                    progress,
                    lambda: self._tick(progress, begun),
                )
        self._tick(progress, begun)
        self._show(True)

    def _tick(self, progress: fetch.Progress, begun: float) -> None:
        spent = max(time.monotonic() - begun, 0.01)
        state = self.state
        before = 10 * state.done // state.total if state.total else -1
        state.done, state.total = progress.done, progress.total
        state.rate = progress.received / spent
        state.note = ""
        if progress.silence() > 2 and progress.trouble:
            state.note = (
                f"the server is silent for {progress.silence():.0f} s "
                f"({progress.trouble}); going on as soon as it is back"
            )
        elif progress.breaks:
            state.note = f"went on after {progress.breaks} breaks"
        self._show(10 * state.done // state.total != before)
        if time.monotonic() - self._reported > _REPORT_EVERY:
            self.report("fetch", self.resumption() or state.note)

    def resumption(self) -> str:
        """Return how the fetch went on after breaks, or an empty text."""
        progress = self.facts.progress
        if progress is None or not progress.breaks:
            return ""
        return (
            f"went on from byte {progress.resumed_at[-1]} after "
            f"{progress.breaks} breaks"
        )

    def stage_root(self) -> None:
        """Mount what lies in RAM; the overlay itself is sysroot.mount's."""
        assert self.facts.release is not None
        assert self.facts.settings is not None
        image = memory.IMAGES / self.facts.release.find(Role.DOM0_ROOT).name
        memory.mount_root(image, self.facts.settings.overlay_mib)
        memory.write_hostname(self.state.client)
        memory.write_issue(
            f"{self.state.client}: release {self.state.release} (serial "
            f"{self.facts.release.serial}) in RAM; power-off forgets all "
            "changes"
        )

    def stage_pool(self) -> None:
        """Mount the volumes of the profile's qubes, and Qubes' own store."""
        chosen = self.facts.qubes
        if chosen is None:
            self._note("no qubes in this profile")
            return
        assert self.facts.settings is not None
        if self._loading is not None and self._loading.wait() != 0:
            raise SysPxeError(
                f"modprobe cannot load all of {', '.join(pool.MODULES)}",
                "the kernel of this release lacks them",
            )
        seed = memory.IMAGES / chosen.artifact(Role.VOLUMES)
        self.facts.pool = pool.make(seed, self.facts.settings.pool_mib)
        found = store.read(memory.IMAGES / chosen.artifact(Role.QUBES))
        store.write(found, pool.POOL, memory.ROOT, memory.UPPER)
        self._note(f"set {chosen.name}: {', '.join(chosen.qubes)}")

    def stage_handover(self) -> None:
        """Take the network away, prove it, give disks back where allowed."""
        assert self.facts.boot_card is not None
        assert self.facts.settings is not None
        card.give_back(self.facts.boot_card)
        self.facts.interfaces = tuple(card.prove_off())
        if self.facts.settings.storage_visible:
            for device in pci.devices():
                if device.base_class == pci.STORAGE:
                    pci.release(device)

    def report_handover(self) -> None:
        """Send the last report: the network goes off after it."""
        said = f"network goes off, dom0 starts{self._unmeasured}"
        self.report("handover", said)

    def report(self, stage: str, message: str) -> None:
        """Send a report, if there is a server yet."""
        self._reported = time.monotonic()
        if self.facts.server is None or self.facts.boot_card is None:
            return
        # not known before the documents are read, and an empty one is refused
        named = {"client": self.state.client, "release": self.state.release}
        report.send(
            self.facts.server,
            {
                **{key: name for key, name in named.items() if name},
                **self._ram,
                **self._quote,
                "mac": self.facts.boot_card.mac,
                "mtu": self.facts.mtu,
                "stage": stage,
                "bytes": self.state.done,
                "total": self.state.total,
                "seconds": round(time.monotonic(), 1),
                "message": message,
            },
        )

    def _write_result(self) -> None:
        progress, release = self.facts.progress, self.facts.release
        assert release is not None
        found = {
            "client": self.state.client,
            "release": release.release,
            "serial": release.serial,
            "interfaces": self.facts.interfaces,
            "bytes_received": progress.received if progress else 0,
            "breaks": progress.breaks if progress else 0,
            "dom0_mib": memory.total_mib(),
            "seconds": self.state.seconds,
            "set": self.facts.qubes.name if self.facts.qubes else None,
            "pool": asdict(self.facts.pool) if self.facts.pool else None,
        }
        files.write(RESULT, json.dumps(found).encode("ascii"))


def _server(used: card.Card, lease: dhcp.Lease) -> fetch.Server:
    """Return the server of a PC whose loader named none."""
    asked = dhcp.boot_server(used.name, used.mac, _ASK)
    return (str(asked or lease.boot_server), identity.HTTP_PORT)


def failed(boot: Boot | None, error: SysPxeError) -> None:
    """Report a failure, if the network is up."""
    if boot is not None:
        # one line: a report is printable ASCII without line breaks
        hint = f"; {error.hint}" if error.hint else ""
        boot.report("failed", error.message + hint)
