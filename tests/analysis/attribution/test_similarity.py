"""Rank correlations say yes to what was planted and no to what was not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from disentangle_lightning.analysis.attribution.alignment import Alignment, Span
from disentangle_lightning.analysis.attribution.clips import Clip, evenly
from disentangle_lightning.analysis.attribution.explanation import METHODS, Explanation
from disentangle_lightning.analysis.attribution.findings import over_words, seed_figures, similarity_figures
from disentangle_lightning.analysis.attribution.prosody import Prosody
from disentangle_lightning.analysis.attribution.similarity import mean_with_interval, spearman

Floats = NDArray[np.float64]
NAN = float("nan")


def explanation(scores: Floats, target: int = 0) -> Explanation:
    return Explanation(target, 1.0, 0.0, dict.fromkeys(METHODS, scores))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3, 4], [1, 4, 9, 16], 1),
        ([1, 2, 3, 4], [0, -1, -5, -9], -1),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),
        ([1, 1, 2, 3], [5, 5, 6, 7], 1),
        ([1, 2, NAN, 3, 4], [1, 4, -100, 9, 16], 1),
    ],
)
def test_rank_correlation_has_known_answers(a: list[float], b: list[float], expected: float) -> None:
    assert spearman(np.array(a, float), np.array(b, float)) == pytest.approx(expected)


@pytest.mark.parametrize(("a", "b"), [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, NAN], [1, 2, 3])])
def test_what_has_no_order_has_no_correlation(a: list[float], b: list[float]) -> None:
    assert np.isnan(spearman(np.array(a, float), np.array(b, float)))


def test_utterances_without_a_value_are_left_out_of_the_mean() -> None:
    assert mean_with_interval("x", np.array([0.5, NAN, 1.0]))["x"] == 0.75
    assert mean_with_interval("x", np.array([NAN])) == {}
    assert mean_with_interval("x", np.array([])) == {}


def test_an_attribution_that_follows_pitch_is_found_and_one_that_does_not_is_not() -> None:
    rng = np.random.default_rng(0)
    clips, explanations, alignments = [], [], {}
    for i in range(60):
        pitch = 100 + 50 * rng.random(40)
        scores = 2 * pitch  # before the voiceless frames are taken out of the pitch
        pitch[::3] = NAN
        words = [Span("A", 8 * w, 8 * w + 4, 1.0) for w in range(5)]
        alignments[str(i)] = Alignment(words, words)
        word_scores = -over_words(scores, alignments[str(i)])
        clips.append(Clip(str(i), slice(0), Prosody(pitch, rng.random(40)), "A A A A A", word_scores))
        explanations.append(explanation(scores))
    figures = similarity_figures("x", explanations, clips, alignments)
    assert figures["x.ig.pitch"] == pytest.approx(1)
    assert figures["x.ig.words"] == pytest.approx(-1)
    assert figures["x.ig.intensity.ci_low"] < 0 < figures["x.ig.intensity.ci_high"]
    assert abs(figures["x.ig.intensity"]) < 0.1


def test_words_are_compared_only_where_scores_were_given_and_words_aligned() -> None:
    prosody = Prosody(np.arange(9.0), np.arange(9.0))
    clips = [
        Clip("none given", slice(0), prosody, "A B C", None),
        Clip("not aligned", slice(0), prosody, "A B C", np.arange(3.0)),
    ]
    figures = similarity_figures("x", [explanation(np.arange(9.0))] * 2, clips, {})
    assert "x.ig.pitch" in figures
    assert "x.ig.words" not in figures


def test_seeds_agree_where_they_rank_frames_alike() -> None:
    rng = np.random.default_rng(0)
    one, other = ([explanation(rng.random(30)) for _ in range(60)] for _ in range(2))
    alike = seed_figures("x", [one, one, one])
    assert alike["x.ig.between_seeds"] == pytest.approx(1)
    assert alike["x.between_seeds.share"] == 1
    unlike = seed_figures("x", [one, other])
    assert unlike["x.ig.between_seeds.ci_low"] < 0 < unlike["x.ig.between_seeds.ci_high"]


def test_utterances_that_seeds_classify_differently_are_left_out_and_counted() -> None:
    up, down = np.arange(5.0), -np.arange(5.0)
    one = [explanation(up), explanation(up), explanation(up)]
    other = [explanation(up), explanation(down, target=1), explanation(up)]
    figures = seed_figures("x", [one, other])
    assert figures["x.between_seeds.share"] == pytest.approx(2 / 3)
    assert figures["x.ig.between_seeds"] == pytest.approx(1)


def test_utterances_are_spread_evenly() -> None:
    assert evenly(range(100), 3) == [0, 49, 99]
    assert evenly("abc", 10) == ["a", "b", "c"]
    assert evenly("abc", 0) == []
