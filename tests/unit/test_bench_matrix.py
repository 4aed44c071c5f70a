"""What the bench of the boot matrix makes of its figures."""

from tests.bench import matrix
from tests.bench.matrix import ROWS


def test_each_row_is_compared_with_that_of_bios() -> None:
    bios = {"xen": 20.0, "initramfs": 40.0, "tftp": 80_000.0, "bytes": 4e7}
    ours = {"xen": 30.0, "initramfs": 60.0, "tftp": 0.0, "bytes": 6e7}
    found = {row: [ours] * 3 for row in ROWS}
    found[matrix.PEER] = [bios, {**bios, "xen": 90.0}, bios]
    made = {row.what: row for row in matrix.table(found)}
    assert len(made) == 4 * len(ROWS)
    name = "uefi-http-virtio-net-pci"
    xen = made[f"{name}, first DHCP packet to Xen"]
    assert (xen.ours, xen.theirs, xen.aim) == (30.0, 20.0, None)
    sent = made[f"{name}, bytes of boot files"]
    # half as many again is too many
    assert sent.aim is not None
    assert sent.ratio < sent.aim
    assert made[f"{name}, by TFTP"].ratio > 1
