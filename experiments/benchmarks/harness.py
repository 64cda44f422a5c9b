"""What all benchmarks share: two sides timed in turn in one process, ratios printed, figures kept in bench.json."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

RESULTS = Path("bench.json")
"""In the working directory: {flat name: figure}, of every benchmark that was run there."""


def time_in_turn(sides: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """The median seconds of each side, called in turn: what slows the machine for a while slows all of them.

    Each side is called once before, unmeasured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, call in sides.items():
            begun = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}


def record(name: str, figure: float, target: str, **sides: str) -> None:
    """Print one figure beside its target and what it was made of, and keep it (and it alone) in bench.json.

    >>> record("encode.speedup", 2.4, "at least 2", ours="12.1 clips/s", theirs="5.0 clips/s")  # doctest: +SKIP
    encode.speedup               2.4   (at least 2)   ours: 12.1 clips/s   theirs: 5.0 clips/s
    """
    print(f"{name:32} {figure:8.3g}   ({target})", *(f"{side}: {text}" for side, text in sides.items()), sep="   ")
    figures = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    figures[name] = figure
    RESULTS.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")
