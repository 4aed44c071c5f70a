"""The RAM that the qubes of a set are started with. Pure; sizes in MiB.

``maxmem`` is not counted as such: beyond what a qube is started with, qmemman
gives it only what is free.
"""

from dataclasses import dataclass

from sys_pxe import names
from sys_pxe.dom0 import qubes_needs
from sys_pxe.dom0.qubes_store import ADMIN_CLASS, Domain, Store

# qubes.config.defaults "memory" and "hvm_memory"; "vcpus" of qubes/vm/
# qubesvm.py; its default of maxmem is ten times the memory of a Linux qube,
# 4000 for another (it takes half of the PC's RAM where that is less)
MEMORY_MIB = 400
VCPUS = 2
MAXMEM_SHARE = 10
MAXMEM_OTHER_MIB = 4000
# QubesVM.request_mem (qubes/vm/qubesvm.py): what a qube takes besides memory
STUBDOM_LINUX_MIB = 128
STUBDOM_MINI_MIB = 28
STUBDOM_VIDEO_MIB = 16
# MEM_OVERHEAD_BASE, MEM_OVERHEAD_PER_VCPU, and paging of an hvm or pvh: all
# three in KiB, the last per MiB of maxmem
BASE_KIB = 4096
VCPU_KIB = 1536
PAGING_KIB = 8
_KIB = 1024
_LIMIT = 1 << 24
_NEVER_STARTED = {
    ADMIN_CLASS,
    qubes_needs.TEMPLATE_CLASS,
    qubes_needs.REMOTE_CLASS,
}


@dataclass(frozen=True)
class Memory:
    """What qubes are started with: those that start at boot, and all.

    A disposable takes what its template takes, which is counted once.
    """

    boot_mib: int
    all_mib: int


def need(store: Store) -> Memory:
    """Return the RAM that the qubes of a store are started with.

    At boot it is those with autostart, and the qubes that they get their
    network from, which Qubes starts first. Templates are not counted: a
    client's are not updated. Raises InvalidInput for what is no number.
    """
    boot: set[str] = set()
    for domain in store.domains.values():
        one = domain
        if domain.is_set("autostart"):
            while one.name not in boot:
                boot.add(one.name)
                netvm = qubes_needs.netvm_of(store, one)
                one = store.domains.get(netvm, one)
    sizes = {
        domain.name: started_with(store, domain)
        for domain in store.domains.values()
        if domain.klass not in _NEVER_STARTED
    }
    return Memory(
        sum(size for name, size in sizes.items() if name in boot),
        sum(sizes.values()),
    )


def started_with(store: Store, domain: Domain) -> int:
    """Return what one qube is started with, rounded up to whole MiB."""
    memory = _number(store, domain, "memory", MEMORY_MIB)
    mode = qubes_needs.virt_mode(store, domain)
    extra = BASE_KIB + VCPU_KIB * _number(store, domain, "vcpus", VCPUS)
    if mode != "pv":
        # at 0, or where qmemman cannot change it, it is the memory that counts
        extra += PAGING_KIB * max(_maxmem(store, domain), memory)
    return memory + _stubdom(store, domain, mode) + -(-extra // _KIB)


def _maxmem(store: Store, domain: Domain) -> int:
    """Return the most that qmemman gives a qube; 0: its memory is fixed.

    It is never below what Qubes takes, which knows half of the PC's RAM.
    """
    line = tuple(qubes_needs.lineage(store, domain))
    linux = line[-1].features.get("os") == "Linux"
    memory = _number(store, line[-1], "memory", MEMORY_MIB)
    default = memory * MAXMEM_SHARE if linux else MAXMEM_OTHER_MIB
    return _number(store, domain, "maxmem", default)


def _stubdom(store: Store, domain: Domain, mode: str) -> int:
    """Return what the device model of an hvm takes."""
    if mode != "hvm":
        return 0
    feature = next(
        (
            one.features["linux-stubdom"]
            for one in qubes_needs.lineage(store, domain)
            if "linux-stubdom" in one.features
        ),
        "1",
    )
    default = STUBDOM_LINUX_MIB if feature else STUBDOM_MINI_MIB
    own = domain.properties.get("stubdom_mem")
    given = default if own is None else _parse(own, domain, "stubdom_mem")
    return given + STUBDOM_VIDEO_MIB


def _number(store: Store, domain: Domain, name: str, default: int) -> int:
    text = qubes_needs.inherited(store, domain, name)
    return default if text is None else _parse(text, domain, name)


def _parse(text: str, domain: Domain, name: str) -> int:
    return names.parse_int(text, f"{domain.name}: {name}", 0, _LIMIT)
