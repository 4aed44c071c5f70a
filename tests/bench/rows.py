"""Rows of a bench: medians of alternating runs, a table, a JSON file."""

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "build" / "bench"
ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """One figure; ``ratio`` is the better the larger, ``aim`` is its least."""

    what: str
    ours: float
    peer: str
    theirs: float
    unit: str
    ratio: float
    aim: float | None
    runs: dict[str, list[float]] = field(default_factory=dict)


def alternating(
    ours: Callable[[], float],
    theirs: Callable[[], float],
    rounds: int = ROUNDS,
) -> dict[str, list[float]]:
    """Measure both in turn, so that a slow minute hits both alike."""
    runs: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        runs["ours"].append(ours())
        runs["theirs"].append(theirs())
    return runs


def compared(
    what: str,
    peer: str,
    unit: str,
    runs: dict[str, list[float]],
    aim: float | None,
    *,
    more_is_better: bool,
) -> Row:
    """Return the row of the medians of some runs."""
    ours = statistics.median(runs["ours"])
    theirs = statistics.median(runs["theirs"])
    ratio = ours / theirs if more_is_better else theirs / ours
    return Row(what, ours, peer, theirs, unit, ratio, aim, runs)


def against_limit(what: str, unit: str, limit: float, runs: list[float]) -> Row:
    """Return the row of a figure that must stay below a limit."""
    both = {"ours": runs, "theirs": [limit]}
    return compared(what, "limit", unit, both, 1.0, more_is_better=False)


def write(name: str, rows: list[Row], folder: Path = FOLDER) -> Path:
    """Write the rows as JSON and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    text = json.dumps([asdict(row) for row in rows], indent=2)
    path.write_text(text + "\n", "ascii")
    return path


def table(name: str, rows: list[Row]) -> str:
    """Return the rows as text for people."""
    lines = [f"{name}:"]
    for row in rows:
        aim = "" if row.aim is None else f", aim {row.aim:g}"
        met = row.aim is None or row.ratio >= row.aim
        lines.append(
            f"  {row.what}: {row.ours:.2f} {row.unit}; {row.peer}: "
            f"{row.theirs:.2f} {row.unit}; ratio {row.ratio:.2f}{aim}"
            + ("" if met else "  << missed")
        )
    return "\n".join(lines)
