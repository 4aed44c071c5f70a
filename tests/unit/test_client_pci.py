"""Hiding PCI devices from dom0, over a /sys tree of files."""

from pathlib import Path

import pytest

from sys_pxe import files
from sys_pxe import run as programs
from sys_pxe.client import pci
from sys_pxe.errors import SysPxeError

NIC = pci.Device("0000:00:03.0", 0x0200)
DISK = pci.Device("0000:00:04.0", 0x0106)
VGA = pci.Device("0000:00:01.0", 0x0300)


class Kernel:
    """What the kernel does when its files of /sys are written to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writes: list[tuple[str, str]] = []
        self.slots: set[str] = set()
        self.own = {NIC.address: "e1000e", DISK.address: "ahci"}
        self.takes = True
        for name in ("e1000e", "ahci", "pciback"):
            (root / "drivers" / name).mkdir(parents=True)
        self.add(VGA, "0x030000", None)
        self.add(NIC, "0x020000", "e1000e")
        self.add(DISK, "0x010601", "ahci")

    def add(self, device: pci.Device, code: str, driver: str | None) -> None:
        folder = self.root / "devices" / device.address
        folder.mkdir(parents=True)
        (folder / "class").write_text(code + "\n")
        if driver:
            self.bind(device.address, driver)

    def bind(self, address: str, driver: str) -> None:
        link = self.root / "devices" / address / "driver"
        link.symlink_to(self.root / "drivers" / driver)

    def write(self, path: Path, text: str) -> None:
        name = str(path.relative_to(self.root))
        self.writes.append((name, text))
        if not path.parent.is_dir():
            raise FileNotFoundError(2, "No such file or directory", str(path))
        link = self.root / "devices" / text / "driver"
        match path.name:
            case "unbind":
                if link.readlink().name != path.parent.name:
                    raise OSError(19, "No such device")
                link.unlink()
            case "new_slot":
                self.slots.add(text)
            case "remove_slot":
                self.slots.remove(text)
            case "bind" if text not in self.slots or link.is_symlink():
                raise OSError(19, "No such device")
            case "bind" if self.takes:
                self.bind(text, path.parent.name)
            case "drivers_probe":
                self.bind(text, self.own[text])


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path / "pci")
    monkeypatch.setattr(files, "write_control", made.write)
    monkeypatch.setattr(
        programs, "run", lambda argv, **_: made.writes.append(("run", argv[1]))
    )
    return made


def test_devices_are_read_with_their_classes(kernel: Kernel) -> None:
    assert pci.devices(kernel.root) == [VGA, NIC, DISK]
    assert (NIC.base_class, DISK.base_class) == (pci.NETWORK, pci.STORAGE)


def test_hiding_takes_the_device_before_pciback_gets_it(
    kernel: Kernel,
) -> None:
    pci.hide(NIC, kernel.root)
    assert kernel.writes == [
        ("drivers/e1000e/unbind", NIC.address),
        ("drivers/pciback/new_slot", NIC.address),
        ("drivers/pciback/bind", NIC.address),
    ]
    assert pci.driver(NIC, kernel.root) == "pciback"


def test_a_device_without_driver_is_hidden_too(kernel: Kernel) -> None:
    (kernel.root / "devices" / NIC.address / "driver").unlink()
    pci.hide(NIC, kernel.root)
    assert [name for name, _ in kernel.writes] == [
        "drivers/pciback/new_slot",
        "drivers/pciback/bind",
    ]


def test_a_hidden_device_is_left_as_it_is(kernel: Kernel) -> None:
    pci.hide(NIC, kernel.root)
    kernel.writes.clear()
    pci.hide(NIC, kernel.root)
    assert kernel.writes == []


def test_a_device_that_pciback_does_not_take_is_an_error(
    kernel: Kernel,
) -> None:
    kernel.takes = False
    with pytest.raises(SysPxeError, match=NIC.address) as caught:
        pci.hide(NIC, kernel.root)
    assert "pciback did not take it" in caught.value.message
    assert "class 0200" in caught.value.message
    assert "Xen" in caught.value.hint


def test_a_kernel_without_pciback_is_an_error(kernel: Kernel) -> None:
    (kernel.root / "drivers/pciback").rmdir()
    with pytest.raises(SysPxeError, match="cannot be hidden"):
        pci.hide(NIC, kernel.root)


def test_releasing_gives_the_device_back_to_its_driver(kernel: Kernel) -> None:
    pci.hide(NIC, kernel.root)
    kernel.writes.clear()
    pci.release(NIC, kernel.root)
    assert kernel.writes == [
        ("drivers/pciback/unbind", NIC.address),
        ("drivers/pciback/remove_slot", NIC.address),
        ("drivers_probe", NIC.address),
    ]
    assert pci.driver(NIC, kernel.root) == "e1000e"


def test_releasing_what_is_not_hidden_is_an_error(kernel: Kernel) -> None:
    with pytest.raises(SysPxeError, match="cannot be released"):
        pci.release(NIC, kernel.root)


def test_network_and_storage_are_hidden_and_nothing_else(
    kernel: Kernel,
) -> None:
    assert pci.hide_all(kernel.root) == [NIC, DISK]
    assert kernel.writes[0] == ("run", "xen-pciback")
    assert pci.driver(NIC, kernel.root) == "pciback"
    assert pci.driver(DISK, kernel.root) == "pciback"
    assert pci.driver(VGA, kernel.root) is None


def test_one_device_that_stays_stops_the_boot(kernel: Kernel) -> None:
    kernel.takes = False
    with pytest.raises(SysPxeError):
        pci.hide_all(kernel.root)


def test_interfaces_of_a_card_and_of_a_virtio_card(kernel: Kernel) -> None:
    folder = kernel.root / "devices" / NIC.address
    assert pci.interfaces(NIC, kernel.root) == []
    (folder / "net/eth1").mkdir(parents=True)
    (folder / "virtio0/net/eth0").mkdir(parents=True)
    assert pci.interfaces(NIC, kernel.root) == ["eth0", "eth1"]


def test_a_virtio_card_needs_a_second_driver(kernel: Kernel) -> None:
    assert pci.inner_modaliases(NIC, kernel.root) == []
    inner = kernel.root / "devices" / NIC.address / "virtio0"
    inner.mkdir()
    (inner / "modalias").write_text("virtio:d00000001v00001AF4\n")
    found = pci.inner_modaliases(NIC, kernel.root)
    assert found == ["virtio:d00000001v00001AF4"]


def test_the_modules_of_a_virtio_card_are_found_up_to_its_slot(
    tmp_path: Path,
) -> None:
    slot = tmp_path / "pci0000:00" / NIC.address
    virtio = slot / "virtio0"
    virtio.mkdir(parents=True)
    for folder, module in ((virtio, "virtio_net"), (slot, "virtio_pci")):
        (tmp_path / "module" / module).mkdir(parents=True)
        driver = tmp_path / "drivers" / module
        driver.mkdir(parents=True)
        (driver / "module").symlink_to(tmp_path / "module" / module)
        (folder / "driver").symlink_to(driver)
    net = tmp_path / "net" / "eth0"
    net.mkdir(parents=True)
    (net / "device").symlink_to(virtio)
    assert pci.driver_modules("eth0", tmp_path / "net") == [
        "virtio_net",
        "virtio_pci",
    ]


def test_an_interface_without_a_device_has_no_modules(tmp_path: Path) -> None:
    (tmp_path / "lo").mkdir()
    assert pci.driver_modules("lo", tmp_path) == []
