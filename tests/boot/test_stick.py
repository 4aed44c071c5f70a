"""A boot stick that lacks a part: GRUB says so and starts nothing."""

import time

from sys_pxe import files
from sys_pxe.lab.world import World
from tests import matrix
from tests.guide import unseen

PATIENCE = 240.0
GLANCE = 0.5
# the name in Rock Ridge's directory, RRIP 4.1.4: signature, length, version,
# flags, name
ENTRY = b"NM\x0e\x01\x00initramfs"
SAID = (
    "error: file `/boot/initramfs' not found.",
    "sys-pxe: this boot stick could not be read, or is not whole.",
    "Next: write it anew on the server PC; this PC restarts in 60 seconds.",
)


def test_a_stick_without_its_initramfs_starts_nothing(world: World) -> None:
    image = matrix.stick(world)
    content = image.read_bytes()
    # one for the whole, one for the partition of the same files
    assert content.count(ENTRY) == 2
    files.write(image, content.replace(ENTRY, ENTRY.replace(b"init", b"lost")))
    hardware = {"nic_options": ("romfile=",), "stick": image}
    with world.machine(matrix.DESK, **hardware) as machine:
        until = time.monotonic() + PATIENCE
        while missing := unseen(list(SAID), machine.screen_text()):
            assert time.monotonic() < until, missing
            time.sleep(GLANCE)
        assert "(XEN)" not in machine.console.text
