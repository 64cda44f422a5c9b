"""Deletion and insertion curves fall and rise where they should, and stay where nothing matters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_stage import FRAMES, TELLING, new_stage, planted_stage, planted_streams

from disentangle_lightning.analysis.attribution.explanation import Explanation, explain
from disentangle_lightning.analysis.attribution.faithfulness import (
    SHARES,
    Curves,
    frames_at_shares,
    order_of,
    trace,
    trace_random,
)
from disentangle_lightning.analysis.attribution.findings import RANDOM, evidence_figures, faithfulness_figures
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB


def traces_of(stage: Stage2ConditionalVIB, utterances: int) -> tuple[list[Explanation], dict[str, list[Curves]]]:
    rng = np.random.default_rng(0)
    explanations: list[Explanation] = []
    traces: dict[str, list[Curves]] = {}
    for seed in range(utterances):
        streams = planted_streams(seed)
        explanations.append(explain(stage, *streams, steps=20))
        target = explanations[-1].target
        for method, scores in explanations[-1].scores.items():
            traces.setdefault(method, []).append(trace(stage, *streams, target, order_of(scores, rng)))
        traces.setdefault(RANDOM, []).append(trace_random(stage, *streams, target, 10, rng))
    return explanations, traces


def test_without_the_telling_frame_the_prediction_falls_at_once() -> None:
    stage, streams = planted_stage(), planted_streams()
    order = order_of(explain(stage, *streams, steps=20).scores["ig"], np.random.default_rng(0))
    assert order[0] == TELLING
    curves = trace(stage, *streams, 1, order)
    assert curves.counts[:2].tolist() == [0, 1]
    assert curves.deletion[0] > 0.99
    assert max(curves.deletion[1:]) < 0.6
    assert min(curves.insertion[1:]) > 0.99
    by_chance = trace_random(stage, *streams, 1, 20, np.random.default_rng(0))
    assert by_chance.deletion[1] > 0.9
    assert by_chance.figures["deletion"] > curves.figures["deletion"] + 0.1


def test_faithful_orders_beat_random_and_one_that_points_elsewhere_does_not() -> None:
    _, traces = traces_of(planted_stage(), 20)
    figures = faithfulness_figures("x", traces)
    for method in ("attention_acoustic", "ig_acoustic", "ig"):
        assert figures[f"x.{method}.deletion_gain.ci_low"] > 0.1
        assert figures[f"x.{method}.insertion_gain.ci_low"] > 0.1
    assert figures["x.attention_textual.deletion_gain.ci_low"] < 0
    assert figures["x.attention_textual.insertion_gain.ci_low"] < 0
    assert figures["x.attention_textual_over_ig.deletion.ci_high"] < -0.1
    assert figures["x.attention_textual_over_ig.insertion.ci_high"] < -0.1
    assert figures["x.ig.comprehensiveness"] > 0.4 > 0.01 > figures["x.ig.sufficiency"]
    assert figures["x.random.comprehensiveness"] < 0.25


def test_where_no_frame_matters_no_order_is_better() -> None:
    stage = planted_stage()
    stage.classifier.weight.zero_()
    explanations, traces = traces_of(stage, 5)
    figures = faithfulness_figures("x", traces)
    assert {abs(value) for name, value in figures.items() if "gain" in name or "_over_" in name} == {0}
    assert figures["x.ig.deletion"] == figures["x.random.deletion"] == pytest.approx(0.5)
    assert "x.ig.completeness_error" not in evidence_figures("x", explanations)  # nothing was to be explained


def test_frames_that_are_gone_are_gone_from_both_streams() -> None:
    torch.manual_seed(3)
    stage = new_stage()
    for pool in (stage.pool_textual, stage.pool_acoustic):
        pool.query.copy_(torch.randn(4))
    textual, acoustic = torch.randn(FRAMES, 4), torch.randn(FRAMES, 4)
    order = np.random.default_rng(0).permutation(FRAMES)
    curves = trace(stage, textual, acoustic, 1, order)

    def probability(kept: np.ndarray) -> float:
        segments = Segments.from_lengths(torch.tensor([len(kept)]), len(kept), FRAMES)
        return float(stage.read(textual[kept], acoustic[kept], segments)[0].softmax(1)[0, 1])

    for place, count in enumerate(curves.counts):
        assert curves.deletion[place] == pytest.approx(probability(order[count:]), abs=1e-6)
        assert curves.insertion[place] == pytest.approx(probability(order[:count]), abs=1e-6)
    assert curves.deletion[-1] == pytest.approx(float(stage.classifier.bias.softmax(0)[1]))


def test_areas_and_bins_have_known_answers() -> None:
    shares = np.array(SHARES)
    assert frames_at_shares(100).tolist() == [0, 1, *range(5, 101, 5)]
    assert frames_at_shares(30)[:4].tolist() == [0, 1, 2, 3]
    curves = Curves(frames_at_shares(100), 1 - shares, shares**0)
    assert curves.figures == pytest.approx(
        {"deletion": 0.5, "insertion": 1.0, "comprehensiveness": (0.01 + 0.05 + 0.1 + 0.2 + 0.5) / 5, "sufficiency": 0}
    )


def test_an_order_goes_from_high_to_low_and_breaks_ties_by_lot() -> None:
    rng = np.random.default_rng(0)
    assert order_of(np.array([0.1, 3.0, -2.0, 1.0]), rng).tolist() == [1, 3, 0, 2]
    tied = [order_of(np.zeros(30), rng).tolist() for _ in range(2)]
    assert tied[0] != tied[1]
    assert sorted(tied[0]) == list(range(30))
    assert tied[0] != list(range(30))


def test_evidence_comes_from_the_stream_that_has_it() -> None:
    explanations, _ = traces_of(planted_stage(), 5)
    figures = evidence_figures("x", explanations)
    assert figures["x.ig_textual.evidence"] == 0
    assert figures["x.ig_acoustic.evidence"] == pytest.approx(
        figures["x.log_odds"] - figures["x.from_nothing"], rel=0.01
    )
    assert figures["x.ig.completeness_error"] < 0.01


def test_attention_is_even_where_it_looks_at_all_frames_alike() -> None:
    stage = planted_stage()
    stage.pool_textual.query.zero_()
    explanation = explain(stage, *planted_streams(), steps=2)
    figures = evidence_figures("x", [explanation])
    assert figures["x.attention_textual.evenness"] == pytest.approx(1)
    assert 1 / FRAMES < figures["x.attention_acoustic.evenness"] < 3 / FRAMES
