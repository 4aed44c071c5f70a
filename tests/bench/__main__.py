"""Run the benches: ``python -m tests.bench [NAME]``; needs root."""

import sys
from collections.abc import Callable

from tests.bench import agent, boot, build, fetch, matrix, pool, push, rows

# NAME -> what measures it; build/bench/NAME.json holds the result
BENCHES: dict[str, Callable[[], list[rows.Row]]] = {
    "fetch": fetch.bench,
    "agent": agent.bench,
    "push": push.bench,
    "build": build.bench,
    "boot": boot.bench,
    "matrix": matrix.bench,
    "pool": pool.bench,
}


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or not set(arguments) <= BENCHES.keys():
        known = ", ".join(BENCHES)
        print(f"usage: python -m tests.bench [NAME], NAME is one of {known}",
              file=sys.stderr)  # fmt: skip
        return 2
    for name in arguments or list(BENCHES):
        measured = BENCHES[name]()
        path = rows.write(name, measured)
        print(rows.table(name, measured))
        print(f"  {path}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
