"""Contributions by layer peak where words and voice were planted, and are shared out by the rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted import plant
from planted_run import planted_run
from tiny_pipeline import command, refused

from disentangle_lightning.analysis.layers.contribution import Answers, contributions, read_answers
from disentangle_lightning.report.analysis_result import AnalysisResult, read_result

CLASSES, SIZE = 3, 1500


def of_label(rng: np.random.Generator, labels: np.ndarray, dims: int = 4, strength: float = 4.0) -> np.ndarray:
    """Means [U, dims] that say the label under noise."""
    return rng.normal(size=(CLASSES, dims))[labels] * strength + rng.normal(size=(len(labels), dims))


def halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values[: SIZE // 2], values[SIZE // 2 :]


def figures_of(textual: np.ndarray, acoustic: np.ndarray, labels: np.ndarray) -> tuple[Answers, dict[str, float]]:
    answers = read_answers(halves(textual), halves(acoustic), halves(labels), CLASSES)
    return answers, contributions(answers)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(CLASSES, size=SIZE)


def test_shapley_values_add_up_to_what_both_have_above_chance(rng: np.random.Generator, labels: np.ndarray) -> None:
    answers, figures = figures_of(of_label(rng, labels, strength=0.4), of_label(rng, labels, strength=0.6), labels)
    total = figures["textual.shapley"] + figures["acoustic.shapley"]
    assert total == pytest.approx(figures["joint.accuracy"] - answers.nothing.mean(), abs=1e-12)
    assert total > 0.1


def test_what_only_one_says_is_all_its_own(rng: np.random.Generator, labels: np.ndarray) -> None:
    _, figures = figures_of(rng.normal(size=(SIZE, 4)), of_label(rng, labels), labels)
    assert figures["acoustic.conditional"] > 0.5
    assert figures["acoustic.conditional.ci_low"] > 0.4
    assert figures["textual.conditional"] == pytest.approx(0, abs=0.02)
    assert figures["textual.shapley"] == pytest.approx(0, abs=0.05)
    assert figures["acoustic.shapley"] > 0.5


def test_a_redundant_copy_has_no_conditional_contribution_and_half_of_shapleys(
    rng: np.random.Generator, labels: np.ndarray
) -> None:
    textual = of_label(rng, labels)
    copy = textual @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    _, figures = figures_of(textual, copy, labels)
    for latent in ("textual", "acoustic"):
        assert figures[f"{latent}.conditional"] == pytest.approx(0, abs=0.005)
        assert figures[f"{latent}.shapley"] > 0.3
    assert figures["textual.shapley"] == pytest.approx(figures["acoustic.shapley"], abs=0.005)


def test_what_takes_both_is_in_the_conditional_form_of_both(rng: np.random.Generator) -> None:
    secret, noise = rng.integers(2, size=SIZE), rng.normal(size=SIZE) * 3
    textual, acoustic = (secret + noise)[:, None], noise[:, None]
    _, figures = figures_of(textual, acoustic, secret)
    assert figures["joint.accuracy"] > 0.95
    assert figures["textual.conditional.ci_low"] > 0.3
    assert figures["acoustic.conditional.ci_low"] > 0.3


def test_utterances_without_the_label_count_for_nothing(rng: np.random.Generator, labels: np.ndarray) -> None:
    textual, acoustic = of_label(rng, labels), of_label(rng, labels, strength=0.5)
    some = labels.copy()
    some[::3] = -1
    answers, _ = figures_of(textual, acoustic, some)
    assert len(answers.joint) == (some[SIZE // 2 :] >= 0).sum()
    fit, test = halves(some >= 0)
    (t0, t1), (a0, a1), (l0, l1) = halves(textual), halves(acoustic), halves(labels)
    alone = read_answers((t0[fit], t1[test]), (a0[fit], a1[test]), (l0[fit], l1[test]), CLASSES)
    assert np.array_equal(answers.joint, alone.joint)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose layer 1 says the letters and whose layer 2 the emotion and the speaker, and its layers analysed."""
    base = tmp_path_factory.mktemp("layers")
    run = planted_run(base / "run", plant(base), {"stage1": 25, "stage2": 6, "probe": 12})
    status, errors = command("analyze", "layers", run, "--share_of_epochs", "1")
    assert status == 0, errors
    return run


@pytest.fixture(scope="module")
def result(run: Path) -> AnalysisResult:
    return read_result(run / "analysis" / "layers")


def test_words_peak_in_the_layer_of_the_letters(result: AnalysisResult) -> None:
    assert result.figures["layers.1.stage1.wer"] < 0.2
    assert result.figures["layers.2.stage1.wer"] > 0.8


def test_voice_peaks_in_the_layer_of_the_emotion(result: AnalysisResult) -> None:
    figures = result.figures
    assert figures["layers.2.emotion.acoustic.accuracy"] > 0.95
    assert figures["layers.1.emotion.acoustic.accuracy"] < 0.75
    assert figures["layers.2.emotion.acoustic.shapley"] > figures["layers.1.emotion.acoustic.shapley"] + 0.2
    assert figures["layers.2.emotion.joint.accuracy"] > 0.95
    assert figures["layers.1.emotion.chance"] == 0.5
    assert "layers.2.emotion.acoustic.accuracy.ci_low" in figures


def test_it_stands_on_the_page_with_its_curves(run: Path, result: AnalysisResult) -> None:
    page = (run / "report.html").read_text()
    assert 'id="analysis-layers"' in page
    assert [table.title for table in result.tables] == ["Words by layer", "Contributions to emotion by layer"]
    assert len(result.drawings) == 2


def test_another_run_stands_beside_and_gives_its_stage_1(
    run: Path, result: AnalysisResult, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("beside")
    other = planted_run(base / "other", plant(base), {"stage1": 1, "stage2": 1, "probe": 1})
    first_stage = ["--layers", "[1]", "--stage1_run", str(run)]
    assert command("analyze", "layers", other, *first_stage, "--beside", f"[{run}]")[0] == 0
    found = read_result(other / "analysis" / "layers")
    assert not list((other / "analysis" / "layers").rglob("stage1"))
    assert "layers.1.stage1.wer" not in found.figures
    side_by_side = found.tables[-1]
    assert [name for name, _ in side_by_side.rows] == ["1", "2"]
    assert [cell.text for cell in side_by_side.rows[1][1]][:2] == ["—", "—"]
    accuracy = result.figures["layers.2.emotion.acoustic.accuracy"]
    assert side_by_side.rows[1][1][3].text == f"{100 * accuracy:.1f}%"
    assert all(f">{path}</text>" in found.drawings[-1].svg for path in (run, other)), "named in the legend"


def test_what_cannot_be_done_is_said_in_one_sentence(run: Path, tmp_path: Path) -> None:
    planted = plant(tmp_path)
    other = planted_run(tmp_path / "other", planted, {"stage1": 1, "stage2": 1, "probe": 1})
    assert "field 'layers' has 7; " in refused("analyze", "layers", other, "--layers", "[1, 7]")
    another = planted_run(tmp_path / "another", planted, {"stage1": 1, "stage2": 1, "probe": 1})
    assert "whose analysis layers is not done" in refused("analyze", "layers", another, "--beside", f"[{other}]")
    third = planted_run(tmp_path / "third", planted, {"stage1": 1, "stage2": 1, "probe": 1})
    assert "field 'share_of_epochs' is 0.0" in refused("analyze", "layers", third, "--share_of_epochs", "0")
