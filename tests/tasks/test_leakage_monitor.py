"""What the leakage monitor finds where something is planted and where nothing is, and that it changes no training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from killed import KILLED, assert_same_run, fit, forked, forked_ranks
from planted import ALPHABET, Planted, read_rows, run_fit, weights_of
from tiny_pipeline import refused

from disentangle_lightning.errors import UserError
from disentangle_lightning.tasks.base import TaskModule, load_task
from disentangle_lightning.tasks.leakage_monitor import LeakageMonitor
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

LABELS = ("emotion", "speaker", "coin")


def watched(module: TaskModule, planted: Planted, folder: Path, monitor: LeakageMonitor) -> dict[str, float]:
    """What is logged on dev of a module as it is."""
    data = planted.data(LABELS)
    trainer = run_fit(module, data, folder, epochs=0, callbacks=[monitor])
    return {name: float(value) for name, value in trainer.validate(module, data, verbose=False)[0].items()}


def untrained(planted: Planted, layer: int, **options: Any) -> Stage1VIB:
    """A Stage 1 that listens to one layer of the planted corpus: 0 says the letters, 1 emotion and speaker."""
    torch.manual_seed(0)
    return Stage1VIB(planted.data(LABELS).inputs, latent_dim=8, mixer="single", layer=layer, **options)


def test_a_planted_leak_is_found_and_a_coin_is_not(planted: Planted, tmp_path: Path) -> None:
    figures = watched(untrained(planted, 1), planted, tmp_path, LeakageMonitor(list(LABELS)))
    assert min(figures["dev/leakage_emotion"], figures["dev/leakage_speaker"]) > 0.7
    assert figures["dev/leakage_coin"] < 0.5
    figures = watched(untrained(planted, 0), planted, tmp_path, LeakageMonitor(list(LABELS)))
    assert max(figures[f"dev/leakage_{label}"] for label in LABELS) < 0.5


def test_words_are_found_where_they_are_and_not_where_they_are_not(
    planted: Planted, stage1_checkpoint: str, tmp_path: Path
) -> None:
    found = []
    for layer in (0, 1):
        torch.manual_seed(0)
        stage2 = Stage2ConditionalVIB(
            planted.data(LABELS).inputs, "emotion", stage1_checkpoint, latent_dim=8, mixer="single", layer=layer
        )
        figures = watched(stage2, planted, tmp_path, LeakageMonitor(["transcription"]))
        found.append(figures["dev/leakage_transcription"])
        assert figures["dev/tradeoff"] == pytest.approx(1 - figures["dev/accuracy"] + max(0, found[-1]), abs=1e-6)
    assert found[0] > 0.8
    assert found[1] < 0.2


def test_the_tradeoff_is_the_error_and_the_weighted_mean_of_leakage_above_chance(
    planted: Planted, stage1_checkpoint: str, tmp_path: Path
) -> None:
    stage1 = load_task(stage1_checkpoint, Stage1VIB)
    stage1.inputs["label_names"] = planted.data(LABELS).label_names
    for weight in (0.0, 3.0):
        figures = watched(stage1, planted, tmp_path, LeakageMonitor(list(LABELS), weight))
        leakages = [figures[f"dev/leakage_{label}"] for label in LABELS]
        expected = figures["dev/wer"] + weight * np.mean(np.maximum(leakages, 0))
        assert figures["dev/tradeoff"] == pytest.approx(expected, abs=1e-6)


def test_a_training_with_it_is_the_training_without_it(planted: Planted, tmp_path: Path) -> None:
    trained = []
    for callbacks in ([], [LeakageMonitor(list(LABELS))]):
        module = untrained(planted, 0)
        torch.manual_seed(5)
        run_fit(module, planted.data(LABELS), tmp_path, epochs=2, callbacks=callbacks)
        trained.append(weights_of(module))
    assert all(torch.equal(weight, trained[1][name]) for name, weight in trained[0].items())


def test_test_figures_are_of_the_test_split(planted: Planted, tmp_path: Path) -> None:
    data, module = planted.data(LABELS), untrained(planted, 1)
    trainer = run_fit(module, data, tmp_path, epochs=0, callbacks=[LeakageMonitor(list(LABELS), 2.0)])
    (logged,) = trainer.test(module, data, verbose=False)
    written = json.loads((tmp_path / "leakage.json").read_text())
    assert written["weight"] == 2.0
    assert written["test"] == {label: pytest.approx(logged[f"test/leakage_{label}"], abs=1e-6) for label in LABELS}
    assert written["test"]["emotion"] > 0.7


def test_a_training_that_has_diverged_has_no_figure(planted: Planted, tmp_path: Path) -> None:
    module = untrained(planted, 1)
    with torch.no_grad():
        for parameter in module.latent_encoder.parameters():
            parameter.fill_(torch.nan)
    figures = watched(module, planted, tmp_path, LeakageMonitor(["emotion"]))
    assert np.isnan(figures["dev/leakage_emotion"])
    assert np.isnan(figures["dev/tradeoff"])


@pytest.fixture
def config(planted: Planted, tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments of `fit` for a watched Stage 1; keywords are further settings of the trainer."""

    def write(labels: list[str] | None = None, weight: float = 1.0, **trainer: Any) -> list[str]:
        watch = {"labels": ["emotion", "speaker"] if labels is None else labels, "weight": weight}
        path = "disentangle_lightning.tasks.leakage_monitor.LeakageMonitor"
        plan = {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
        quiet = {"latent_dim": 4, "deterministic": True, "dropout": 0.0, "learning_rate": 0.005}
        settings = {
            "model": {"class_path": "disentangle_lightning.tasks.stage1.Stage1VIB", "init_args": quiet},
            "data": {
                "manifest": planted.manifest,
                "store": planted.store,
                "labels": ["emotion", "speaker"],
                "max_utterances": 1,
                "alphabet": ALPHABET,
            },
            "trainer": plan | {"callbacks": [{"class_path": path, "init_args": watch}]} | trainer,
            "checkpoint": {"monitor": "dev/tradeoff", "last_every_steps": 5, "last_every_minutes": None},
        }
        file = tmp_path / f"settings{len(list(tmp_path.glob('settings*')))}.yaml"
        file.write_text(yaml.safe_dump(settings))
        return ["--config", str(file)]

    return write


def test_a_run_that_is_killed_ends_as_one_that_never_was(config: Callable[..., list[str]], tmp_path: Path) -> None:
    whole, cut, log = tmp_path / "whole", tmp_path / "cut", tmp_path / "log"
    arguments = config()
    assert forked(lambda: fit([*arguments, "--run_dir", str(whole)], tmp_path / "one"), log) == 0, log.read_text()
    for instant in ("validation 0 3", "between 0", "step 1 7", "test 2", "results"):
        status = forked(
            lambda instant=instant: fit([*arguments, "--run_dir", str(cut)], tmp_path / "other", instant), log
        )
        assert status == KILLED, f"{instant}: {log.read_text()}"
    assert forked(lambda: fit([*arguments, "--run_dir", str(cut)], tmp_path / "other"), log) == 0, log.read_text()
    assert (whole / "leakage.json").is_file()
    assert "dev/tradeoff" in read_rows(whole / "metrics.csv")[0]
    assert_same_run(whole, cut)


def test_several_processes_find_what_one_finds(config: Callable[..., list[str]], tmp_path: Path) -> None:
    # Five processes: 24 probe and 8 dev utterances, one a batch, so that some batches are dealt twice.
    log, found = tmp_path / "log", []
    for count in (1, 5):
        run = tmp_path / str(count)
        options = {} if count == 1 else {"devices": count, "strategy": "ddp"}
        arguments = [*config(max_epochs=1, **options), "--model.init_args.learning_rate", "0", "--run_dir", str(run)]

        def work(arguments: list[str] = arguments) -> None:
            fit(arguments, tmp_path / "batches")

        assert (forked_ranks(work, count, log) if count > 1 else [forked(work, log)]) == [0] * count, log.read_text()
        (row,) = [row for row in read_rows(run / "metrics.csv") if row["dev/tradeoff"]]
        dev = {name: float(value) for name, value in row.items() if name.startswith(("dev/leakage", "dev/tradeoff"))}
        found.append(json.loads((run / "leakage.json").read_text())["test"] | dev)
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "weight", "sentence"),
    [
        ([], 1.0, "LeakageMonitor.labels is empty"),
        (["emotion"], -1.0, "LeakageMonitor.weight is -1.0"),
        (["accent"], 1.0, "has 'accent', which is not among the data's labels (emotion, speaker)"),
        (["transcription"], 1.0, "has 'transcription', which Stage1VIB is trained to keep"),
    ],
)
def test_wrong_settings_end_in_a_sentence(
    config: Callable[..., list[str]], tmp_path: Path, labels: list[str], weight: float, sentence: str
) -> None:
    assert sentence in refused("fit", *config(labels, weight), "--run_dir", tmp_path / "run")


def test_stage_2_may_keep_its_own_task(planted: Planted, stage1_checkpoint: str, tmp_path: Path) -> None:
    stage2 = Stage2ConditionalVIB(planted.data(LABELS).inputs, "emotion", stage1_checkpoint, latent_dim=8)
    with pytest.raises(UserError, match="has 'emotion', which Stage2ConditionalVIB is trained to keep"):
        watched(stage2, planted, tmp_path, LeakageMonitor(["emotion"]))


def test_a_manifest_without_the_split_is_refused(
    replant: Callable[..., Planted], tmp_path: Path, config: Callable[..., list[str]]
) -> None:
    other = replant()
    manifest = Path(other.manifest)
    manifest.write_text(manifest.read_text().replace('"split": "probe"', '"split": "train"'))
    arguments = [*config(), "--data.manifest", manifest, "--data.store", other.store, "--run_dir", tmp_path / "run"]
    assert "has no utterances in split 'probe'" in refused("fit", *arguments)
