import os

import pytest

from sys_pxe.errors import SysPxeError, UsageError
from sys_pxe.lab.network import (
    Lan,
    inside,
    namespace_of,
    owner_of,
    parse_device,
)


@pytest.mark.parametrize("number", [1, 2, 37])
def test_owner_is_read_back_from_a_namespace(number: int) -> None:
    assert owner_of(namespace_of(4321, number)) == 4321
    assert owner_of(namespace_of(4321, number) + "-desk") == 4321


@pytest.mark.parametrize(
    "name", ["", "lab", "sp-lab", "sp-x-lab", "sp-1-other", "a-sp-1-lab"]
)
def test_foreign_namespaces_have_no_owner(name: str) -> None:
    assert owner_of(name) is None


def test_each_lan_has_its_own_namespace() -> None:
    assert Lan().namespace != Lan().namespace


def test_a_command_on_the_server_runs_in_its_namespace() -> None:
    lan = Lan()
    assert lan.exec_argv(["nginx", "-t"]) == inside(
        lan.namespace, ["nginx", "-t"]
    )
    assert inside("ns", ["true"]) == ["ip", "netns", "exec", "ns", "true"]


def test_good_device_names_pass() -> None:
    assert parse_device("tap0") == "tap0"
    assert parse_device("a" * 15) == "a" * 15


@pytest.mark.parametrize("name", ["", "a" * 16, "Tap", "a/b", "-x", "a b", "."])
def test_bad_device_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name of a device"):
        parse_device(name)


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SysPxeError, match="only root") as caught, Lan():
        pass
    assert "sudo" in caught.value.hint
