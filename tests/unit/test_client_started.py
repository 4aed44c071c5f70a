"""What UEFI started has exactly the options of the signed site."""

from pathlib import Path

import pytest

from sys_pxe import plan
from sys_pxe.client import started
from sys_pxe.errors import SysPxeError, VerificationError

SETTINGS = plan.Settings(
    *("office", "stable", (), 2048, 256, 1024, ("loglvl=all",), ("nomodeset",)),
    storage_visible=False,
)
XEN = list(SETTINGS.all_xen_options)
KERNEL = list(SETTINGS.all_kernel_options)


@pytest.fixture
def uefi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(started, "UEFI", tmp_path)
    monkeypatch.setattr(started, "KERNEL", tmp_path / "cmdline")
    return tmp_path / "cmdline"


def check(
    monkeypatch: pytest.MonkeyPatch,
    cmdline: Path,
    xen: list[str],
    kernel: list[str],
) -> None:
    monkeypatch.setattr(started, "xen_options", lambda: xen)
    cmdline.write_text(" ".join(kernel) + "\n")
    started.check(SETTINGS)


def test_the_profiles_options_are_accepted(
    monkeypatch: pytest.MonkeyPatch, uefi: Path
) -> None:
    check(monkeypatch, uefi, XEN, ["kernel", *KERNEL])
    check(monkeypatch, uefi, XEN, KERNEL)


@pytest.mark.parametrize(
    ("xen", "kernel", "said"),
    [
        (["iommu=off", *XEN], KERNEL, "Xen was .*office has: with 'iommu=off'"),
        (XEN[1:], KERNEL, r"Xen was .*: without 'dom0_mem=2048M,max:2048M'"),
        (
            [],
            KERNEL,
            r"Xen was .*without 'dom0_mem=2048M,max:2048M loglvl=all'",
        ),
        (XEN[::-1], KERNEL, "Xen was .*: in another order"),
        ([*XEN, XEN[-1]], KERNEL, "Xen was .*: in another order"),
        (["x\x1b[31m", *XEN], KERNEL, r"with 'x\?\[31m'"),
        (XEN, [*KERNEL, "rd.shell=1"], "The kernel was .*with 'rd.shell=1'"),
        (XEN, [], "The kernel was .*without 'rd.systemd.gpt_auto=0"),
        (XEN, ["kernel", "kernel", *KERNEL], "The kernel was .*with 'kernel'"),
    ],
)
def test_other_options_are_named(
    monkeypatch: pytest.MonkeyPatch,
    uefi: Path,
    xen: list[str],
    kernel: list[str],
    said: str,
) -> None:
    with pytest.raises(VerificationError, match=said) as caught:
        check(monkeypatch, uefi, xen, kernel)
    assert "restart this PC" in caught.value.hint


def test_bios_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(started, "UEFI", tmp_path / "none")
    check(monkeypatch, tmp_path / "cmdline", ["any"], ["thing"])


def test_a_xen_that_does_not_answer_is_no_match(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(started, "PRIVCMD", tmp_path / "none")
    with pytest.raises(SysPxeError, match="does not say how it was started"):
        started.xen_options()


def test_a_line_that_may_go_on_unseen_is_refused() -> None:
    line = " ".join(XEN).encode()
    assert started.parse(line.ljust(1024, b"\0")) == XEN
    assert started.parse(line.ljust(1022).ljust(1024, b"\0")) == XEN
    # what comes behind the spaces is Xen's, and is not told
    for hidden in (line.ljust(1023) + b"\0", line.ljust(1024)):
        with pytest.raises(VerificationError, match="more options than it can"):
            started.parse(hidden)
