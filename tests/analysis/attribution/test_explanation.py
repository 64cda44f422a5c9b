"""Attention and Integrated Gradients point where they should, stream by stream, and sum to what they explain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_stage import FRAMES, IGNORED, TELLING, new_stage, planted_stage, planted_streams

from disentangle_lightning.analysis.attribution.explanation import METHODS, explain, log_odds
from disentangle_lightning.nn.segments import Segments


def test_the_frame_on_which_a_prediction_rests_is_found() -> None:
    explanation = explain(planted_stage(), *planted_streams(), steps=50)
    assert explanation.target == 1
    assert list(explanation.scores) == list(METHODS)
    for method in ("attention_acoustic", "ig_acoustic", "ig"):
        scores = explanation.scores[method]
        assert scores.argmax() == TELLING
        assert scores[TELLING] > 0.8 * scores.sum()


def test_the_streams_are_not_mixed_up() -> None:
    textual, acoustic = planted_streams()
    found = explain(planted_stage(), textual, acoustic, steps=50).scores
    assert found["attention_textual"].argmax() == IGNORED
    assert found["attention_acoustic"].argmax() == TELLING
    assert np.abs(found["ig_textual"]).max() == 0  # it draws attention, but the class does not hang on it
    swapped = explain(planted_stage(), acoustic, textual, steps=50).scores
    assert swapped["attention_textual"].argmax() == TELLING
    assert swapped["attention_acoustic"].argmax() == IGNORED


def test_attention_sums_to_one_over_frames_and_gradients_to_what_they_explain() -> None:
    """Normalised over the wrong axis, both would be the same for each frame."""
    torch.manual_seed(1)
    stage = new_stage(("a", "b", "c"))
    for weights in (stage.pool_textual.query, stage.pool_acoustic.query):
        weights.copy_(torch.randn(4))
    explanation = explain(stage, torch.randn(FRAMES, 4), torch.randn(FRAMES, 4), steps=50)
    for stream in ("textual", "acoustic"):
        assert explanation.scores[f"attention_{stream}"].sum() == pytest.approx(1)
        assert explanation.scores[f"attention_{stream}"].std() > 0.01
    change = explanation.log_odds - explanation.from_nothing
    assert explanation.scores["ig"].sum() == pytest.approx(change, rel=1e-3)
    assert explanation.completeness_error < 1e-3 * abs(change)
    assert explanation.scores["ig"].std() > 0.01


def test_gradients_of_a_linear_prediction_are_its_terms() -> None:
    """With the same attention for each frame, the log-odds of two classes are a sum over frames."""
    torch.manual_seed(2)
    stage = new_stage()
    textual, acoustic = torch.randn(FRAMES, 4), torch.randn(FRAMES, 4)
    explanation = explain(stage, textual, acoustic, steps=3)
    weights = stage.classifier.weight[explanation.target] - stage.classifier.weight[1 - explanation.target]
    assert explanation.scores["ig_textual"] == pytest.approx((textual @ weights[:4] / FRAMES).numpy(), abs=1e-5)
    assert explanation.scores["ig_acoustic"] == pytest.approx((acoustic @ weights[4:] / FRAMES).numpy(), abs=1e-5)


def test_log_odds_are_those_of_the_probability() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0], [5.0, 0.0, 0.0]])
    probability = logits.softmax(1)[:, 2]
    assert log_odds(logits, 2).tolist() == pytest.approx((probability / (1 - probability)).log().tolist(), rel=1e-5)


def test_the_attention_is_that_of_the_stage() -> None:
    stage = planted_stage()
    streams = planted_streams()
    segments = Segments.from_lengths(torch.tensor([FRAMES]), FRAMES, FRAMES)
    _, textual, acoustic = stage.read(*streams, segments)
    scores = explain(stage, *streams, steps=2).scores
    assert torch.equal(torch.from_numpy(scores["attention_textual"]).float(), textual)
    assert torch.equal(torch.from_numpy(scores["attention_acoustic"]).float(), acoustic)
