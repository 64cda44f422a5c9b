"""Numbers to classes: quartiles that are cut on the training split and hold for every other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from disentangle_lightning.corpus.manifest import Utterance


def quartile_edges(values: Sequence[float]) -> list[float]:
    """The upper edges of all bins but the last, ascending; values that are NaN do not count.

    Each edge is one of the values, the smallest with a quarter (half, three quarters) of them at or below it, and
    belongs to the bin below. Where so many values are equal that two edges fall together, or none is left above the
    last, there are fewer bins; none of them is empty.

    >>> quartile_edges([1, 2, 3, 4, 5, 6, 7, 8])
    [2.0, 4.0, 6.0]
    >>> quartile_edges([0, 0, 0, 0, 0, 1, 2, 3])
    [0.0, 1.0]
    """
    known = np.array([value for value in values if not math.isnan(value)], dtype=np.float64)
    if not len(known):
        return []
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="inverted_cdf"))
    return [float(edge) for edge in edges if edge < known.max()]


def quartile(value: float, edges: Sequence[float]) -> str | None:
    """The bin of a value, `q1` upwards; None where it is NaN. What lies outside the range falls in an outer bin."""
    return None if math.isnan(value) else f"q{int(np.searchsorted(edges, value, side='left')) + 1}"


def with_quartiles(
    utterances: Sequence[Utterance], measures: Mapping[str, Mapping[str, float]], edges: Mapping[str, Sequence[float]]
) -> list[Utterance]:
    """The utterances with the bin of each measure as a label of its name; an undefined one is missing.

    Args:
        utterances: any; those without measures get no such label, and lose one of that name.
        measures: {id: {measure: value}}.
        edges: {measure: `quartile_edges` of the training split}.
    """
    labelled = []
    for u in utterances:
        others = {name: value for name, value in u.labels.items() if name not in edges}
        values = measures.get(u.id, {})
        bins = {name: quartile(values.get(name, math.nan), cuts) for name, cuts in edges.items()}
        labelled.append(replace(u, labels=others | {name: bin for name, bin in bins.items() if bin}))
    return labelled
