"""A run that is killed, at any instant, ends as one that never was: the same weights, figures and batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from killed import KILLED, assert_same_run, dealt, fit, forked
from planted import ALPHABET, Planted, read_rows
from tiny_pipeline import refused

from disentangle_lightning.features import loader
from disentangle_lightning.tasks.base import read_checkpoint
from disentangle_lightning.tasks.checkpoints import AtomicCheckpointIO

EPOCHS, STEPS = 3, 9
PLAN = {"max_epochs": EPOCHS, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 2}
STAGE1 = {
    "class_path": "disentangle_lightning.tasks.stage1.Stage1VIB",
    "init_args": {"latent_dim": 4, "beta": 0.01, "learning_rate": 0.02},
}
STAGE1_RATE = {
    "class_path": STAGE1["class_path"],
    "init_args": STAGE1["init_args"] | {"schedule": "rate", "rate": 100.0},  # type: ignore[operator]
}
STAGE1_WITHIN = {
    "class_path": STAGE1["class_path"],
    "init_args": STAGE1["init_args"]  # type: ignore[operator]
    | {"schedule": "within", "distance": 0.01, "control": [2.0, 2.0, 1.0]},
}
STAGE1_HIDING = {
    "class_path": STAGE1["class_path"],
    "init_args": STAGE1["init_args"] | {"hide": ["speaker", "emotion"]},  # type: ignore[operator]
}
INSTANTS = {
    "stage1": [
        "step 0 1",  # before there is any checkpoint
        "step 0 5",
        "pending 0",
        "logged 0 5",
        "validation 0 1",
        "between 0",
        "step 1 0",
        "half pending.ckpt 1",
        "half last.ckpt 1",
        "validation 2 0",
        "half best.ckpt 2",
        "test 2",
        "results",
    ],
    "stage1_rate": ["step 0 5", "validation 1 1", "half last.ckpt 1"],
    "stage1_within": ["step 0 5", "validation 1 1", "between 1", "half last.ckpt 1", "step 2 4"],
    "stage1_hiding": ["step 0 5", "validation 1 1"],
    "stage2": ["step 0 4", "validation 0 1", "step 2 8", "test 0"],
    "probe": ["step 0 4", "validation 1 1", "half last.ckpt 1", "results"],
}


@pytest.fixture
def config(planted: Planted, stage1_checkpoint: str, tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments of `fit` for a kind of module; keywords replace settings of the data."""

    def write(kind: str, checkpoint: dict[str, Any] | None = None, **data: Any) -> list[str]:
        model = {
            "stage1": STAGE1,
            "stage1_rate": STAGE1_RATE,
            "stage1_within": STAGE1_WITHIN,
            "stage1_hiding": STAGE1_HIDING,
            "stage2": {
                "class_path": "disentangle_lightning.tasks.stage2.Stage2ConditionalVIB",
                "init_args": {"task": "emotion", "stage1": stage1_checkpoint, "latent_dim": 4},
            },
            "probe": {
                "class_path": "disentangle_lightning.tasks.probe.Probe",
                "init_args": {"targets": ["ctc", "emotion", "speaker"], "learning_rate": 0.05},
            },
        }[kind]
        settings = {
            "model": model,
            "data": {
                "manifest": planted.manifest,
                "store": planted.store,
                "labels": ["emotion", "speaker"],
                "max_utterances": 4,
                "alphabet": ALPHABET,
            }
            | data,
            "trainer": PLAN,
            "checkpoint": {"last_every_steps": 3, "last_every_minutes": None} | (checkpoint or {}),
        }
        if kind != "probe":
            settings["checkpoint"] |= {"monitor": "dev/objective"}
        file = tmp_path / "settings.yaml"
        file.write_text(yaml.safe_dump(settings))
        return ["--config", str(file)]

    return write


@pytest.mark.parametrize("kind", INSTANTS)
def test_a_run_killed_again_and_again_ends_as_one_that_never_was(
    config: Callable[..., list[str]], tmp_path: Path, kind: str
) -> None:
    whole, cut, log = tmp_path / "whole", tmp_path / "cut", tmp_path / "log"
    arguments = config(kind, num_workers=2 if kind == "stage2" else 0)
    in_whole, in_cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert forked(lambda: fit([*arguments, "--run_dir", str(whole)], in_whole), log) == 0, log.read_text()
    for instant in INSTANTS[kind]:
        status = forked(lambda instant=instant: fit([*arguments, "--run_dir", str(cut)], in_cut, instant), log)
        assert status == KILLED, f"{instant}: {log.read_text()}"
    assert forked(lambda: fit([*arguments, "--run_dir", str(cut)], in_cut), log) == 0, log.read_text()
    assert dealt(in_cut) == dealt(in_whole)
    assert len(dealt(in_whole)) == EPOCHS * STEPS
    assert_same_run(whole, cut)
    again = len(in_cut.read_text().splitlines()) - EPOCHS * STEPS
    assert again <= 3 * len(INSTANTS[kind]), "a kill costs three steps at most"


def test_a_run_directory_that_was_moved_keeps_its_best_epoch(config: Callable[..., list[str]], tmp_path: Path) -> None:
    run, moved, log, batches = tmp_path / "run", tmp_path / "moved", tmp_path / "log", tmp_path / "batches"
    arguments = config("stage1", {"mode": "max"})  # the first epoch is the worst, so it stays on top
    assert forked(lambda: fit([*arguments, "--run_dir", str(run)], batches, "step 2 1"), log) == KILLED, log.read_text()
    run.rename(moved)
    assert forked(lambda: fit([*arguments, "--run_dir", str(moved)], batches), log) == 0, log.read_text()
    objectives = [float(row["dev/objective"]) for row in read_rows(moved / "metrics.csv") if row["dev/objective"]]
    assert objectives[0] == max(objectives)
    assert read_checkpoint(moved / "checkpoints" / "best.ckpt")["epoch"] == 0
    assert not run.exists()


def test_the_last_checkpoint_is_of_the_last_epoch_though_another_was_the_best(
    config: Callable[..., list[str]], tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    arguments = config("stage1", {"mode": "max"})  # the first epoch is the worst, so it stays on top
    assert forked(lambda: fit([*arguments, "--run_dir", str(run)], tmp_path / "batches"), log) == 0, log.read_text()
    assert read_checkpoint(run / "checkpoints" / "best.ckpt")["global_step"] == STEPS
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == EPOCHS * STEPS


def test_a_checkpoint_is_made_after_so_many_minutes(config: Callable[..., list[str]], tmp_path: Path) -> None:
    run, log, batches = tmp_path / "run", tmp_path / "log", tmp_path / "batches"
    arguments = config("stage1", {"last_every_minutes": 1e-6, "last_every_steps": None})
    assert forked(lambda: fit([*arguments, "--run_dir", str(run)], batches, "step 0 6"), log) == KILLED, log.read_text()
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 6, "the clock was looked at each step"


@pytest.mark.parametrize("instant", ["step 1 5", None])
def test_a_checkpoint_does_not_go_on_under_another_plan(
    config: Callable[..., list[str]], tmp_path: Path, instant: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    arguments = config("stage1")
    status = forked(lambda: fit([*arguments, "--run_dir", str(run)], tmp_path / "batches", instant), log)
    assert status == (KILLED if instant else 0), log.read_text()
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    go_on = ["fit", *arguments, "--trainer.max_epochs", str(EPOCHS + 1)]
    elsewhere = [*go_on, "--run_dir", tmp_path / "other", "--ckpt_path", checkpoint]
    assert "under a plan with seed 0, but this run has 1;" in refused(*elsewhere, "--seed_everything", "1")
    sentence = refused(*elsewhere, "--data.max_utterances", "3", "--run_dir", str(tmp_path / "third"))
    assert "under a plan with max_utterances 4, but this run has 3;" in sentence
    assert "holds a run with seed_everything 0, not 1" in refused(*go_on, "--run_dir", run, "--seed_everything", "1")
    assert "holds a run with trainer.devices auto, not 2" in refused(*go_on, "--run_dir", run, "--trainer.devices", "2")
    with monkeypatch.context() as patch:
        patch.setattr(loader, "_world", lambda: (0, 2))
        assert "with world_size 1, but this run has 2; resume with the same world_size" in refused(
            *go_on, "--run_dir", run
        )


def test_a_checkpoint_that_a_full_disk_does_not_take_is_named_and_the_old_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    file.write_bytes(b"old")
    file.with_name("last.ckpt.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as error:
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(100_000)}, file)
    assert error.value.filename == str(file)
    assert file.read_bytes() == b"old"
