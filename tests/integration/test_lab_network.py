"""The lab's LAN, in real network namespaces. Needs root."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sys_pxe import run
from sys_pxe.lab.network import Lan, inside, namespace_of, sweep

LISTEN = (
    "import socket; s = socket.create_server(('192.0.2.1', 8000)); "
    "print('ready', flush=True); c, _ = s.accept(); c.sendall(b'hello')"
)
CONNECT = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], 8000), 5); "
    "print(s.recv(9))"
)
# what a shell starts in the background ignores Ctrl-C, and so do its children
HOLD = (
    "import signal, time; from sys_pxe.lab.network import Lan\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "with Lan() as lan:\n"
    "    lan.host('c1', '192.0.2.10/24')\n"
    "    print(lan.namespace, flush=True); time.sleep(60)\n"
)


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan() as lan:
        yield lan


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]


def exists(namespace: str) -> bool:
    return Path("/run/netns", namespace).exists()


def output(argv: list[str]) -> str:
    return run.run(argv, check=False).stdout.decode()


def test_a_host_reaches_the_server(lan: Lan) -> None:
    client = lan.host("c1", "192.0.2.10/24")
    server = run.spawn(lan.exec_argv(python(LISTEN)), stdout=run.PIPE)
    assert server.stdout is not None
    with server.stdout as ready:
        assert ready.readline() == b"ready\n"
        said = output(inside(client, python(CONNECT, "192.0.2.1")))
    assert said == "b'hello'\n"
    assert server.wait(5) == 0


def test_nothing_leads_outside(lan: Lan) -> None:
    client = lan.host("c1", "192.0.2.10/24")
    for namespace in (lan.namespace, client):
        routes = output(["ip", "-n", namespace, "route"]).splitlines()
        assert len(routes) == 1
        assert routes[0].startswith("192.0.2.0/24 ")
    lost = run.run(inside(client, python(CONNECT, "198.51.100.1")), check=False)
    assert b"unreachable" in lost.stderr


def test_there_is_no_ipv6(lan: Lan) -> None:
    client = lan.host("c1", "192.0.2.10/24")
    for namespace in (lan.namespace, client):
        assert output(["ip", "-n", namespace, "-6", "address"]) == ""


def test_the_server_can_have_an_ipv6_address() -> None:
    with Lan(ipv6="fd00::1/64") as lan:
        shown = output(["ip", "-n", lan.namespace, "-6", "address"])
    assert "fd00::1/64" in shown


def test_a_tap_hangs_on_the_bridge(lan: Lan) -> None:
    assert lan.tap("tap0") == "tap0"
    ports = output(["ip", "-n", lan.namespace, "link", "show", "master", "lan"])
    assert "tap0" in ports


def test_all_goes_at_the_end_and_after_an_error() -> None:
    with pytest.raises(RuntimeError), Lan() as lan:
        client = lan.host("c1", "192.0.2.10/24")
        left = run.spawn(inside(client, ["sleep", "60"]), new_session=True)
        # the child is in the namespace once ip has become sleep
        while "sleep" not in Path(f"/proc/{left.pid}/comm").read_text():
            pass
        raise RuntimeError
    assert left.wait(5) == -signal.SIGKILL
    assert not exists(lan.namespace)
    assert not exists(client)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cleans_up(number: signal.Signals) -> None:
    holder = run.spawn(python(HOLD), stdout=run.PIPE, stderr=run.DEVNULL)
    assert holder.stdout is not None
    with holder.stdout as said:
        namespace = said.readline().decode().strip()
    assert exists(namespace)
    holder.send_signal(number)
    assert holder.wait(10) != 0
    assert not exists(namespace)
    assert not exists(f"{namespace}-c1")


def test_what_a_killed_lab_left_is_swept_and_nothing_else() -> None:
    gone = run.spawn(["true"])
    gone.wait()
    left, foreign = namespace_of(gone.pid, 1), f"other-{gone.pid}-lab"
    for name in (left, foreign):
        run.run(["ip", "netns", "add", name])
    try:
        with Lan() as lan:
            assert not exists(left)
            assert exists(foreign)
            assert sweep() == []
            assert exists(lan.namespace)
    finally:
        run.run(["ip", "netns", "delete", foreign])
