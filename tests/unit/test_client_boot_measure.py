"""Measuring informs: a TPM that fails, or is not there, stops no boot."""

import socket
from types import SimpleNamespace

import pytest

from sys_pxe.agent import report as agent_report
from sys_pxe.client import boot, identity, memory, report, smbios, tpm
from sys_pxe.client.screen import State
from sys_pxe.trust import Identity

MAC = "52:54:00:00:00:01"
TEXT = b"sys-pxe manifest 1\n"
# a TPM's answer: the command is not known to it (TPM_RC_COMMAND_CODE)
REFUSED = bytes.fromhex("80010000000a00000143")


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> boot.Boot:
    monkeypatch.setattr(identity, "read", lambda: Identity("r1", 3))
    monkeypatch.setattr(memory, "total_mib", lambda: 576)
    monkeypatch.setattr(smbios, "pc_mib", lambda: None)
    found = boot.Boot(State(), lambda _: None)
    found.facts.server = ("192.0.2.1", 80)
    found.facts.boot_card = SimpleNamespace(mac=MAC)  # type: ignore[assignment]
    return found


def told(
    tried: boot.Boot, monkeypatch: pytest.MonkeyPatch
) -> agent_report.Report:
    """Return the report with which the network goes off."""
    found: list[dict[str, str | int | float]] = []

    def send(_: object, fields: dict[str, str | int | float]) -> None:
        found.append(fields)

    monkeypatch.setattr(report, "send", send)
    tried.report_handover()
    return agent_report.parse(report.body(found[-1]))


def test_a_tpm_that_refuses_is_told_and_the_boot_goes_on(
    tried: boot.Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, its = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with its:
        its.send(REFUSED)
        monkeypatch.setattr(tpm, "find", lambda: tpm.Device(ours.detach()))
        tried._measure(TEXT, "office")
    said = told(tried, monkeypatch)
    assert said.message.startswith("network goes off, dom0 starts; nothing is")
    assert "TPM2_PCR_Extend with code 0x143" in said.message
    assert said.quote == ""


def test_without_a_tpm_nothing_is_said(
    tried: boot.Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tpm, "find", lambda: None)
    tried._measure(TEXT, "office")
    said = told(tried, monkeypatch)
    assert (said.message, said.quote) == ("network goes off, dom0 starts", "")
