"""Learnt layer weights go where the target was planted, and agreement is what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted import plant
from planted_run import planted_run, train_stage1
from tiny_pipeline import command, refused

from disentangle_lightning.analysis.mixers.agreement import distance, mean_over_pairs, rank_agreement
from disentangle_lightning.report.analysis_result import AnalysisResult, read_result


def test_rank_agreement_has_known_values() -> None:
    assert rank_agreement([0.1, 0.2, 0.7], [0.3, 0.33, 0.37]) == pytest.approx(1)
    assert rank_agreement([0.1, 0.2, 0.7], [0.7, 0.2, 0.1]) == pytest.approx(-1)
    assert rank_agreement([0.1, 0.2, 0.3, 0.4], [0.2, 0.1, 0.4, 0.3]) == pytest.approx(0.6)


def test_rank_agreement_by_chance_is_as_wide_as_the_note_says() -> None:
    rng = np.random.default_rng(0)
    drawn = [rank_agreement(rng.dirichlet(np.ones(12)), rng.dirichlet(np.ones(12))) for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(0, abs=0.03)
    assert np.std(drawn) == pytest.approx(11**-0.5, rel=0.05)


def test_distance_is_the_weight_to_be_moved() -> None:
    assert distance([0.5, 0.5, 0.0], [0.5, 0.0, 0.5]) == pytest.approx(0.5)
    assert distance([1, 0], [0, 1]) == 1
    assert distance([0.2, 0.8], [0.2, 0.8]) == 0
    assert mean_over_pairs([[0.1, 0.9], [0.1, 0.9], [0.9, 0.1]]) == (pytest.approx(-1 / 3), pytest.approx(1.6 / 3))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose layer 1 says the letters and whose layer 2 the emotion, with its layer weights analysed."""
    base = tmp_path_factory.mktemp("mixers")
    run = planted_run(base / "run", plant(base), {"stage1": 12, "stage2": 4, "probe": 8}, labels=[])
    train_stage1(run)
    status, errors = command("analyze", "mixers", run, "--share_of_epochs", "1")
    assert status == 0, errors
    return run


@pytest.fixture(scope="module")
def result(run: Path) -> AnalysisResult:
    return read_result(run / "analysis" / "mixers")


def test_weights_go_where_the_target_is(result: AnalysisResult) -> None:
    figures = result.figures
    for reader, layer in (("stage1", 1), ("probe_ctc", 1), ("probe_emotion", 2)):
        assert figures[f"mixers.{reader}.learned.weight.{layer}"] > 0.55, reader
    for reader in ("stage1", "stage2_emotion", "probe_ctc", "probe_emotion"):
        weights = [figures[f"mixers.{reader}.learned.weight.{layer}"] for layer in (1, 2)]
        assert sum(weights) == pytest.approx(1, abs=1e-5)


def test_the_best_single_layer_is_found_for_each_target(run: Path, result: AnalysisResult) -> None:
    rows = dict(result.tables[0].rows)
    assert rows["probe (words)"][-1].detail.endswith("layer 1")
    assert rows["probe (emotion)"][-1].detail.endswith("layer 2")
    assert rows["Stage 1"][-1].detail.endswith("layer 1")
    folder = run / "analysis" / "mixers" / "seed0"
    assert "layer: 0\n" in (folder / "stage1_single" / "config.yaml").read_text()
    assert "layer: 1\n" in (folder / "stage2_emotion_single" / "config.yaml").read_text()
    assert result.figures["mixers.probe_emotion.single.accuracy"] > 0.9


def test_starts_are_compared_and_frozen_weights_stay(run: Path, result: AnalysisResult) -> None:
    figures = result.figures
    assert figures["mixers.stage1.start.rank_agreement"] in (pytest.approx(1), pytest.approx(-1))
    assert 0 < figures["mixers.stage1.start.distance"] < 1
    assert figures["mixers.stage1.probe.rank_agreement"] == pytest.approx(1)
    assert not any(".seeds." in name for name in figures)
    assert 'id="analysis-mixers"' in (run / "report.html").read_text()


def test_one_layer_has_no_weights(tmp_path: Path) -> None:
    run = planted_run(tmp_path / "run", plant(tmp_path, layers=[2]), {"stage1": 1, "stage2": 1, "probe": 1})
    train_stage1(run)
    assert "there are no weights to learn" in refused("analyze", "mixers", run)
