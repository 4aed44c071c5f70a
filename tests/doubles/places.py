"""Where ``sys-pxe`` runs on Qubes OS: in dom0, or in an admin qube.

Both have the same far end, so one test can be asked in both places.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe.dom0 import cli, transport, transports
from sys_pxe.dom0.state import State
from sys_pxe.manifest import Manifest
from tests.dom0_world import SITE, keep_release, new_state
from tests.doubles import qubesadmin_double
from tests.doubles.client_vm import ClientVm
from tests.doubles.far_end import FarEnd


@dataclass(frozen=True)
class Place:
    """A machine with the command, a state, and the way to the far end.

    ``key`` is dom0's signing key, wherever the state is.
    """

    state: State
    key: Path
    site: Path
    agent_root: Path
    far_end: FarEnd

    def run(self, *words: str) -> int:
        """Run ``sys-pxe`` as its user does; nothing names a transport."""
        places = ("--state", str(self.state.root), "--site", str(self.site))
        return cli.main([*places, *words])

    def keep_release(
        self, name: str, size: int = 100, seed: int = 0
    ) -> Manifest:
        """Put a release that dom0 signed into the state."""
        return keep_release(self.state, name, size, seed, self.key)

    def chunks(self) -> set[str]:
        """Return the digests in the store."""
        folder = self.agent_root / "chunks"
        return {p.name for p in folder.iterdir()} if folder.exists() else set()


@dataclass(frozen=True)
class Dom0(Place):
    """dom0: qubesd knows the qube."""

    qube: qubesadmin_double.Qube
    app: qubesadmin_double.Qubes


@dataclass(frozen=True)
class AdminQube(Place):
    """A qube that dom0's policy gives the tag sys-pxe-admin."""

    dom0: ClientVm


def _parts(folder: Path) -> tuple[State, Path, Path, Path, FarEnd]:
    state = new_state(folder / "state")
    key = folder / "dom0.pem"
    files.copy(state.private_key, key)
    agent_root = files.make_folder(folder / "agent")
    files.copy(state.public_key, agent_root / "key.pem")
    site = folder / "site.yaml"
    files.write(site, SITE.encode())
    far_end = FarEnd.install(folder / "etc-qubes-rpc", agent_root)
    return state, key, site, agent_root, far_end


@contextmanager
def dom0(folder: Path) -> Iterator[Dom0]:
    """Make this machine a dom0 whose sys-pxe runs."""
    parts = _parts(folder)
    _, _, site, _, far_end = parts
    qube = qubesadmin_double.Qube("sys-pxe", far_end, "Running")
    app = qubesadmin_double.Qubes()
    app.domains["sys-pxe"] = qube
    with (
        qubesadmin_double.installed(app),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(transports, "DOM0_MARK", site)
        patch.delenv(transport.ENVIRONMENT, raising=False)
        yield Dom0(*parts, qube, app)


@contextmanager
def admin_qube(folder: Path) -> Iterator[AdminQube]:
    """Make this machine an admin qube."""
    parts = _parts(folder)
    state, *_, far_end = parts
    # dom0 alone has it
    files.remove(state.private_key)
    client = ClientVm.install(folder / "bin", far_end)
    client.say("sys-pxe-admin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transports, "DOM0_MARK", folder / "nothing")
        patch.setattr(
            transports, "CLIENT_VM", client.folder / "qrexec-client-vm"
        )
        patch.setenv("PATH", str(client.folder), prepend=":")
        patch.delenv(transport.ENVIRONMENT, raising=False)
        yield AdminQube(*parts, client)
