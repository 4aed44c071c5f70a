"""``sys-pxe status --idle``: may the server go away now?"""

from dataclasses import replace

import pytest

from sys_pxe.dom0 import cmd_status
from sys_pxe.dom0.answer_status import RemoteClient, Status

NOW = 1_800_000_000
CLIENT = RemoteClient(
    client="desk-01",
    mac="52:54:00:00:00:01",
    release="r1",
    stage="fetch",
    bytes=1,
    total=4,
    seconds=9,
    message="",
    seen=NOW - 5,
)


def booting(**changes: object) -> list[str]:
    client = replace(CLIENT, **changes)  # type: ignore[arg-type]
    found = Status(1, {}, {}, (client,), free=1, chunks=1)
    return cmd_status.booting(found, NOW)


@pytest.mark.parametrize(
    "stage", ["network", "manifest", "ram", "fetch", "root"]
)
def test_a_client_on_its_way_counts(stage: str) -> None:
    assert booting(stage=stage) == [f"desk-01 ({stage})"]


def test_a_client_without_a_name_is_named_by_its_mac() -> None:
    assert booting(client=None) == ["52:54:00:00:00:01 (fetch)"]


@pytest.mark.parametrize("stage", ["handover", "failed", None])
def test_a_client_that_has_arrived_or_given_up_does_not(
    stage: str | None,
) -> None:
    assert booting(stage=stage) == []


def test_a_client_that_has_been_silent_does_not() -> None:
    seen = NOW - cmd_status.BOOTING_SECONDS
    assert booting(seen=seen) == []
    assert booting(seen=seen + 1) == ["desk-01 (fetch)"]
