"""What ``key create --secure-boot`` exports, given to a real firmware.

Set-up menus differ. They hand the bytes of an .auth file to the firmware's
SetVariable, which checks them; dom0 of a PC that has booted calls the same.
"""

import base64
import gzip
import json
import time

from sys_pxe.dom0 import efisig, securekeys
from sys_pxe.dom0.state import State
from sys_pxe.lab import uefi
from sys_pxe.lab.machine import Machine
from sys_pxe.lab.world import BOOT_SECONDS, IN_RAM, World
from tests.boot.test_matrix import REFUSED_SECONDS, tampered
from tests.matrix import DESK

# what a terminal's line takes
LINE_MAX = 2000
# runs in dom0 of the PC: each change in turn, and what the firmware says
WRITE = """
import json, subprocess
place = "/sys/firmware/efi/efivars"
subprocess.run(["mount", "-t", "efivarfs", "efivarfs", place], check=True)
told = json.load(open("/run/told"))
def flag(name):
    return open(f"{place}/{name}-{told['global']}", "rb").read()[-1]
said = [flag("SetupMode"), flag("SecureBoot")]
for path, content in told["changes"]:
    path = f"{place}/{path}"
    # a variable is kept from being overwritten by mistake
    subprocess.run(["chattr", "-i", path], stderr=subprocess.DEVNULL)
    try:
        with open(path, "wb", buffering=0) as variable:
            variable.write(bytes.fromhex(content))
        said.append("taken")
    except OSError as error:
        said.append("refused")
print(json.dumps([*said, flag("SetupMode")]))
"""

Change = tuple[str, bytes, str]


def put(machine: Machine, path: str, content: bytes) -> None:
    """Write a file in the PC, over its console, packed and as base64."""
    text = base64.b64encode(gzip.compress(content)).decode("ascii")
    machine.command(f": > {path}.base64")
    for at in range(0, len(text), LINE_MAX):
        piece = text[at : at + LINE_MAX]
        machine.command(f"printf %s {piece} >> {path}.base64")
    machine.command(f"base64 -d {path}.base64 | gzip -d > {path}")


def enrolled(machine: Machine, changes: list[Change]) -> list[object]:
    """Let the firmware change its variables; return what it says.

    The first two are SetupMode and SecureBoot, the last is SetupMode after it
    (UEFI specification 3.3).
    """
    attributes = efisig.ATTRIBUTES.to_bytes(4, "little")
    told = {
        "global": str(efisig.VARIABLES["PK"]),
        "changes": [
            (
                f"{name}-{efisig.VARIABLES[name]}",
                (attributes + auth).hex(),
            )
            for name, auth, _ in changes
        ],
    }
    put(machine, "/run/told", json.dumps(told).encode("ascii"))
    put(machine, "/run/write", WRITE.encode("ascii"))
    found: list[object] = json.loads(machine.command("python3 /run/write"))
    return found


def exported(world: World, state: State, name: str) -> dict[str, bytes]:
    """Return newer .auth files: firmware takes no change twice."""
    folder = world.folder / name
    now = int(time.time()) + 60
    securekeys.export(securekeys.folder(state), folder, now)
    return {n: (folder / f"{n}.auth").read_bytes() for n in securekeys.NAMES}


def flipped(content: bytes) -> bytes:
    """Return a signed change with one bit of its certificate changed."""
    changed = bytearray(content)
    changed[-100] ^= 1
    return bytes(changed)


def all_changes(world: World) -> list[Change]:
    """Return variable, change, and what the firmware should say to it."""
    state = State(world.state)
    folder = securekeys.exports(state)
    first = {n: (folder / f"{n}.auth").read_bytes() for n in securekeys.NAMES}
    newer = exported(world, state, "newer")
    stranger = State(world.folder / "stranger")
    securekeys.create(stranger, int(time.time()))
    foreign = exported(world, stranger, "foreign")
    # in the order of the guide; in setup mode PK alone has to be signed, by
    # itself
    found = [
        ("db", first["db"], "taken"),
        ("KEK", first["KEK"], "taken"),
        ("PK", flipped(first["PK"]), "refused"),
        ("PK", first["PK"], "taken"),
    ]
    # from now on each signature is checked, and a change of before is old
    for name in ("db", "KEK", "PK"):
        found += [
            (name, foreign[name], "refused"),
            (name, first[name], "refused"),
            (name, flipped(newer[name]), "refused"),
            (name, newer[name], "taken"),
        ]
    return found


def test_firmware_takes_the_owner_s_keys_and_no_others(world: World) -> None:
    changes = all_changes(world)
    flash = world.folder / "enrolled.fd"
    hardware: dict[str, object] = {
        "board": uefi.BOARD,
        "nic": "virtio-net-pci",
        "nic_options": ("romfile=", "bootindex=0"),
    }
    options = uefi.setup_mode(flash)
    with world.machine(DESK, **hardware, firmware=options) as machine:
        machine.wait_for(IN_RAM, BOOT_SECONDS)
        machine.login(BOOT_SECONDS)
        said = enrolled(machine, changes)
    assert said == [1, 0, *(wanted for *_, wanted in changes), 0]
    options = uefi.kept(flash)
    with (
        tampered(world, "unsigned loader"),
        world.machine(DESK, **hardware, firmware=options) as machine,
    ):
        machine.wait_for(r"to load Boot.*Access Denied", REFUSED_SECONDS)
    with world.machine(DESK, **hardware, firmware=options) as machine:
        machine.wait_for(r"\(XEN\) Xen version", REFUSED_SECONDS)
