"""How far two trainings weigh the layers alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def rank_agreement(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation of two sets of layer weights, from -1 to 1; 1 is the same order of layers.

    The correlation of the ranks; weights are real numbers after a training, so that none tie.

    When not to trust it: of L layers, chance alone gives correlations with a standard deviation of 1 / sqrt(L - 1), so
    that of five layers one of 0.5 says nothing. Layers that weigh next to nothing have ranks, too.
    """
    first, second = (np.argsort(np.argsort(weights)) for weights in (one, other))
    return float(np.corrcoef(first, second)[0, 1])


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Half the sum of absolute differences of weights, from 0 to 1: the weight that would have to be moved."""
    return float(np.abs(np.subtract(one, other)).sum() / 2)


def mean_over_pairs(weights: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Rank agreement and distance, each the mean over all pairs of trainings, of which there are two or more."""
    pairs = list(combinations(weights, 2))
    return (
        float(np.mean([rank_agreement(*pair) for pair in pairs])),
        float(np.mean([distance(*pair) for pair in pairs])),
    )
