"""``make demo``: the whole story, from a key to qubes in RAM, on one machine.

Every figure that it prints or writes to ``demo.json`` is read in that run:
from lab-probe inside the guest, from the client program's own record, from the
host's side of the decoy disk.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sys_pxe import files
from sys_pxe.errors import SysPxeError
from sys_pxe.lab import golden, guests, qubes
from sys_pxe.lab.machine import Machine
from sys_pxe.lab.world import (
    BOOT_SECONDS,
    DESKS,
    FAILED,
    IN_RAM,
    QUBES_DESK,
    Desk,
    World,
)

BUILD = Path("build")
PICTURES = BUILD / "pictures"
RESULT = BUILD / "demo.json"
WRITTEN = "/root/written-in-the-first-boot"
CHANGED = "/etc/motd"
# what the start of a guest may take of the pool: bookkeeping, no copies
STARTED_MIB = 2
NEWS = b"release 2 says hello\n"
DESK, SMALL = DESKS[0], DESKS[1]


def say(text: str) -> None:
    """Print progress at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def title(text: str) -> None:
    """Print a heading with the time since the start."""
    say(f"\n== {text} ({time.monotonic() - _STARTED:.0f} s)")


_STARTED = time.monotonic()


@dataclass(frozen=True)
class Boot:
    """One boot: the release it got, and all that was measured in it."""

    what: str
    record: dict[str, object]
    files: dict[str, object]


def watch(machine: Machine, picture: Path | None) -> dict[str, float]:
    """Follow a boot to the login; return stage -> seconds since power-on."""
    marks = {
        "xen": r"Xen version|\(XEN\) ",
        "initramfs": r"sys-pxe: hidden from dom0",
        "address": r"sys-pxe: Signatures",
        "fetch": r"sys-pxe: Download",
    }
    seconds = {}
    for name, pattern in marks.items():
        seconds[name] = machine.wait_for(pattern, BOOT_SECONDS).seconds
        say(f"  {seconds[name]:6.1f} s  {name}")
    if picture is not None:
        machine.wait_for(r"Download, [3-9][0-9]%", BOOT_SECONDS)
        machine.screenshot(picture)
    seconds["in_ram"] = machine.wait_for(IN_RAM, BOOT_SECONDS).seconds
    say(f"  {seconds['in_ram']:6.1f} s  in RAM, network off")
    seconds["ready"] = machine.login(BOOT_SECONDS)
    say(f"  {seconds['ready']:6.1f} s  READY: logged in as root")
    return seconds


@dataclass(frozen=True)
class Pool:
    """The VM pool of the boot with qubes, and what the guests did in it."""

    record: dict[str, object]
    guests: list[dict[str, object]]


def boot(
    world: World,
    what: str,
    machine: Machine,
    picture: Path | None = None,
    desk: Desk = DESK,
) -> Boot:
    """Watch a machine that was just switched on, and measure it."""
    title(what)
    seconds = watch(machine, picture)
    found = machine.probe(WRITTEN, CHANGED)
    own = found["boot"]
    if not isinstance(own, dict):
        raise SysPxeError("the client program left no record of this boot")
    stages = {f"stage_{k}": v for k, v in dict(own["seconds"]).items()}
    machine.command("sync")
    record = {
        "client": own["client"],
        "release": own["release"],
        "ready": bool(machine.command("hostname") == own["client"]),
        "hypervisor": found["hypervisor"],
        "root": found["root"],
        "interfaces": own["interfaces"],
        "interfaces_now": found["interfaces"],
        "swap_kib": found["swap_kib"],
        "disks_seen": found["block"],
        "hidden": found["pciback"],
        "decoy_unchanged": world.decoy_unchanged(desk),
        "bytes_received": own["bytes_received"],
        "ram_used_mib": found["ram_used_mib"],
        "ram_total_mib": found["ram_total_mib"],
        "seconds": {k: round(v, 1) for k, v in {**seconds, **stages}.items()},
    }
    existing = found["files"]
    return Boot(what, record, existing if isinstance(existing, dict) else {})


def run_demo(world: World) -> tuple[list[Boot], Pool]:
    """Tell the story; return its boots, the last of which has qubes."""
    boots: list[Boot] = []
    title("key")
    world.create_key()
    title("golden tree (taken from the cache when it is there)")
    tree = world.golden()
    title("release 1")
    world.build("r1", tree)
    world.start_agent()
    world.command("release", "push", "r1")
    title("site")
    world.write_site()
    world.command("site", "push")
    world.command("channel", "set", "stable", "r1")
    with world.machine(DESK) as machine:
        first = boot(world, "desk-01, first boot, disk hidden", machine,
                     PICTURES / "fetch.png")  # fmt: skip
        machine.command(f"echo kept? > {WRITTEN}")
        machine.screenshot(PICTURES / "ready.png")
        boots.append(first)
    world.write_site({DESK.name: "disks"})
    world.command("site", "push")
    with world.machine(DESK) as machine:
        boots.append(boot(world, "desk-01 again, disk visible", machine))
    failure(world)
    world.write_site()
    world.command("site", "push")
    title("release 2: one changed file")
    with golden.variant(tree, "r2", {CHANGED.lstrip("/"): NEWS}) as changed:
        world.build("r2", changed)
    world.command("release", "push", "r2")
    world.command("channel", "set", "stable", "r2")
    with world.machine(DESK) as machine:
        boots.append(boot(world, "desk-01 with release 2", machine))
    title("rollback")
    world.command("channel", "rollback", "stable")
    with world.machine(DESK) as machine:
        boots.append(boot(world, "desk-01 after the rollback", machine))
    last, pool = with_qubes(world, tree)
    return [*boots, last], pool


def with_qubes(world: World, tree: Path) -> tuple[Boot, Pool]:
    """Build a release with qubes, boot it, use three guests of Xen."""
    title("a release with qubes: a template, three app qubes")
    world.write_site(qubes=True)
    with golden.variant(tree, "q1", {}) as filled:
        qubes.add(filled)
        world.build("q1", filled)
    world.command("release", "push", "q1")
    world.command("site", "push")
    world.command("plan", "qubes", "--release", "q1")
    world.command("channel", "set", "testing", "q1")
    with world.machine(QUBES_DESK) as machine:
        what = "desk-04 with qubes in RAM"
        found = boot(world, what, machine, desk=QUBES_DESK)
        title("three guests of Xen, from the pool")
        own = machine.probe()["boot"]
        assert isinstance(own, dict)
        empty = guests.Guests(machine).used()
        told = guests.tour(machine)
        machine.screenshot(PICTURES / "qubes.png")
    record: dict[str, object] = {
        "seed_bytes": own["pool"]["seed_bytes"],
        "pool_used_bytes": empty.zram_held,
        "limit_bytes": own["pool"]["disksize"],
        "ready_seconds": own["seconds"]["pool"],
        "ram_left_mib": told["ram_left_mib"],
    }
    say(f"  pool: {record}")
    return found, Pool(record, guest_rows(told))


def guest_rows(told: dict[str, object]) -> list[dict[str, object]]:
    """Return a row for each guest of a tour; the first of them wrote."""
    rows = told["rows"]
    assert isinstance(rows, list)
    writer = rows[0]["name"]
    found = []
    for row in rows:
        wrote = row["name"] == writer
        found.append(
            {
                **row,
                "wrote_mib": told["wrote_mib"] if wrote else 0,
                "ram_returned_mib": told["ram_returned_mib"] if wrote else 0,
                "seed_unchanged": told["seed_unchanged"],
            }
        )
        say(f"  guest: {found[-1]}")
    return found


def failure(world: World) -> None:
    """Show what a person sees when a PC has too little RAM."""
    title("desk-02, whose profile gives dom0 too little RAM")
    with world.machine(SMALL) as machine:
        seen = machine.wait_for(FAILED + r"[^\0]*?hint: [^\n]*\n", BOOT_SECONDS)
        time.sleep(2)
        machine.screenshot(PICTURES / "failure.png")
        say("  " + seen.match[0].replace("\r", "").replace("\n", "\n  "))
    row = world.client_row(SMALL)
    say(f"  the server knows: {row.get('stage')}: {row.get('message')}")


def text_of(boot: Boot, path: str) -> str | None:
    """Return the first bytes of a file in the guest; None if it is absent."""
    found = boot.files.get(path)
    return None if found is None else str(found)


def pool_verdicts(pool: Pool) -> list[tuple[str, str, bool]]:
    """Return what was to be proved of the qubes."""
    rows = pool.guests
    writer, others = rows[0], rows[1:]
    wrote, back = writer["wrote_mib"], writer["ram_returned_mib"]
    assert isinstance(wrote, int)
    assert isinstance(back, int)
    left = pool.record["ram_left_mib"]
    assert isinstance(left, float)
    taken = [row["taken_mib"] for row in rows]
    return [
        ("guests that ran a command", str([row["ran"] for row in rows]),
         all(row["ran"] == f"{row['name']} of {qubes.TEMPLATE}"
             for row in rows)),
        ("MiB of the pool that their start took", str(taken),
         all(isinstance(t, float) and t < STARTED_MIB for t in taken)),
        ("a write seen by its own guest alone",
         str([row["saw"] for row in rows]),
         writer["saw"] is True and not any(row["saw"] for row in others)),
        ("MiB of RAM written in one, and given back", f"{wrote}, {back}",
         wrote >= guests.RETURNED_MIB and back >= guests.RETURNED_MIB),
        ("MiB of RAM that the pool kept at last", f"{left:.1f}",
         left <= guests.LEFT_MIB),
        ("seed unchanged after all of it", str(writer["seed_unchanged"]),
         writer["seed_unchanged"] is True),
    ]  # fmt: skip


def verdicts(boots: list[Boot]) -> list[tuple[str, str, bool]]:
    """Return what was to be proved: claim, what was read, whether it holds."""
    again = boots[1]
    rows = []
    for one in boots:
        r = one.record
        root = json.dumps(r["root"])
        rows += [
            (f"{one.what}: hypervisor", str(r["hypervisor"]),
             r["hypervisor"] == "xen"),
            (f"{one.what}: root", root,
             "overlay" in root and "squashfs" in root and "tmpfs" in root),
            (f"{one.what}: network at switch_root", str(r["interfaces"]),
             r["interfaces"] == ["lo"] == r["interfaces_now"]),
            (f"{one.what}: active swap, KiB", str(r["swap_kib"]),
             r["swap_kib"] == 0),
            (f"{one.what}: decoy disk unchanged", str(r["decoy_unchanged"]),
             r["decoy_unchanged"] is True),
        ]  # fmt: skip
    disk = [json.dumps(b.record["disks_seen"]) for b in boots]
    texts = [text_of(b, CHANGED) for b in boots]
    rows += [
        ("disk seen: hidden, then visible", f"{'sda' in disk[0]}, "
         f"{'sda' in disk[1]}", "sda" not in disk[0] and "sda" in disk[1]),
        ("file of the first boot, after a reboot", str(text_of(again, WRITTEN)),
         text_of(again, WRITTEN) is None),
        ("change of release 2", str(texts),
         [NEWS.decode() in (t or "") for t in texts]
         == [False, False, True, False, False]),
        ("releases booted", str([b.record["release"] for b in boots]),
         [b.record["release"] for b in boots]
         == ["r1", "r1", "r2", "r1", "q1"]),
    ]  # fmt: skip
    return rows


def table(boots: list[Boot]) -> str:
    """Return the boots as a table."""
    names = ("xen", "initramfs", "address", "fetch", "in_ram", "ready")
    lines = [f"{'boot':34}{'release':8}" + "".join(f"{n:>11}" for n in names)
             + f"{'MiB got':>9}{'MiB RAM':>9}"]  # fmt: skip
    for one in boots:
        r = one.record
        seconds = r["seconds"]
        assert isinstance(seconds, dict)
        got = r["bytes_received"]
        assert isinstance(got, int)
        lines.append(
            f"{one.what:34}{r['release']!s:8}"
            + "".join(f"{seconds[n]:>11.1f}" for n in names)
            + f"{got / 2**20:>9.0f}{r['ram_used_mib']!s:>9}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    del argv
    files.make_folder(PICTURES)
    try:
        with World(BUILD / "demo", BUILD / "cache", say) as world:
            boots, pool = run_demo(world)
    except SysPxeError as error:
        sys.stderr.write(f"demo: error: {error.explain()}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("demo: stopped; nothing is left running\n")
        return 130
    rows = [*verdicts(boots), *pool_verdicts(pool)]
    title("what it proved")
    for claim, read, holds in rows:
        say(f"  {'ok  ' if holds else 'FAIL'}  {claim}: {read}")
    say("\nseconds since power-on\n" + table(boots))
    content = {
        "boots": [{"what": b.what, **b.record} for b in boots],
        "pool": pool.record,
        "guests": pool.guests,
    }
    files.write(RESULT, json.dumps(content, indent=1).encode() + b"\n")
    say(f"\nwritten: {RESULT}; pictures: {PICTURES}")
    failed = sum(not holds for _, _, holds in rows)
    say("all of it holds" if not failed else f"{failed} of it do not hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
