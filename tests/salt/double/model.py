"""A double of Qubes OS 4.3: qubes, their settings, disks and PCI devices.

It is one JSON file, so that Salt and the programs that it starts see the same
machine. It is strict: what the real interface would not take is an error here.
"""

import json
import os
from pathlib import Path
from typing import Any, TypedDict, cast

ENVIRONMENT = "QUBES_DOUBLE"


class Assignment(TypedDict):
    """A PCI device of a qube; ``*`` stands for any port or any device."""

    port: str
    identity: str
    mode: str
    options: dict[str, str]


class Qube(TypedDict):
    """One qube. ``pci`` is assigned, ``attached`` are ports in use now."""

    klass: str
    template: str
    label: str
    running: bool
    prefs: dict[str, Any]
    features: dict[str, str]
    tags: list[str]
    private: int
    pci: list[Assignment]
    attached: list[str]


class Device(TypedDict):
    """A PCI device of dom0; ``interface`` is its class as qubesd writes it."""

    port: str
    sbdf: str
    identity: str
    interface: str
    description: str


class Machine(TypedDict):
    """The whole machine."""

    qubes: dict[str, Qube]
    devices: list[Device]
    can_be_installed: list[str]
    booting: list[str]
    packages: list[str]
    users: dict[str, dict[str, Any]]
    services: dict[str, int]
    ran: list[str]


def qube(klass: str = "AppVM", template: str = "", **more: Any) -> Qube:
    """Return a qube with the settings that Qubes OS gives a new one."""
    made: dict[str, Any] = {
        "klass": klass,
        "template": template,
        "label": "red",
        "running": False,
        "prefs": {},
        "features": {},
        "tags": ["created-by-dom0"],
        "private": 2 << 30,
        "pci": [],
        "attached": [],
    }
    return cast(Qube, {**made, **more})


def card(port: str, sbdf: str = "", interface: str = "p020000") -> Device:
    """Return a PCI device; without more it is a wired network card."""
    sbdf = sbdf or port.replace("_", ":", 1)
    return Device(
        port=port,
        sbdf=sbdf,
        identity=f"0x8086:0x{sbdf[-4:-2]}b7::{interface}",
        interface=interface,
        description=f"Ethernet controller: Intel I219-{sbdf[-1]}",
    )


def assignment(device: Device, mode: str = "required") -> Assignment:
    """Return the assignment of a device at its port."""
    return Assignment(
        port=device["port"], identity=device["identity"], mode=mode, options={}
    )


def plain(*devices: Device) -> Machine:
    """Return a fresh Qubes OS with these PCI devices."""
    return Machine(
        qubes={
            "dom0": qube("AdminVM", running=True),
            "debian-13-minimal": qube("TemplateVM", label="black"),
            "sys-net": qube("AppVM", "debian-13-minimal"),
        },
        devices=list(devices),
        can_be_installed=["fedora-43-minimal"],
        booting=[],
        packages=[],
        users={},
        services={},
        ran=[],
    )


def load() -> Machine:
    """Return the machine that the environment names."""
    path = Path(os.environ[ENVIRONMENT])
    return cast(Machine, json.loads(path.read_text(encoding="utf-8")))


def save(machine: Machine) -> None:
    """Keep the machine."""
    text = json.dumps(machine, indent=1)
    Path(os.environ[ENVIRONMENT]).write_text(text, encoding="utf-8")
