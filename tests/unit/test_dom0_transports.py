"""Which transport a command uses: the named one, or that of its place."""

from pathlib import Path

import pytest

from sys_pxe.dom0 import transport, transports
from sys_pxe.dom0.qrexec import QrexecTransport, QubesTransport
from sys_pxe.errors import UsageError


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(transports, "DOM0_MARK", tmp_path / "dom0")
    monkeypatch.setattr(transports, "CLIENT_VM", tmp_path / "client-vm")
    return tmp_path


def test_the_place_decides(nowhere: Path) -> None:
    assert transports.default() is None
    with pytest.raises(UsageError) as caught:
        transports.choose(None, print)
    assert transport.ENVIRONMENT in caught.value.hint
    (nowhere / "client-vm").touch()
    near = transports.choose(None, print)
    assert isinstance(near, QrexecTransport)
    assert near.argv("syspxe.Push", "r1") == [
        *("qrexec-client-vm", "sys-pxe", "syspxe.Push+r1")
    ]
    (nowhere / "dom0").touch()
    assert isinstance(transports.choose("", print), QubesTransport)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("local:/srv/agent", transport.LocalTransport),
        ("qubes", QubesTransport),
        ("qubes:sys-pxe-2", QubesTransport),
        ("qrexec", QrexecTransport),
        ("qrexec:other", QrexecTransport),
    ],
)
def test_a_transport_that_is_named_wins(spec: str, kind: type) -> None:
    assert isinstance(transports.choose(spec, print), kind)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    "spec",
    [
        *("local", "local:", ":", "ssh:x", "ssh:\x1b[2J", "qubes:", "qrexec:"),
        *("qubes:dom0", "qubes:@dispvm", "qrexec:-s", "qrexec:a b", "QUBES"),
        *("qrexec:" + "a" * 32, "qubes:sys-pxe\n", "qrexec:@adminvm"),
    ],
)
def test_what_is_not_a_transport_is_a_usage_error(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        transports.choose(spec, print)
    assert caught.value.hint
    assert "\x1b" not in caught.value.message
