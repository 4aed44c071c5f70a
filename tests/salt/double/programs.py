"""Doubles of the programs that the formula's cmd.run states call in dom0."""

import sys

from tests.salt.double import model


def qvm_volume(arguments: list[str]) -> int:
    """Resize, refusing to shrink, or show a volume's size."""
    verb, volume, last = arguments
    name, _, kind = volume.partition(":")
    machine = model.load()
    qube = machine["qubes"][name]
    assert kind == "private"
    if verb == "info":
        assert last == "size"
        sys.stdout.write(f"{qube['private']}\n")
        return 0
    assert verb == "resize"
    if int(last) < qube["private"]:
        sys.stderr.write(
            f"For your own safety, shrinking of {kind} is disabled\n"
        )
        return 1
    qube["private"] = int(last)
    model.save(machine)
    return 0


def qvm_check(arguments: list[str]) -> int:
    """Say by the exit status whether a qube is there and runs."""
    quiet, running, name = arguments
    assert (quiet, running) == ("--quiet", "--running")
    qube = model.load()["qubes"].get(name)
    return 0 if qube and qube["running"] else 1


def sys_pxe(arguments: list[str]) -> int:
    """Say whether a client boots."""
    assert arguments == ["status", "--idle"]
    booting = model.load()["booting"]
    if not booting:
        return 0
    sys.stderr.write(f"clients boot at the moment: {', '.join(booting)}\n")
    return 5


def main() -> int:
    """Run the program named first, and remember that it ran."""
    program, *arguments = sys.argv[1:]
    machine = model.load()
    machine["ran"].append(" ".join([program, *arguments]))
    model.save(machine)
    return {
        "qvm-volume": qvm_volume,
        "qvm-check": qvm_check,
        "sys-pxe": sys_pxe,
    }[program](arguments)


if __name__ == "__main__":
    sys.exit(main())
