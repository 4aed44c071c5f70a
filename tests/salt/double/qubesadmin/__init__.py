"""A double of qubesadmin 4.3: as much as finds and assigns PCI devices."""

from collections.abc import Iterator
from typing import Any

from tests.salt.double import model

from . import exc


class Interface:
    """A device's interface; its repr is what qubesd sends."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def __repr__(self) -> str:
        return self._encoding


class Device:
    """A device that dom0 exposes."""

    devclass = "pci"

    def __init__(self, data: model.Device) -> None:
        self.port_id = data["port"]
        self.device_id = data["identity"]
        self.description = data["description"]
        self.interfaces = [Interface(data["interface"])]
        self.data = {"sbdf": data["sbdf"]}


class Assigned:
    """An assignment as qubesd reports it."""

    def __init__(self, data: model.Assignment) -> None:
        self.port_id = data["port"]
        self.device_id = data["identity"]
        self.mode = data["mode"]

    def matches(self, device: Device) -> bool:
        """Return whether it means this device (device_protocol.py)."""
        return self.port_id in ("*", device.port_id) and self.device_id in (
            "*",
            device.device_id,
        )


class Pci:
    """The PCI devices of one qube."""

    def __init__(self, name: str) -> None:
        self._name = name

    def get_exposed_devices(self) -> Iterator[Device]:
        """Yield what the qube offers; only dom0 has PCI devices."""
        if self._name == "dom0":
            yield from (Device(data) for data in model.load()["devices"])

    def get_assigned_devices(self) -> Iterator[Assigned]:
        """Yield what is assigned, whether the qube runs or not."""
        if self._name == "dom0":
            raise AssertionError("dom0 is the backend, it is assigned nothing")
        yield from (
            Assigned(a) for a in model.load()["qubes"][self._name]["pci"]
        )

    def get_attached_devices(self) -> Iterator[Assigned]:
        """Yield what is attached now."""
        machine = model.load()
        qube = machine["qubes"][self._name]
        for device in machine["devices"]:
            if qube["running"] and device["port"] in qube["attached"]:
                yield Assigned(model.assignment(device, "manual"))

    def assign(self, wanted: Any) -> None:
        """Assign a device; as in 4.3, also one that another qube has."""
        device = wanted.device
        if wanted.mode != "required":
            raise exc.QubesException(
                "PCI devices cannot be assigned as not required."
            )
        machine = model.load()
        held = machine["qubes"][self._name]["pci"]
        if any(Assigned(a).matches(device) for a in held):
            raise exc.QubesException("device is assigned already")
        held.append(
            model.Assignment(
                port=device.port_id,
                identity=device.device_id,
                mode=wanted.mode,
                options=wanted.options,
            )
        )
        model.save(machine)

    def unassign(self, wanted: Assigned) -> None:
        """Undo an assignment."""
        machine = model.load()
        qube = machine["qubes"][self._name]
        left = [
            a
            for a in qube["pci"]
            if (a["port"], a["identity"]) != (wanted.port_id, wanted.device_id)
        ]
        if len(left) == len(qube["pci"]):
            raise exc.QubesException("device is not assigned")
        qube["pci"] = left
        model.save(machine)


class Vm:
    """A qube."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.klass = model.load()["qubes"][name]["klass"]
        self.devices = {"pci": Pci(name)}

    def is_running(self) -> bool:
        """Return whether it runs."""
        return model.load()["qubes"][self.name]["running"]


class Domains:
    """All qubes: iterated over, or by name."""

    def __iter__(self) -> Iterator[Vm]:
        yield from (Vm(name) for name in model.load()["qubes"])

    def __getitem__(self, name: str) -> Vm:
        return Vm(name)


class Qubes:
    """The application object."""

    def __init__(self) -> None:
        self.domains = Domains()
