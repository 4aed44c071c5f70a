"""The pool bench's figures: which ones miss their aim, and what is counted."""

from typing import Any

import pytest

from tests.bench import pool, pool_guest, rows

MIB = 1 << 20
ZONEINFO = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 5
  pages free     3840
        boost    0
      nr_free_pages 3840
      nr_zspages   7
  pagesets
    cpu: 0
              count:    3
              high:     14
              batch:    1
  vm stats threshold: 2
Node 0, zone    DMA32
  pages free     200000
      nr_free_pages 200000
  pagesets
    cpu: 0
              count:    4000
              high:     5000
    cpu: 1
              count:    10
"""


def one(ram: float, seconds: float, sequential: float) -> dict[str, Any]:
    ready = {"ram": ram, "known": ram - 1, "seconds": [seconds]}
    read = {"sequential": sequential, "random": 100.0}
    return {
        "small": ready,
        "large": ready,
        "roots": {"ram": 10.0, "known": 9.0},
        "reads": [read, read, read],
        "writes": {"taken": {"known": 32.0}, "left": {"known": 0.0}},
    }


def found(**ours: float) -> dict[str, dict[str, Any]]:
    mine = {"ram": 100.0, "seconds": 1.0, "sequential": 10.0, **ours}
    return {
        "ours": one(**mine),
        "raw": one(310.0, 100.0, 20.0),
        "xfs": one(150.0, 100.0, 19.0),
        "thin": one(95.0, 9.0, 5.0),
    }


def missed(of: dict[str, dict[str, Any]]) -> set[tuple[str, str]]:
    return {
        (row.what.partition(" with ")[0], row.peer)
        for row in pool.table(of)
        if row.aim is not None and row.ratio < row.aim
    }


def test_nothing_is_missed_within_the_aims() -> None:
    assert missed(found()) == set()


@pytest.mark.parametrize(
    ("ours", "wanted"),
    [
        (
            {"ram": 106.0},
            {
                ("RAM in use, ready", "LVM thin on squashfs"),
                ("RAM in use", "LVM thin on squashfs"),
            },
        ),
        (
            {"seconds": 10.1},
            {("artifacts in RAM to ready", "XFS on zram")},
        ),
        (
            {"sequential": 9.4},
            {("sequential read, cold", "XFS on zram")},
        ),
    ],
)
def test_a_missed_aim_is_said(
    ours: dict[str, float], wanted: set[tuple[str, str]]
) -> None:
    of = found(**ours)
    assert missed(of) == wanted
    printed = rows.table("pool", pool.table(of))
    assert printed.count("<< missed") == len(wanted)


def test_a_peer_that_gives_nothing_back_has_a_ratio() -> None:
    of = found()
    of["thin"]["writes"]["left"]["known"] = 32.0
    printed = rows.table("pool", pool.table(of))
    assert "LVM thin on squashfs: 0.10 %; ratio 1000.00" in printed


def test_free_pages_are_also_those_in_the_lists_of_processors() -> None:
    assert pool_guest.free_pages(ZONEINFO) == 3840 + 3 + 200000 + 4000 + 10


def test_reads_in_order_go_where_most_data_is() -> None:
    window = pool_guest.SEQUENTIAL
    data = [
        (0, MIB),
        (window - MIB, 2 * window),
        (3 * window + MIB, 4 * window),
        (9 * window, 9 * window + 5 * MIB),
    ]
    turns = [pool_guest.fullest(data, turn) for turn in range(3)]
    assert turns == [window, 3 * window, 9 * window]
