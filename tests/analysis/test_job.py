"""Analyses are made once, of finished runs alone, and shown on the report page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_pipeline import command, finished_run, refused

from disentangle_lightning.analysis import information
from disentangle_lightning.analysis.trained_run import DoesNotApply, TrainedRun
from disentangle_lightning.report.analysis_result import AnalysisResult, read_result, write_result
from disentangle_lightning.report.figures import Drawing
from disentangle_lightning.report.tables import Cell, Table


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A finished run of its own."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run(tmp_path_factory), folder, symlinks=True)
    return folder


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = Table("a table", "what it says", ["row", "value"], [("first", [Cell("1", "[0, 2]", emphasis=True)])])
    result = AnalysisResult(
        "A title", "A question.", {"x.y": 1.0, "x.y.ci_low": 0.5}, [table], [Drawing("<svg/>", "c")], ["n"], {"f": "w"}
    )
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result
    assert result.measurements["x.y"].ci_low == 0.5
    assert list(result.measurements) == ["x.y"]


def test_an_analysis_stands_on_the_report_page_with_its_figures(run: Path) -> None:
    status, errors = command("analyze", "information", run)
    assert status == 0, errors
    result = read_result(run / "analysis" / "information")
    page = (run / "report.html").read_text()
    assert f'<section id="analysis-information">\n<h2>{result.title}</h2>' in page
    assert all(name in page for name in result.measurements)


def test_an_analysis_is_made_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("analyze", "information", run)[0] == 0
    monkeypatch.setattr(information, "analyze", None)  # not to be called again
    status, errors = command("analyze", "information", run)
    assert status == 0
    assert "information: done before" in errors


def test_one_that_was_interrupted_is_made_when_asked_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> AnalysisResult:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(information, "analyze", interrupted)
        assert command("analyze", "information", run)[0] == 130
    assert not (run / "analysis" / "information" / "result.json").exists()
    assert command("analyze", "information", run)[0] == 0
    assert (run / "analysis" / "information" / "result.json").exists()


def test_other_settings_are_refused_where_there_is_a_result(run: Path) -> None:
    assert command("analyze", "information", run)[0] == 0
    said = refused("analyze", "information", run, "--permutations", "7")
    assert "with permutations 200, not 7; delete it to make it anew" in said
    assert command("analyze", "information", run)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "there is no analysis 'nothing'; expected all or one of"),
        (["information", "--permutation", "7"], "'permutation'"),
        (["information", "--permutations", "many"], "permutations"),
        (["all", "--permutations", "7"], "permutations"),
    ],
)
def test_wrong_arguments_are_named(run: Path, arguments: list[str], words: str) -> None:
    assert words in refused("analyze", arguments[0], run, *arguments[1:])


def test_a_run_that_is_not_finished_is_named(run: Path, tmp_path: Path) -> None:
    (run / "seed0" / "stage2_emotion" / "summary.json").unlink()
    assert "stage2_emotion/summary.json does not exist, so the run is not finished" in refused(
        "analyze", "information", run
    )
    assert "has no config.yaml" in refused("analyze", "information", tmp_path)


def test_of_all_those_that_do_not_apply_are_left_out_and_listed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> AnalysisResult:
        raise DoesNotApply("the run has no Stage 2")

    monkeypatch.setattr("disentangle_lightning.analysis.job.ANALYSES", {"information": information.InformationSettings})
    monkeypatch.setattr(information, "analyze", nothing)
    assert "the run has no Stage 2" in refused("analyze", "information", run)
    status, errors = command("analyze", "all", run)
    assert status == 0
    assert "information: left out: the run has no Stage 2" in errors


def test_latents_are_those_of_the_stages_in_the_order_of_the_split(run: Path) -> None:
    trained = TrainedRun(run)
    latents = trained.latents(0, "test")
    tested = {u.id: u for u in trained.utterances.values() if u.split == "test"}
    assert sorted(latents.ids) == sorted(tested)
    for i, id in enumerate(latents.ids):
        assert latents.label_names["emotion"][latents.labels["emotion"][i]] == tested[id].label("emotion")
    stage1 = trained.stage1(0)
    rate = float(latents.kl["textual"].sum(1).mean())
    summary = json.loads((run / "seed0" / "stage1" / "summary.json").read_text())
    assert rate == pytest.approx(summary["stage1.kl_nats_per_frame"], rel=1e-4)
    assert not stage1.training
    assert latents.means("acoustic_emotion").shape == (len(tested), 4)


def test_a_share_of_epochs_is_rounded_up(run: Path) -> None:
    trained = TrainedRun(run)
    trained.settings.stage2.set["trainer"]["max_epochs"] = 5
    trained.settings.probe.set["trainer"]["max_epochs"] = 100
    assert [trained.epochs("stage2", share) for share in (0.001, 0.2, 0.25, 1)] == [1, 1, 2, 5]
    assert trained.epochs("probe", 0.07) == 7


def test_a_further_training_has_the_settings_of_the_run_and_is_done_once(run: Path, tmp_path: Path) -> None:
    trained = TrainedRun(run)
    best, figures = trained.fit(tmp_path / "again", 0, "stage1")
    summary = json.loads((run / "seed0" / "stage1" / "summary.json").read_text())
    assert figures == summary
    written = best.stat().st_mtime_ns
    trained.fit(tmp_path / "again", 0, "stage1")
    assert best.stat().st_mtime_ns == written
