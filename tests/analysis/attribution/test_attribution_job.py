"""`analyze attribution` on a finished run: every figure, the page, the boundaries, and the stages' own attention."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from tiny_pipeline import command, finished_run, refused

from disentangle_lightning.analysis.attribution.clips import frames_of
from disentangle_lightning.analysis.attribution.explanation import METHODS, explain
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.report.analysis_result import read_result

QUICK = ["--waveform_steps", "10", "--random_orders", "3", "--shown", "2"]


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A finished run of its own, beside the corpus that its manifest names."""
    finished = finished_run(tmp_path_factory)
    (tmp_path / "corpus").symlink_to(finished.parent / "corpus")
    return Path(shutil.copytree(finished, tmp_path / "run", symlinks=True))


def second_seed(run: Path) -> None:
    """Make the run's seed its second one, too."""
    shutil.copytree(run / "seed0", run / "seed1")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"seeds": [0, 1]}))


def test_every_figure_is_there_and_the_page_can_be_listened_to(run: Path) -> None:
    second_seed(run)
    status, errors = command("analyze", "attribution", run, *QUICK)
    assert status == 0, errors
    folder = run / "analysis" / "attribution"
    result = read_result(folder)
    found = result.measurements
    measures = ("deletion", "insertion", "comprehensiveness", "sufficiency")
    wanted = [f"{m}.{measure}" for m in [*METHODS, "random"] for measure in measures]
    wanted += [f"{m}.{gain}_gain" for m in METHODS for gain in ("deletion", "insertion")]
    wanted += [f"{m}.{what}" for m in METHODS for what in ("intensity", "between_seeds")]
    wanted += ["attention_textual_over_ig.deletion", "log_odds", "ig_textual.evidence", "waveform.ig"]
    assert {f"attribution.emotion.{name}" for name in wanted} <= found.keys()
    # The same training twice: where its rank correlation is not 1, different things were compared.
    assert found["attribution.emotion.ig.between_seeds"].value == pytest.approx(1)
    assert any("The 2 seeds agree on the class (emotion) of 100.0%" in note for note in result.notes)
    assert found["attribution.emotion.ig.completeness_error"].value < 0.01
    assert found["attribution.emotion.waveform.completeness_error"].value < 0.2
    tested = [u for u in TrainedRun(run).utterances.values() if u.split == "test"]
    aligned, infeasible = (found[f"attribution.alignment.{kind}"].value for kind in ("aligned", "infeasible"))
    assert aligned + infeasible == len(tested)
    assert (folder / "listen.html").read_text().count("<audio") == 2
    assert '<a href="analysis/attribution/listen.html">' in (run / "report.html").read_text()
    boundaries = json.loads((folder / "boundaries.json").read_text())
    assert sum(found is None for found in boundaries.values()) == infeasible
    for utterance in tested:
        if boundaries[utterance.id]:
            words = [text for text, *_ in boundaries[utterance.id]["words"]]
            assert " ".join(words) == utterance.transcription


def test_the_attention_that_is_explained_is_what_the_stage_says_of_its_batches(run: Path) -> None:
    trained = TrainedRun(run)
    stage, latents = trained.stage2(0, "emotion"), trained.latents(0, "test")
    slices = dict(zip(latents.ids, frames_of(latents), strict=True))
    for batch in trained.data().test_dataloader():
        with torch.no_grad():
            said = stage.predict_step(batch, 0)
        ends = said["lengths"].cumsum(0).tolist()
        for id, predicted, begin, end in zip(said["ids"], said["emotion"], [0, *ends], ends, strict=False):
            frames = slices[id]
            streams = (latents.frames[name][frames] for name in ("textual", "acoustic_emotion"))
            explanation = explain(stage, *streams, steps=2)
            assert stage.classes[explanation.target] == predicted
            for stream in ("textual", "acoustic"):
                attention = said["frames"][f"attention_{stream}"][begin:end].numpy()
                assert explanation.scores[f"attention_{stream}"] == pytest.approx(attention, abs=1e-5)


def test_word_scores_are_compared_or_refused_by_name(run: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    tested = [u for u in TrainedRun(run).utterances.values() if u.split == "test"]
    scores.write_text(json.dumps({tested[0].id: [1, 2, 3]}))
    said = refused("analyze", "attribution", run, "--word_scores", scores)
    assert f"scores.json: utterance '{tested[0].id}' has 3 scores, but 2 words" in said
    shutil.rmtree(run / "analysis")
    scores.write_text('{"x": 1}')
    assert "scores.json must be JSON" in refused("analyze", "attribution", run, "--word_scores", scores)
    shutil.rmtree(run / "analysis")
    assert "cannot be read" in refused("analyze", "attribution", run, "--word_scores", tmp_path / "none.json")


def test_without_the_encoder_everything_but_the_waveform_is_there(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["encode"]["encoder"] = str(run / "gone")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    status, errors = command("analyze", "attribution", run, *QUICK)
    assert status == 0, errors
    result = read_result(run / "analysis" / "attribution")
    assert "attribution.emotion.ig.deletion" in result.figures
    assert "attribution.emotion.waveform.ig" not in result.figures
    assert any("Nothing was traced back to the waveform" in note for note in result.notes)


def test_a_run_without_a_second_stage_has_nothing_to_attribute(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"tasks": []}))
    assert "the run has no Stage 2" in refused("analyze", "attribution", run)
