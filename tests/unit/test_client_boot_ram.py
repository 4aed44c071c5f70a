"""The client's RAM: what it reports, and its refusal before the download."""

from types import SimpleNamespace

import pytest

from sys_pxe import plan, ram
from sys_pxe.agent import report as agent_report
from sys_pxe.client import boot, identity, memory, report, smbios
from sys_pxe.client.screen import State
from sys_pxe.errors import SysPxeError
from sys_pxe.trust import Identity
from tests import documents

MAC = "52:54:00:00:00:01"
SETTINGS = plan.Settings("office", "stable", (), 2048, 256, 1024, (), (), False)
Sent = list[dict[str, str | int | float]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    found: Sent = []
    monkeypatch.setattr(identity, "read", lambda: Identity("r1", 3))
    monkeypatch.setattr(memory, "total_mib", lambda: 576)
    monkeypatch.setattr(
        report, "send", lambda server, fields: found.append(fields)
    )
    return found


def a_boot() -> boot.Boot:
    found = boot.Boot(State(), lambda _: None)
    found.facts.server = ("192.0.2.1", 80)
    found.facts.boot_card = SimpleNamespace(mac=MAC)  # type: ignore[assignment]
    found.facts.settings = SETTINGS
    found.facts.release = documents.release()
    return found


@pytest.mark.parametrize(("pc_mib", "told"), [(16384, 16384), (None, 0)])
def test_each_report_tells_of_the_ram(
    sent: Sent,
    monkeypatch: pytest.MonkeyPatch,
    pc_mib: int | None,
    told: int,
) -> None:
    monkeypatch.setattr(smbios, "pc_mib", lambda: pc_mib)
    tried = a_boot()
    tried.report("network", "done")
    tried.report("manifest", "done")
    for fields in sent:
        got = agent_report.parse(report.body(fields))
        assert (got.mac, got.dom0_mib, got.pc_mib) == (MAC, 576, told)
    assert len(sent) == 2


@pytest.mark.usefixtures("sent")
def test_the_client_refuses_what_the_plan_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need = ram.plan(SETTINGS, documents.release()).need_mib
    tried = a_boot()
    monkeypatch.setattr(memory, "total_mib", lambda: need)
    tried.stage_ram()
    assert tried.state.note == f"{need} MiB of {need} MiB"
    monkeypatch.setattr(memory, "total_mib", lambda: need - 1)
    with pytest.raises(SysPxeError, match=f"needs {need} MiB .*{need - 1} MiB"):
        tried.stage_ram()
