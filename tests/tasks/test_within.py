"""A stage that may make hardly more errors than one without a bottleneck pays for no more code than that takes."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from planted import ALPHABET, Planted, read_rows, run_fit, weights_of

from disentangle_lightning.errors import UserError
from disentangle_lightning.nn.distance_control import OPENING
from disentangle_lightning.settings import StageSettings
from disentangle_lightning.tasks.base import load_task
from disentangle_lightning.tasks.no_bottleneck import NO_BOTTLENECK, control_errors
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.tasks.stage_training import StageTraining
from disentangle_lightning.tasks.training import train

WITHIN: dict[str, Any] = {"schedule": "within", "learning_rate": 0.02}
PERFECT = [1.0, 0.5, 0.1, *[0.0] * 37]
"""The dev errors of a control that soon makes none."""


class Course(Callback):
    """The logged figures of every dev epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def write_control(folder: Path, errors: Sequence[float], **arguments: Any) -> str:
    """What `fit` leaves of a control."""
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    model = {"init_args": {"deterministic": True} | arguments}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    with (folder / "metrics.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["step", "epoch", "train/loss", "dev/error"])
        for epoch, error in enumerate(errors):
            rows.writerow([10 * epoch, epoch, 3.0, ""])
            rows.writerow([10 * epoch, epoch, "", error])
    return str(folder)


def test_where_less_code_does_stage_1_ends_with_less_and_as_few_errors(planted: Planted, tmp_path: Path) -> None:
    """The positive control: a small fixed beta pays for more than it needs."""
    figures, courses = {}, {}
    for name, how in (
        ("fixed", {"schedule": "fixed", "beta": 1e-3}),
        ("within", {"distance": 0.02, "control": PERFECT, "beta": 0.03}),
    ):
        torch.manual_seed(0)
        data, courses[name] = planted.data(), Course()
        stage1 = Stage1VIB(data.inputs, latent_dim=6, dropout=0.0, **WITHIN | how)
        trainer = run_fit(stage1, data, tmp_path / name, 40, callbacks=[courses[name]], log_every_n_steps=1)
        trainer.test(stage1, datamodule=data, verbose=False)
        figures[name] = json.loads((tmp_path / name / "summary.json").read_text())
    assert figures["within"]["stage1.rate_bits_per_second"] < 0.7 * figures["fixed"]["stage1.rate_bits_per_second"]
    assert figures["within"]["stage1.wer"] <= figures["fixed"]["stage1.wer"] + 0.02
    course = courses["within"].epochs
    assert fmean(epoch["dev/error"] for epoch in course[-10:]) < 0.06, "one of sixteen words"
    assert course[0]["train/beta"] == pytest.approx(0.03 / OPENING)
    assert course[0]["dev/allowed_error"] == pytest.approx(0.02 + 0.6 / 10)
    assert course[-1]["dev/allowed_error"] == pytest.approx(0.02)
    best = min(course, key=lambda epoch: epoch["dev/objective"])
    assert best["dev/error"] <= 0.02
    assert best["dev/rate_bits_per_second"] <= course[-1]["dev/rate_bits_per_second"]


def test_where_the_control_cannot_be_reached_nothing_collapses_and_the_fewest_errors_are_chosen(
    planted: Planted, tmp_path: Path
) -> None:
    """The negative control: no stage transcribes as well as one that never made an error, in its first epoch."""
    torch.manual_seed(0)
    data, course = planted.data(), Course()
    stage1 = Stage1VIB(data.inputs, latent_dim=6, dropout=0.0, distance=0.0, control=[0.0] * 8, beta=0.03, **WITHIN)
    run_fit(stage1, data, tmp_path, 8, callbacks=[course], log_every_n_steps=1)
    assert all(epoch["train/beta"] == pytest.approx(0.03 / OPENING) for epoch in course.epochs)
    assert course.epochs[-1]["dev/rate_bits_per_second"] > 100
    best = min(course.epochs, key=lambda epoch: epoch["dev/objective"])
    assert best["dev/error"] == min(epoch["dev/error"] for epoch in course.epochs) > 0


@pytest.mark.parametrize("beta", [0.03, 0.3])
def test_stage_2_ends_at_the_rate_of_its_label_wherever_beta_starts(
    planted: Planted, stage1_checkpoint: str, tmp_path: Path, beta: float
) -> None:
    """Two emotions are a bit, and the utterances take about 0.6 seconds: less than 1.6 bits per second cannot do."""
    data, course = planted.data(), Course()
    torch.manual_seed(0)
    control = write_control(tmp_path / "control", PERFECT)
    settings: dict[str, Any] = {"latent_dim": 4, "dropout": 0.0, "beta": beta, "distance": 0.1, "control": control}
    stage2 = Stage2ConditionalVIB(data.inputs, "emotion", stage1_checkpoint, **WITHIN | settings)
    run_fit(stage2, data, tmp_path / "run", epochs=40, callbacks=[course], log_every_n_steps=1)
    assert all(epoch["dev/error"] == pytest.approx(1 - epoch["dev/accuracy"]) for epoch in course.epochs)
    assert fmean(epoch["dev/error"] for epoch in course.epochs[-10:]) < 0.15
    best = min(course.epochs, key=lambda epoch: epoch["dev/objective"])
    for epoch in (best, course.epochs[-1]):
        assert 1.2 < epoch["dev/rate_bits_per_second"] < 8
    loaded = load_task(tmp_path / "run" / "last.ckpt", Stage2ConditionalVIB)
    assert loaded.hparams["control"] == PERFECT, "it needs no other file"
    assert loaded.distance_control is not None
    assert torch.equal(loaded.distance_control.log_beta, weights_of(stage2)["distance_control.log_beta"])


def test_the_errors_of_a_control_are_those_of_its_dev_epochs(planted: Planted, tmp_path: Path) -> None:
    settings = {
        "model": {
            "class_path": "disentangle_lightning.tasks.stage1.Stage1VIB",
            "init_args": {"latent_dim": 4} | NO_BOTTLENECK,
        },
        "data": {"manifest": planted.manifest, "store": planted.store, "labels": [], "alphabet": ALPHABET},
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False},
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    train(["fit", "--config", str(tmp_path / "settings.yaml"), "--run_dir", str(tmp_path / "run")])
    expected = [float(row["dev/wer"]) for row in read_rows(tmp_path / "run" / "metrics.csv") if row["dev/wer"]]
    assert control_errors(tmp_path / "run") == pytest.approx(expected)
    assert len(expected) == 3


def test_a_training_without_a_named_control_trains_it_first(planted: Planted, tmp_path: Path) -> None:
    training = StageTraining(Path(planted.manifest), Path(planted.store), ALPHABET)
    model = {"class_path": "disentangle_lightning.tasks.stage1.Stage1VIB", "init_args": {"latent_dim": 4}}
    stage = StageSettings(set={"trainer": {"max_epochs": 9, "accelerator": "cpu", "enable_progress_bar": False}})
    fields = {"model": model, "model.init_args.schedule": "within", "model.init_args.distance": 0.1}
    fields |= {"trainer.max_epochs": 2}
    training.fit(tmp_path / "stage1", 3, stage, [], fields)
    names = ("stage1", "control/stage1")
    made = {name: yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in names}
    ours, control = (made[name]["model"].pop("init_args") for name in names)
    changed = {name for name in ours if ours[name] != control[name]}
    assert changed == {"deterministic", "schedule", "distance", "control"}
    assert control["deterministic"] is True
    assert ours["control"] == str(tmp_path / "control" / "stage1")
    assert {made[name]["seed_everything"] for name in made} == {3}
    assert {made[name]["trainer"]["max_epochs"] for name in made} == {2}
    assert model["init_args"] == {"latent_dim": 4}, "what it was given is as it was"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"schedule": "within"}, "schedule 'within' with distance None and no control: 'within' needs a distance"),
        ({"schedule": "within", "distance": 0.01}, "with distance 0.01 and no control"),
        ({"schedule": "within", "control": [0.1]}, "with distance None and a control"),
        (
            {"schedule": "fixed", "distance": 0.01, "control": [0.1]},
            "schedule 'fixed' with distance 0.01 and a control",
        ),
        ({"schedule": "within", "distance": -0.1, "control": [0.1]}, "distance -0.1 with beta 0.02"),
        ({"schedule": "within", "distance": 0.1, "control": [0.1], "beta": 0.0}, "beta must be above 0"),
        ({"schedule": "within", "distance": 0.1, "control": [0.1], "deterministic": True}, "deterministic true"),
        ({"schedule": "within", "distance": 0.1, "control": "nowhere"}, "control nowhere is no run directory"),
    ],
)
def test_what_cannot_be_is_refused(planted: Planted, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Stage1VIB(planted.data().inputs, **settings)


def test_a_run_that_is_no_control_is_refused(tmp_path: Path) -> None:
    bottleneck = write_control(tmp_path / "bottleneck", PERFECT, deterministic=False)
    with pytest.raises(UserError, match="was trained with a bottleneck"):
        control_errors(bottleneck)
    with pytest.raises(UserError, match="has no dev/error"):
        control_errors(write_control(tmp_path / "empty", []))


def test_nothing_is_kept_where_no_distance_is_asked_for(stage1_checkpoint: str) -> None:
    stage1 = load_task(stage1_checkpoint, Stage1VIB)
    assert stage1.distance_control is None
    assert not any("distance_control" in name for name in stage1.state_dict())
