"""Ablations stand in one table, each beside the protocol, and those are made that the run allows."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import plant
from planted_run import planted_run
from tiny_pipeline import command, refused

from disentangle_lightning.analysis.ablations.variants import VARIANTS
from disentangle_lightning.report.analysis_result import AnalysisResult, read_result

EPOCHS = {"stage1": 22, "stage2": 4, "probe": 4}
STACKED = ["one_stage", "random_condition", "other_order", "several_tasks", "third_stage"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on planted features, beside the stages in other numbers and orders."""
    base = tmp_path_factory.mktemp("ablations")
    run = planted_run(base / "run", plant(base), EPOCHS)
    chosen = ["--variants", f"[{', '.join(STACKED)}]", "--share_of_epochs", "1"]
    status, errors = command("analyze", "ablations", run, *chosen)
    assert status == 0, errors
    return run


@pytest.fixture(scope="module")
def result(run: Path) -> AnalysisResult:
    return read_result(run / "analysis" / "ablations")


def test_the_table_has_every_variant_and_the_page_has_the_table(run: Path, result: AnalysisResult) -> None:
    (table,) = result.tables
    assert [name for name, _ in table.rows][-2:] == [
        "one Stage 2 for emotion and speaker",
        "a third stage, for speaker given both latents",
    ]
    assert len(table.rows) == 1 + len(STACKED)
    assert 'id="analysis-ablations"' in (run / "report.html").read_text()


def test_the_protocol_transcribes_and_a_condition_that_never_learnt_does_not(result: AnalysisResult) -> None:
    figures = result.figures
    assert figures["ablations.full.textual.wer"] < 0.5
    assert figures["ablations.full.acoustic.emotion.accuracy"] > 0.9
    assert figures["ablations.random_condition.textual.wer"] > 0.8
    assert figures["ablations.full.textual.rate_bits_per_second"] > 0


def test_each_variant_is_what_its_name_says(result: AnalysisResult) -> None:
    figures = result.figures
    assert figures["ablations.one_stage.acoustic.emotion.accuracy"] > 0.9
    assert not any(name.startswith("ablations.one_stage.textual") for name in figures)
    assert figures["ablations.other_order.textual.wer"] < 0.5
    first = "acoustic.emotion.accuracy"
    assert figures[f"ablations.other_order.{first}"] == figures[f"ablations.one_stage.{first}"]
    assert {f"ablations.several_tasks.acoustic.{label}.accuracy" for label in ("emotion", "speaker")} <= figures.keys()
    assert "ablations.third_stage.acoustic.emotion.accuracy" not in figures
    assert figures["ablations.third_stage.acoustic.speaker.accuracy"] > 0.5


def test_one_label_leaves_out_what_takes_two_and_settings_reach_the_stages(tmp_path: Path) -> None:
    run = planted_run(tmp_path / "run", plant(tmp_path), {"stage1": 1, "stage2": 1, "probe": 1}, labels=[])
    chosen = ["no_bottleneck", "several_tasks", "small_latents", "high_beta"]
    settings = ["--variants", f"[{', '.join(chosen)}]", "--latent_dim", "3", "--beta_factor", "20"]
    assert command("analyze", "ablations", run, *settings)[0] == 0
    result = read_result(run / "analysis" / "ablations")
    assert [name for name, _ in result.tables[0].rows] == [
        VARIANTS["full"][0],
        VARIANTS["no_bottleneck"][0],
        "latents of 3 dimensions",
        "both bottlenecks 20 times dearer",
    ]
    assert any("left out" in note for note in result.notes)
    assert result.figures["ablations.no_bottleneck.textual.rate_bits_per_second"] == 0
    folder = run / "analysis" / "ablations" / "seed0"
    assert "beta: 0.02\n" in (folder / "high_beta_stage1" / "config.yaml").read_text()
    assert "latent_dim: 3\n" in (folder / "small_latents_stage2" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--variants", "[half]", "field 'variants' has 'half'; expected some of full, one_stage"),
        ("--other", "emotion", "field 'other' is 'emotion'; expected one of the run's labels speaker"),
    ],
)
def test_what_there_is_not_is_refused(tmp_path: Path, flag: str, value: str, words: str) -> None:
    run = planted_run(tmp_path / "run", plant(tmp_path), {"stage1": 1, "stage2": 1, "probe": 1})
    assert words in refused("analyze", "ablations", run, flag, value)


def test_without_a_stage_2_there_is_nothing_to_leave_out(tmp_path: Path) -> None:
    run = planted_run(tmp_path / "run", plant(tmp_path), {"stage1": 1, "stage2": 1, "probe": 1}, tasks=[])
    assert "has no Stage 2" in refused("analyze", "ablations", run)
