"""The whole protocol on forty tones: every promised file, killed anywhere, started again, with one seed or two."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
import yaml
from tiny_pipeline import (
    EXPERIMENTS,
    command,
    corpus_rows,
    finished_run,
    refused,
    tone,
    write_corpus,
    write_encoder,
    write_settings,
)

from disentangle_lightning import pipeline
from disentangle_lightning.analysis import duration, latent_map
from disentangle_lightning.corpus import praat
from disentangle_lightning.corpus.manifest import read_manifest
from disentangle_lightning.encoder import DisentangledEncoder
from disentangle_lightning.features import extract
from disentangle_lightning.report import page
from disentangle_lightning.tasks.base import read_checkpoint
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

STEPS = {"stage1", "stage2_emotion", "probe_hidden", "probe_textual", "probe_acoustic_emotion"}


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of an uninterrupted run; not to be changed."""
    return finished_run(tmp_path_factory)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Lightning ignores further interrupts once it has seen one; the tests after must not inherit that."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def run_again(finished: Path, run_dir: Path, *overrides: str) -> tuple[int, str]:
    """The settings of the finished run, into another folder."""
    settings = finished.parent / "pipeline.yaml"
    return command("pipeline", "--config", settings, "--run_dir", run_dir, *overrides)


def figures_of(run_dir: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((run_dir / "summary.json").read_text())
    return content


def weights_of(step: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = read_checkpoint(step / "checkpoints" / "last.ckpt")["state_dict"]
    return weights


def times_of(folder: Path) -> dict[Path, int]:
    """When each file below a folder was last written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_a_run_leaves_every_promised_file(finished: Path) -> None:
    assert {entry.name for entry in finished.iterdir()} == {
        "config.yaml", "corpus.json", "duration.json", "features", "manifest.jsonl", "model", "provenance.json",
        "report.html", "seed0", "summary.json",
    }  # fmt: skip
    assert {entry.name for entry in (finished / "seed0").iterdir()} == STEPS | {"latent_map.json"}
    for step in STEPS:
        written = {entry.name for entry in (finished / "seed0" / step).iterdir()}
        assert {"config.yaml", "checkpoints", "metrics.csv", "summary.json", "provenance.json"} <= written
    assert not list(finished.rglob("*.tmp"))


def test_every_figure_has_a_name_that_the_readme_documents(finished: Path) -> None:
    table = (EXPERIMENTS / "README.md").read_text().partition("## Names in summary.json")[2]
    documented = set()
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        names = re.findall(r"`(.+?)`", row)
        whole = [name for name in names if not name.startswith(".")]
        documented |= set(whole) | {whole[0].rpartition(".")[0] + name for name in names if name.startswith(".")}
    undocumented = set()
    for name in figures_of(finished):
        general = name.removesuffix(".ci_low").removesuffix(".ci_high")
        general = re.sub(r"^probe\.duration\.(emotion|speaker)\..*", "probe.duration.LABEL.*", general)
        general = re.sub(r"^probe\.(hidden|textual|acoustic_emotion)\.", "probe.REP.", general)
        general = re.sub(r"^(probe\.REP)\.(emotion|speaker)\.", r"\1.LABEL.", general)
        general = general.replace("stage2_emotion", "stage2_TASK")
        if general not in documented:
            undocumented.add(name)
    assert not undocumented


def test_every_representation_is_probed_for_every_label_and_for_transcription(finished: Path) -> None:
    figures = figures_of(finished)
    for representation in ("hidden", "textual", "acoustic_emotion"):
        for label in ("emotion", "speaker"):
            accuracy, chance, leakage = (
                figures[f"probe.{representation}.{label}.{name}"] for name in ("accuracy", "chance", "leakage")
            )
            assert chance == 0.5, "four of eight test clips"
            assert leakage == pytest.approx((accuracy - chance) / (1 - chance))
        assert figures[f"probe.{representation}.ctc.wer"] > 0


def test_provenance_says_what_made_the_run(finished: Path) -> None:
    facts = json.loads((finished / "provenance.json").read_text())
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert facts["encoder"]["family"] == "wav2vec2"
    assert set(facts["seconds"]) == {
        "corpus", "encode", "model", "duration", "seed0/latent_map", *(f"seed0/{step}" for step in STEPS)
    }  # fmt: skip
    assert facts["started"] <= facts["finished"]
    assert facts["manifest_sha256"] == hashlib.sha256((finished / "manifest.jsonl").read_bytes()).hexdigest()
    checkout = subprocess.run(["git", "-C", EXPERIMENTS, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert (facts["git"] or "").partition("+")[0] == checkout.stdout.strip()
    page = (finished / "report.html").read_text()
    for known in (
        facts["manifest_sha256"],
        facts["git"] or "None",
        facts["versions"]["jiwer"],
        facts["encoder"]["fingerprint"],
    ):
        assert known in page
    trained = json.loads((finished / "seed0" / "stage1" / "provenance.json").read_text())
    assert {name: trained[name] for name in ("versions", "git", "machine", "manifest_sha256")} == {
        name: facts[name] for name in ("versions", "git", "machine", "manifest_sha256")
    }


def test_the_report_shows_the_figures(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    assert "probe.acoustic_emotion.speaker.leakage" in text
    assert str(finished / "config.yaml") in text, "the command that makes the run again"


def test_the_model_folder_is_the_first_seed_as_an_encoder(finished: Path) -> None:
    model = DisentangledEncoder.from_pretrained(finished / "model")
    speech = model(torch.from_numpy(tone(0.5)).float())
    assert speech.z_textual.shape == speech.z_acoustic["emotion"].shape == (24, 4)
    best = read_checkpoint(finished / "seed0" / "stage2_emotion" / "checkpoints" / "best.ckpt")["state_dict"]
    weights = model.stages.state_dict()
    assert torch.equal(
        weights["latent_encoder.bottleneck.mean_head.weight"], best["stage1.latent_encoder.bottleneck.mean_head.weight"]
    )
    assert torch.equal(weights["tasks.0.classifier.weight"], best["classifier.weight"])


def _cut_short(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def _cut_at_call(number: int, whole: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is interrupted when it is called for the n-th time."""
    calls = iter(range(1, number))

    def cut(*arguments: Any, **named: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    return cut


PLACES = {
    # The step that is interrupted there: what is interrupted, and in which call.
    "corpus": (pipeline, "write_manifest", 1),
    "encode": (extract, "_encode_batch", 3),
    "encode, listing": (pipeline.Pipeline, "_list_skipped", 1),
    "seed0/stage1": (Stage1VIB, "training_step", 3),
    "seed0/stage1, tested": (Stage1VIB, "write_results", 1),
    "seed0/stage2_emotion": (Stage2ConditionalVIB, "validation_step", 2),
    "seed0/probe_hidden": (Probe, "training_step", 1),
    "seed0/probe_textual": (Probe, "on_test_epoch_end", 1),
    "seed0/latent_map": (latent_map, "_tsne", 2),
    "model": (DisentangledEncoder, "save_pretrained", 1),
    "duration": (duration, "_predict", 2),
    "report": (page, "render", 1),
}


def test_interrupted_at_every_step_in_turn_it_ends_with_the_same_figures(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    done: list[str] = []
    for place, (owner, function, call) in PLACES.items():
        step = place.partition(",")[0]
        with monkeypatch.context() as patch:
            patch.setattr(owner, function, _cut_at_call(call, getattr(owner, function)))
            status, errors = run_again(finished, run_dir)
        assert status == 130, f"{place}: {errors}"
        assert errors.endswith("interrupted; the same command goes on where it stopped\n"), place
        for earlier in done:
            assert f"{earlier}: done before" in errors, f"{place}: {earlier} was done again"
        if step not in done and step != "report":
            assert f"{step}: done before" not in errors
        done = [line.partition(":")[0] for line in errors.splitlines() if re.search(r": (done before|[\d.]+ s)$", line)]
    status, errors = run_again(finished, run_dir)
    assert status == 0, errors
    assert (run_dir / "summary.json").read_text() == (finished / "summary.json").read_text()
    assert (run_dir / "seed0" / "latent_map.json").read_text() == (finished / "seed0" / "latent_map.json").read_text()
    assert json.loads((run_dir / "provenance.json").read_text())["seconds"].keys() == (
        json.loads((finished / "provenance.json").read_text())["seconds"].keys()
    ), "the times of the steps that an interrupted run finished are kept"
    assert not list(run_dir.rglob("*.tmp"))


@pytest.mark.slow
def test_a_killed_process_goes_on_as_if_nothing_had_happened(finished: Path, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\n"
        "import torch; torch.set_num_threads(1)\n"
        "from disentangle_lightning import cli\n"
        "from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB\n"
        "own_step = Stage2ConditionalVIB.training_step\n"
        "def killed_step(self, batch, index):\n"
        "    if self.trainer.current_epoch == 1:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return own_step(self, batch, index)\n"
        "Stage2ConditionalVIB.training_step = killed_step\n"
        "cli.main(sys.argv[1:])\n"
    )
    arguments = ["--config", str(finished.parent / "pipeline.yaml"), "--run_dir", str(tmp_path / "run")]
    killed = subprocess.run([sys.executable, str(script), "pipeline", *arguments], capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    before = times_of(tmp_path / "run" / "seed0" / "stage1") | times_of(tmp_path / "run" / "features")
    status, errors = command("pipeline", *arguments)
    assert status == 0, errors
    assert times_of(tmp_path / "run" / "seed0" / "stage1") | times_of(tmp_path / "run" / "features") == before
    assert (tmp_path / "run" / "summary.json").read_text() == (finished / "summary.json").read_text()


def test_a_finished_run_started_again_does_no_step_again(finished: Path, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(finished, finished.parent / tmp_path.name))
    steps = times_of(run_dir / "seed0") | times_of(run_dir / "features") | times_of(run_dir / "model")
    summary, provenance = (run_dir / "summary.json").read_text(), (run_dir / "provenance.json").read_text()
    status, errors = run_again(finished, run_dir)
    assert status == 0, errors
    assert times_of(run_dir / "seed0") | times_of(run_dir / "features") | times_of(run_dir / "model") == steps
    assert (run_dir / "summary.json").read_text() == summary
    assert (run_dir / "provenance.json").read_text() == provenance


def test_a_second_seed_is_added_to_a_finished_run(finished: Path, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(finished, finished.parent / tmp_path.name))
    first = times_of(run_dir / "seed0") | times_of(run_dir / "features")
    status, errors = run_again(finished, run_dir, "--seeds", "[0, 1]")
    assert status == 0, errors
    assert times_of(run_dir / "seed0") | times_of(run_dir / "features") == first

    figures, alone = figures_of(run_dir), figures_of(finished)
    other = {n: v for f in (run_dir / "seed1").glob("*/summary.json") for n, v in json.loads(f.read_text()).items()}
    for name in ("stage1.cer", "stage2_emotion.rate_bits_per_second", "probe.textual.ctc.cer"):
        pair = [alone[name], other[name]]
        assert figures[name] == pytest.approx(fmean(pair))
        assert figures[f"{name}.std"] == pytest.approx(stdev(pair))
    assert not [name for name in figures if re.search(r"\.ci_(low|high)\.std$|duration.*\.std$", name)]

    for step, weight in (
        ("stage1", "ctc_head.weight"),
        ("stage2_emotion", "latent_encoder.bottleneck.mean_head.weight"),
        ("probe_hidden", "heads.emotion.classifier.weight"),
    ):
        one, two = (weights_of(run_dir / seed / step)[weight] for seed in ("seed0", "seed1"))
        assert (one - two).abs().mean() > 0.05, f"{step} starts from the same weights for every seed"

    error = refused("pipeline", "--config", finished.parent / "pipeline.yaml", "--run_dir", run_dir, "--seeds", "[1]")
    assert "seed0, which field 'seeds' [1] leaves out" in error


def test_the_config_of_a_run_makes_the_same_run_elsewhere_with_one_flag(finished: Path, tmp_path: Path) -> None:
    status, errors = command("pipeline", "--config", finished / "config.yaml", "--run_dir", tmp_path / "again")
    assert status == 0, errors
    assert (tmp_path / "again" / "summary.json").read_text() == (finished / "summary.json").read_text()
    before, now = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (finished, tmp_path / "again"))
    assert now == before | {"run_dir": str(tmp_path / "again")}


def test_the_config_of_a_step_is_what_fit_takes(finished: Path, tmp_path: Path) -> None:
    step = finished / "seed0" / "stage2_emotion"
    status, errors = command("fit", "--config", step / "config.yaml", "--run_dir", tmp_path / "alone")
    assert status == 0, errors
    assert (tmp_path / "alone" / "summary.json").read_text() == (step / "summary.json").read_text()


def test_an_override_of_a_stage_is_obeyed(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage2ConditionalVIB, "training_step", _cut_short)
    overrides = ["--stage1.set.trainer.max_epochs", "1", "--stage1.set.model.init_args.beta=0.5"]
    status, errors = run_again(finished, tmp_path / "run", *overrides)
    assert status == 130, errors
    stage1 = tmp_path / "run" / "seed0" / "stage1"
    config = yaml.safe_load((stage1 / "config.yaml").read_text())
    assert (config["trainer"]["max_epochs"], config["model"]["init_args"]["beta"]) == (1, 0.5)
    with (stage1 / "metrics.csv").open(newline="") as rows:
        assert {row["epoch"] for row in csv.DictReader(rows)} <= {"0", "1"}
    assert read_checkpoint(stage1 / "checkpoints" / "last.ckpt")["hyper_parameters"]["beta"] == 0.5


@pytest.mark.parametrize(
    ("override", "named"),
    [
        (["--stage1.set.model.init_args.beta", "0.5"], "stage1.set.model.init_args.beta "),
        (["--probe.set.trainer.max_epochs", "9"], "probe.set.trainer.max_epochs 2, not 9"),
        (["--splits.seed", "3"], "splits.seed 0, not 3"),
        (["--encode.dtype", "float32"], "encode.dtype float16, not float32"),
        (["--labels", "[speaker, gender]"], "labels ['speaker'], not ['speaker', 'gender']"),
        (["--quartiles", "[speaker]"], "quartiles [], not ['speaker']"),
        (["--alphabet", "AB"], "alphabet None, not AB"),
        (["--corpus.init_args.folder", "/elsewhere"], "corpus.init_args.folder"),
    ],
)
def test_other_settings_in_the_same_run_directory_are_refused_by_name(
    finished: Path, override: list[str], named: str
) -> None:
    before = times_of(finished)
    error = refused("pipeline", "--config", finished.parent / "pipeline.yaml", *override)
    assert f"run_dir {finished} holds a run with {named}" in error
    assert times_of(finished) == before


def test_a_setting_that_stopped_a_run_can_be_mended_in_the_same_run_directory(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.Pipeline, "_seed", _cut_short)
    for typo in (["--corpus.init_args.folder", "/no/corpus"], ["--encode.encoder", "/no/encoder"]):
        refused("pipeline", "--config", finished.parent / "pipeline.yaml", "--run_dir", tmp_path / "run", *typo)
    status, errors = run_again(finished, tmp_path / "run")
    assert status == 130, errors
    assert "corpus: done before" in errors
    assert (tmp_path / "run" / "features" / "complete.json").is_file()


def test_synthetic_speech_goes_through_with_the_embedded_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stage2ConditionalVIB, "training_step", _cut_short)
    file = write_settings(
        tmp_path,
        corpus={
            "class_path": "SyntheticSpeech",
            "init_args": {"folder": str(tmp_path / "speech"), "sentences": 10, "speakers": 2, "styles_per_sentence": 2},
        },
        splits={"disjoint": "sentence", "fractions": {"train": 0.4, "probe": 0.2, "dev": 0.2, "test": 0.2}},
        encode={"encoder": "embedded", "device": "cpu", "layers": [3, 5]},
        tasks=["speaker"],
        labels=["style"],
    )
    status, errors = command("pipeline", "--config", file)
    assert status == 130, errors
    corpus = json.loads((tmp_path / "run" / "corpus.json").read_text())
    assert {split: facts["utterances"] for split, facts in corpus["splits"].items()} == {
        "train": 16, "probe": 8, "dev": 8, "test": 8
    }  # fmt: skip
    weights = json.loads((tmp_path / "run" / "seed0" / "stage1" / "layer_weights.json").read_text())
    assert weights["layers"] == [3, 5]
    assert "stage1.wer" in json.loads((tmp_path / "run" / "seed0" / "stage1" / "summary.json").read_text())


def test_an_encoder_that_changed_under_its_name_is_not_mixed_with_the_features_of_the_old_one(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    overrides = ["--encode.encoder", str(encoder)]
    with monkeypatch.context() as patch:
        patch.setattr(extract, "_encode_batch", _cut_at_call(3, extract._encode_batch))
        assert run_again(finished, tmp_path / "run", *overrides)[0] == 130
    write_encoder(tmp_path / "encoder", seed=1)
    settings = finished.parent / "pipeline.yaml"
    error = refused("pipeline", "--config", settings, "--run_dir", tmp_path / "run", *overrides)
    assert "was made with encoder fingerprint" in error
    assert os.listdir(tmp_path / "run" / "features")


def test_stages_that_stay_within_a_distance_train_their_controls_first(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run", symlinks=True))
    shutil.rmtree(run / "seed0")
    asked = {"schedule": "within", "distance": "0.5"}
    overrides = [
        part
        for stage in ("stage1", "stage2")
        for field, value in asked.items()
        for part in (f"--{stage}.set.model.init_args.{field}", value)
    ]
    status, errors = run_again(finished, run, *overrides)
    assert status == 0, errors
    figures = figures_of(run)
    assert figures["control.stage1.rate_bits_per_second"] == 0 < figures["stage1.rate_bits_per_second"]
    assert figures["control.stage2_emotion.rate_bits_per_second"] == 0 < figures["stage2_emotion.rate_bits_per_second"]
    before = times_of(run / "seed0")
    shutil.rmtree(run / "seed0" / "stage2_emotion")
    assert run_again(finished, run, *overrides)[0] == 0
    assert {file: before[file] for file in times_of(run / "seed0" / "control")} == times_of(run / "seed0" / "control")
    assert "holds a run with stage1" in refused(
        "pipeline", "--config", finished.parent / "pipeline.yaml", "--run_dir", run, *overrides[:3], "0.4"
    )


@pytest.fixture
def origin(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, whose Stage 1 other runs are given."""
    return Path(shutil.copytree(finished, tmp_path / "origin"))


def given(origin: Path) -> list[str]:
    return ["--stage1.checkpoint", f"{origin}/seed{{seed}}/stage1/checkpoints/best.ckpt"]


def test_a_stage_1_that_is_given_is_tested_on_another_corpus_and_all_else_made_with_it(
    finished: Path, origin: Path, tmp_path: Path
) -> None:
    rows = [row | {"file_name": f"new{i}.wav", "transcription": "TWO TWO"} for i, row in enumerate(corpus_rows())]
    overrides = [*given(origin), "--corpus.init_args.folder", str(write_corpus(tmp_path / "new", rows))]
    status, errors = run_again(finished, tmp_path / "run", *overrides)
    assert status == 0, errors
    stage1 = tmp_path / "run" / "seed0" / "stage1"
    best = origin / "seed0" / "stage1" / "checkpoints" / "best.ckpt"
    assert (stage1 / "checkpoints" / "best.ckpt").read_bytes() == best.read_bytes()
    assert not (stage1 / "metrics.csv").exists(), "it was trained again"

    figures, there = figures_of(tmp_path / "run"), figures_of(finished)
    assert figures["stage1.training_corpus.wer"] == there["stage1.wer"]
    assert figures["stage1.training_corpus.rate_bits_per_second"] == there["stage1.rate_bits_per_second"]
    assert figures["stage1.wer"] > 0
    transcripts = json.loads((stage1 / "transcripts.json").read_text())
    assert {t["reference"] for t in transcripts} == {"TWO TWO"}, "the test is of this corpus"
    stage2 = weights_of(tmp_path / "run" / "seed0" / "stage2_emotion")
    name = "latent_encoder.bottleneck.mean_head.weight"
    assert torch.equal(stage2[f"stage1.{name}"], read_checkpoint(best)["state_dict"][name])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Stage 1 was trained elsewhere and only tested here" in page
    assert "This run is not complete" not in page

    shutil.rmtree(origin)
    status, errors = run_again(finished, tmp_path / "run", *overrides)
    assert status == 0, errors
    assert "seed0/stage1: done before" in errors, "the run has what it needs"


def test_a_given_stage_1_needs_no_transcriptions(finished: Path, origin: Path, tmp_path: Path) -> None:
    rows = [row | {"file_name": f"new{i}.wav"} for i, row in enumerate(corpus_rows())]
    for row in rows:
        del row["transcription"]
    folder = ["--corpus.init_args.folder", str(write_corpus(tmp_path / "new", rows))]
    status, errors = run_again(finished, tmp_path / "run", *given(origin), *folder)
    assert status == 0, errors
    figures = figures_of(tmp_path / "run")
    assert "stage1.rate_bits_per_second" in figures
    assert "probe.textual.speaker.leakage" in figures
    assert not [name for name in figures if name.endswith(("wer", "ctc.cer")) and "training_corpus" not in name]


def test_a_given_stage_1_must_not_have_heard_what_is_tested(finished: Path, origin: Path, tmp_path: Path) -> None:
    settings = finished.parent / "pipeline.yaml"
    arguments = ["--config", settings, "--run_dir", tmp_path / "run", *given(origin)]
    error = refused("pipeline", *arguments, "--splits.seed", "5")
    assert re.search(r"best.ckpt was trained on utterance '\d\d', which is of split '(probe|dev|test)' here", error)
    assert not (tmp_path / "run" / "features").exists()
    corpus = {"class_path": "ManifestFile", "init_args": {"path": str(finished / "manifest.jsonl")}}
    (tmp_path / "corpus.yaml").write_text(yaml.safe_dump(corpus))
    status, errors = command("pipeline", *arguments, "--corpus", tmp_path / "corpus.yaml", "--tasks", "[]")
    assert status == 0, errors
    assert figures_of(tmp_path / "run")["stage1.wer"] == figures_of(finished)["stage1.wer"]


def test_a_given_stage_1_of_other_features_or_letters_is_refused_before_anything_is_encoded(
    finished: Path, origin: Path, tmp_path: Path
) -> None:
    arguments = ["--config", finished.parent / "pipeline.yaml", "--run_dir", tmp_path / "run", *given(origin)]
    other = write_encoder(tmp_path / "encoder", seed=1)
    error = refused("pipeline", *arguments, "--encode.encoder", other)
    assert "Stage 1 (" in error
    assert "was trained on features of encoder" in error
    error = refused("pipeline", *arguments, "--encode.layers", "[1, 3]")
    assert "was trained on layers [1, 2, 3]; these features have layers [1, 3]" in error
    assert not (tmp_path / "run" / "features").exists()
    assert "reads the alphabet" in refused("pipeline", *arguments, "--alphabet", "AB")
    stage2 = finished / "seed0" / "stage2_emotion" / "checkpoints" / "best.ckpt"
    error = refused("pipeline", *arguments[:4], "--stage1.checkpoint", stage2)
    assert "holds a Stage2ConditionalVIB; a Stage1VIB is needed" in error


def test_stage_1_alone_on_one_layer_of_a_store_that_runs_share(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode_nothing(*_: Any, **__: Any) -> Any:
        raise AssertionError("features that are there were made again")

    shutil.copytree(finished / "features", tmp_path / "store")
    monkeypatch.setattr(extract, "_encode_batch", encode_nothing)
    run_dir = finished.parent / tmp_path.name  # beside the first run: audio is found from there by the same path
    one_layer = [part for name in ("stage1", "probe") for part in (f"--{name}.set.data.layers", "[2]")]
    store = ["--encode.store", str(tmp_path / "store"), "--tasks", "[]", "--labels", "[speaker]"]
    status, errors = run_again(finished, run_dir, *store, *one_layer)
    assert status == 0, errors
    assert (run_dir / "features").resolve() == tmp_path / "store"
    assert not list((run_dir / "seed0").glob("stage2*"))
    figures = figures_of(run_dir)
    assert {name.split(".")[1] for name in figures if name.startswith("probe.")} == {"hidden", "textual", "duration"}
    weights = json.loads((run_dir / "seed0" / "stage1" / "layer_weights.json").read_text())
    assert weights == {"layers": [2], "weights": [1.0]}
    speech = DisentangledEncoder.from_pretrained(run_dir / "model")(torch.from_numpy(tone(0.5)).float())
    assert (speech.z_textual.shape, speech.z_acoustic) == ((24, 4), {})
    page = (run_dir / "report.html").read_text()
    assert "This run is not complete" not in page

    settings = finished.parent / "pipeline.yaml"
    other = ["--run_dir", finished.parent / f"{tmp_path.name}_other", "--encode.dtype", "float32"]
    error = refused("pipeline", "--config", settings, *store, *other)
    assert f"feature store {tmp_path / 'store'} was made with dtype float16, but this run has float32" in error


def test_pitch_and_a_column_of_numbers_are_learnt_in_quartiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tones of 200 Hz (speaker s0) and 300 Hz (s1), by people of forty ages."""
    rows = [row | {"age": f"{20 + i}.5"} for i, row in enumerate(corpus_rows())]
    write_corpus(tmp_path / "corpus", rows)
    write_encoder(tmp_path / "encoder")
    what = {"tasks": ["pitch"], "labels": ["age", "speaker"], "quartiles": ["pitch", "age"]}
    settings = write_settings(tmp_path, **what)
    status, errors = command("pipeline", "--config", settings)
    assert status == 0, errors
    run = tmp_path / "run"

    facts = json.loads((run / "corpus.json").read_text())
    labelled = read_manifest(run / "manifest.jsonl")
    trained = sorted(float(u.id) + 20.5 for u in labelled if u.split == "train")
    assert facts["quartiles"]["age"] == {"of": "the label age", "edges": trained[3:12:4]}  # 16 clips train
    assert {u.speaker for u in labelled if u.label("pitch") == "q1"} == {"s0"}
    assert len(facts["labels"]["pitch"]) == 1 + len(facts["quartiles"]["pitch"]["edges"])
    assert {"stage2_pitch.accuracy", "probe.textual.age.leakage"} <= figures_of(run).keys()
    page = (run / "report.html").read_text()
    assert "Quartiles of mean pitch (Hz), cut on train" in page
    assert f"q1 {trained[3]:.4g}, q2 {trained[7]:.4g}, q3 {trained[11]:.4g}." in page

    monkeypatch.setattr(praat, "measure", None)
    status, errors = command("pipeline", "--config", settings)
    assert status == 0, errors
    error = refused("pipeline", "--config", settings, "--quartiles", "[pitch]")
    assert "holds a run with quartiles ['pitch', 'age'], not ['pitch']" in error
    # Stopped before the splits were made, it does not measure again what it has.
    again = ["--run_dir", run.with_name("again"), "--tasks", "[pitch]", "--labels", "[]", "--quartiles", "[pitch]"]
    run.with_name("again").mkdir()
    shutil.copy(run / "praat.jsonl", run.with_name("again"))
    monkeypatch.setattr(pipeline.Pipeline, "_encode", _cut_short)
    status, errors = command("pipeline", "--config", settings, *again)
    assert status == 130, errors
    assert "corpus: " in errors


def test_speakers_that_nobody_named_cannot_be_hidden(finished: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader((finished.parent / "corpus" / "metadata.csv").open()))
    shutil.copytree(finished.parent / "corpus", tmp_path / "corpus")
    with (tmp_path / "corpus" / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "speaker"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    settings = write_settings(tmp_path, labels=[], encode={"encoder": str(finished.parent / "encoder")})
    error = refused("pipeline", "--config", settings)
    assert "Stage 1 cannot hide what it is told to: no utterance has label 'speaker'" in error
    assert "--stage1.config experiments/stage1/unlabelled.yaml" in error
    assert not (tmp_path / "run" / "manifest.jsonl").exists()


def test_a_stage_without_its_file_is_named(finished: Path, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, stage2={})
    error = refused("pipeline", "--config", settings)
    assert "field 'stage2.config' is missing; name a settings file, such as experiments/stage2/default.yaml" in error
    assert "field 'tasks' is missing" in refused("pipeline", "--config", write_settings(tmp_path, tasks=None))
