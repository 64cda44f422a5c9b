"""Whether two orders of the frames of an utterance agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped]  # comes with scikit-learn

from disentangle_lightning.tasks.metrics import bootstrap_ratio

Floats = NDArray[np.float64]

FEWEST = 3
"""Of two frames, or words, any two orders agree or disagree wholly."""


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation, from -1 to 1, over the places where both are known; equal values share a rank.

    NaN where fewer than `FEWEST` places are left or one of the two is constant. Neighbouring frames are alike, so one
    utterance's coefficient may be large by accident: only the mean over many utterances means anything. A common
    trend, such as a pitch that falls towards the end of each clip, counts as similarity, too.
    """
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < FEWEST or a.min() == a.max() or b.min() == b.max():
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def mean_with_interval(name: str, values: Floats) -> dict[str, float]:
    """`NAME`, the mean over utterances, `.ci_low` and `.ci_high`, its 95 % bootstrap interval over them.

    NaN is left out; nothing comes back where nothing is left.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return {}
    low, high = bootstrap_ratio(values, np.ones_like(values))
    return {name: float(values.mean()), f"{name}.ci_low": low, f"{name}.ci_high": high}
