"""From the stored state to what dnsmasq, nginx and iPXE read: whole or not.

Render into a folder beside, check it with the programs themselves, then let
``current`` point at it in one step. Whatever fails or is killed on the way,
``current`` is the old rendering or the new one.
"""

import grp
import hashlib
import json
import os
import pwd
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sys_pxe import files, render, run, site, trust
from sys_pxe.agent.store import Store
from sys_pxe.errors import Busy, InvalidInput, SysPxeError, VerificationError
from sys_pxe.fields import Table
from sys_pxe.manifest import Manifest
from sys_pxe.pointer import Pointer
from sys_pxe.render import Server, nginx
from sys_pxe.site import Site

_PATIENCE = 60.0
_CHECK_TIMEOUT = 30.0


@dataclass(frozen=True)
class State:
    """All that a rendering is made of."""

    site: Site | None
    pointers: Mapping[str, Pointer]

    def with_pointer(self, pointer: Pointer) -> "State":
        """Return the state in which a channel has this pointer."""
        return replace(
            self, pointers={**self.pointers, pointer.channel: pointer}
        )


def load_state(store: Store, but: str = "") -> State:
    """Return what the store holds, without the pointer of channel ``but``."""
    stored = store.site()
    return State(stored.site if stored else None, store.pointers(but))


def active(store: Store, state: State) -> dict[str, Manifest]:
    """Return channel -> manifest of the releases that may be served.

    A channel whose release is not there, or is below the floor that a newer
    site sets, has none: its clients are told so.
    """
    found = {}
    for channel, pointer in state.pointers.items():
        if state.site is None or channel not in state.site.channels:
            continue
        try:
            release = store.release(pointer.release)
            if release is None or release.serial != pointer.release_serial:
                continue
            floor = state.site.floors.get(channel, 0)
            trust.check_floor(release, floor, pointer)
        except (VerificationError, InvalidInput):
            continue
        found[channel] = release
    return found


def own_server(store: Store) -> Server:
    """Return the defaults, with the agent's own user and group.

    A dnsmasq that changed its group would not hear of the agent's death: the
    kernel forgets the signal then (PR_SET_PDEATHSIG(2const)).
    """
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
        group = grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        raise SysPxeError(
            f"user {os.geteuid()} or group {os.getegid()} has no name",
            "run the agent as a user of /etc/passwd",
        ) from None
    # dnsmasq would not start where its socket for them cannot be made
    ipv6 = Path("/proc/sys/net/ipv6").is_dir()
    return Server(root=str(store.root), user=user, group=group, ipv6=ipv6)


def load_server(store: Store) -> Server:
    """Return how the daemon was started last, or the defaults."""
    default = own_server(store)
    try:
        content = files.read_capped(store.server_file, 4096)
    except FileNotFoundError:
        return default
    table = Table(site.load_json(content, "server"), str(store.server_file))
    found = replace(
        default,
        interface=table.text("interface"),
        http_port=table.number("http_port", 1, 65535),
    )
    table.done()
    return found


def save_server(store: Store, server: Server) -> None:
    """Keep how the daemon serves, for the services that render."""
    values = {"interface": server.interface, "http_port": server.http_port}
    files.write(store.server_file, json.dumps(values).encode() + b"\n")


@contextmanager
def exclusive(store: Store) -> Iterator[None]:
    """Be the only one that renders; waits for a short while."""
    store.prepare()
    end = time.monotonic() + _PATIENCE
    while True:
        held = files.locked(store.run / "render.lock", "the rendering")
        try:
            held.__enter__()
            break
        except Busy:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
    try:
        yield
    finally:
        held.__exit__(None, None, None)


@dataclass(frozen=True)
class Candidate:
    """A checked rendering that lies beside the current one."""

    folder: Path
    name: str


def stage(store: Store, state: State, server: Server) -> Candidate | None:
    """Render a state and check it; None as long as there is no site.

    Call it within :func:`exclusive`. Raises SysPxeError with what dnsmasq or
    nginx say against it; nothing has changed then.
    """
    if state.site is None:
        return None
    texts = render.everything(state.site, active(store, state), server)
    digest = hashlib.sha256(
        json.dumps(texts, sort_keys=True).encode("ascii")
    ).hexdigest()
    for left in store.generated.glob(files.TEMPORARY_PREFIX + "*"):
        files.remove(left)
    folder = store.generated / f"{files.TEMPORARY_PREFIX}{os.getpid()}"
    files.make_folder(folder / "ipxe")
    for path, text in texts.items():
        files.write_generated(folder / path, text.encode("ascii"))
    try:
        _check(store, state.site, server, texts, folder)
    except SysPxeError:
        files.remove(folder)
        raise
    return Candidate(folder, digest[:16])


def _check(
    store: Store,
    checked: Site,
    server: Server,
    texts: Mapping[str, str],
    folder: Path,
) -> None:
    """Let the programs check their files; they touch nothing that runs."""
    hint = "this is a mistake in sys-pxe, please report it; nothing was changed"
    dnsmasq = ["dnsmasq", "--test", "--conf-file=/dev/stdin"]
    # --test does not open the hosts file: its lines are checked as options
    lines = "".join(
        f"dhcp-host={line}\n" for line in texts["dnsmasq.hosts"].splitlines()
    )
    whole = (texts["dnsmasq.conf"] + lines).encode("ascii")
    run.run(dnsmasq, stdin=whole, timeout=_CHECK_TIMEOUT, hint=hint)
    socket = f"{store.run}/check"
    trial = nginx.configuration(checked, server, socket)
    files.write_generated(folder / "nginx.check", trial.encode("ascii"))
    argv = ["nginx", "-t", "-q", "-c", str(folder / "nginx.check")]
    run.run(argv, timeout=_CHECK_TIMEOUT, hint=hint)
    files.remove(folder / "nginx.check")
    files.remove(Path(socket))


def swap(store: Store, candidate: Candidate | None) -> None:
    """Let a candidate be the current rendering, and drop the others."""
    if candidate is None:
        return
    place = store.generated / candidate.name
    if current_name(store) == candidate.name and _same(place, candidate.folder):
        files.remove(candidate.folder)
    else:
        if place.exists():
            # never touch what ``current`` may point at: take another name
            place = store.generated / f"{candidate.name}-{time.time_ns()}"
        files.rename(candidate.folder, place)
        files.link_to(store.current, f"generated/{place.name}")
    # also when nothing changed: a call that was killed may have left some
    for other in store.generated.iterdir():
        if other != place:
            files.remove(other)


def current_name(store: Store) -> str | None:
    """Return the name of the current rendering, None if there is none."""
    try:
        return Path(os.readlink(store.current)).name
    except OSError:
        return None


def _same(one: Path, other: Path) -> bool:
    def content(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    return content(one) == content(other)


def refresh(store: Store, server: Server) -> bool:
    """Make ``current`` what the stored state says; False without a site."""
    with exclusive(store):
        candidate = stage(store, load_state(store), server)
        swap(store, candidate)
    return candidate is not None
