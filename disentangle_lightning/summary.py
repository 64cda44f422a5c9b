"""Figures of several seeds as one: mean, standard deviation, interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev


def aggregate(seeds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every figure over seeds, and `NAME.std` where there are two seeds or more.

    `NAME.ci_low` and `NAME.ci_high`, the bootstrap bounds over test utterances, are averaged like any figure: they say
    how sure one training's figure is, the standard deviation how much trainings differ.

    >>> aggregate([{"stage1.wer": 0.1}, {"stage1.wer": 0.3}])["stage1.wer"]
    0.2
    """
    figures: dict[str, float] = {}
    for name in dict.fromkeys(name for seed in seeds for name in seed):
        values = [seed[name] for seed in seeds if name in seed]
        figures[name] = fmean(values)
        has_spread = len(values) > 1 and all(map(math.isfinite, values))
        if has_spread and not name.endswith((".ci_low", ".ci_high")):
            figures[f"{name}.std"] = stdev(values)
    return figures
