"""LVM as lvs, lvcreate and lvremove show it; what is not expected fails."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from sys_pxe import run
from sys_pxe.run import Result

MIB = 1 << 20


def row(
    vid: str,
    size: int = 20 * MIB,
    attr: str = "Vwi-a-tz--",
    pool: str = "vm-pool",
    number: str = "-1:-1",
    percent: str = "25.00",
) -> dict[str, str]:
    """Return a row as lvs(8) of LVM 2.03 writes it."""
    vg, name = vid.split("/")
    major, minor = number.split(":")
    return {
        "vg_name": vg,
        "lv_name": name,
        "lv_size": str(size),
        "lv_attr": attr,
        "pool_lv": pool,
        "lv_kernel_major": major,
        "lv_kernel_minor": minor,
        "data_percent": percent,
    }


def said(*rows: Mapping[str, str]) -> bytes:
    return json.dumps({"report": [{"lv": rows}], "log": []}).encode()


@dataclass
class Lvm:
    rows: list[dict[str, str]] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)
    # called with each command; what it raises, the command "raises"
    before: Callable[[list[str]], None] = lambda argv: None
    # whether lvcreate makes the snapshot and fails all the same
    half: bool = False
    busy: bool = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run, "run", self.run)

    @property
    def vids(self) -> list[str]:
        return [f"{r['vg_name']}/{r['lv_name']}" for r in self.rows]

    def run(self, argv: list[str], **_: object) -> Result:
        self.calls.append(argv)
        self.before(argv)
        done = getattr(self, argv[0].replace("-", "_"))(argv)
        assert done is None or isinstance(done, bytes)
        return Result(tuple(argv), 0, done or b"", b"")

    def lvs(self, argv: list[str]) -> bytes:
        assert "--nosuffix" in argv
        return said(*self.rows)

    def lvcreate(self, argv: list[str]) -> None:
        name, source = argv[argv.index("--name") + 1], argv[-1]
        assert source in self.vids
        assert argv[argv.index("--permission") + 1] == "r"
        assert argv[argv.index("--setactivationskip") + 1] == "n"
        vg = source.partition("/")[0]
        self.rows.append(row(f"{vg}/{name}", attr="Vri-a-tz--"))
        if self.half:
            self.fail(argv)

    def lvchange(self, argv: list[str]) -> None:
        assert argv[-1] in self.vids

    def lvremove(self, argv: list[str]) -> None:
        assert argv[-1] in self.vids
        if self.busy:
            self.fail(argv)
        del self.rows[self.vids.index(argv[-1])]

    @staticmethod
    def fail(argv: list[str]) -> None:
        raise run.failure(Result(tuple(argv), 5, b"", b"in use"), "a hint")
