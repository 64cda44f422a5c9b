"""Quartiles hold for ties, for values outside the range they were cut on, and for values that are missing."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.corpus.quartiles import quartile, quartile_edges, with_quartiles


@pytest.mark.parametrize(
    ("values", "edges", "counts"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], [2, 4, 6], [2, 2, 2, 2]),
        ([8, 7, 6, 5, 4, 3, 2, 1], [2, 4, 6], [2, 2, 2, 2]),
        ([1, 2, 3, 4, 5], [2, 3, 4], [2, 1, 1, 1]),
        ([0, 0, 0, 0, 0, 1, 2, 3], [0, 1], [5, 1, 2]),  # two edges fall together
        ([1, 2, 3, 9, 9, 9, 9, 9], [2], [2, 6]),  # nothing is above the upper ones
        ([5, 5, 5, 5], [], [4]),
        ([1, 2], [1], [1, 1]),
        ([7], [], [1]),
        ([1, math.nan, 2, 3, math.nan, 4], [1, 2, 3], [1, 1, 1, 1]),
        ([math.nan, math.nan], [], []),
        ([], [], []),
    ],
)
def test_known_quartiles(values: list[float], edges: list[float], counts: list[int]) -> None:
    assert quartile_edges(values) == edges
    bins = Counter(quartile(v, edges) for v in values if not math.isnan(v))
    assert [bins[f"q{i + 1}"] for i in range(len(bins))] == counts


def test_no_bin_is_empty_whatever_the_ties():
    rng = np.random.default_rng(0)
    for _ in range(300):
        values = rng.integers(0, rng.integers(1, 12), size=rng.integers(1, 40)).astype(float).tolist()
        edges = quartile_edges(values)
        assert {quartile(v, edges) for v in values} == {f"q{i + 1}" for i in range(len(edges) + 1)}


def test_values_outside_the_range_fall_in_the_outer_bins():
    edges = quartile_edges([1, 2, 3, 4, 5, 6, 7, 8])
    assert quartile(-1e9, edges) == "q1"
    assert quartile(-math.inf, edges) == "q1"
    assert quartile(1e9, edges) == "q4"
    assert quartile(math.inf, edges) == "q4"
    assert quartile(2.0, edges) == "q1"  # an edge belongs to the bin below
    assert quartile(math.nan, edges) is None


def test_utterances_get_bins_as_labels_and_none_where_a_measure_is_not_defined():
    utterances = [Utterance(id, Path("a.wav"), labels={"style": "sad"}) for id in ("a", "b", "unmeasured")]
    measures = {"a": {"pitch": 3.0, "jitter": math.nan}, "b": {"pitch": 100.0, "jitter": 0.5}}
    labelled = with_quartiles(utterances, measures, {"pitch": [1.0, 2.0, 3.0], "jitter": [0.1]})
    assert [u.labels for u in labelled] == [
        {"style": "sad", "pitch": "q3"},
        {"style": "sad", "pitch": "q4", "jitter": "q2"},
        {"style": "sad"},
    ]
