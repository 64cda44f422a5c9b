"""`train`: run directories that explain themselves, resume where they stopped, and refuse what they are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
import yaml
from killed import assert_same_run
from planted import ALPHABET, Payload, Planted, read_rows
from safetensors.torch import load_file

from disentangle_lightning.errors import UserError
from disentangle_lightning.tasks.base import load_task, read_checkpoint
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.training import train

PLAN = {"max_epochs": 4, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 3}
FILES = {"config.yaml", "provenance.json", "checkpoints", "metrics.csv"} | {
    f"{name}.json" for name in ("summary", "transcripts", "layer_weights")
}


@pytest.fixture
def config(planted: Planted, tmp_path: Path) -> Callable[..., str]:
    """Write a Stage 1 config; keyword arguments replace whole sections."""

    def write(**sections: Any) -> str:
        content: dict[str, Any] = {
            "model": {
                "class_path": "disentangle_lightning.tasks.stage1.Stage1VIB",
                "init_args": {"latent_dim": 4, "beta": 0.01, "learning_rate": 0.02},
            },
            "data": {
                "manifest": planted.manifest,
                "store": planted.store,
                "labels": [],
                "max_utterances": 4,
                "alphabet": ALPHABET,
            },
            "trainer": PLAN,
            "checkpoint": {"monitor": "dev/objective"},
        }
        file = tmp_path / "config_given.yaml"
        file.write_text(yaml.safe_dump(content | sections))
        return str(file)

    return write


@pytest.mark.parametrize("left_out", [{}, {"checkpoint": {}}, {"checkpoint": {"monitor": "auto"}}])
def test_best_is_chosen_by_the_figure_that_the_module_names(
    config: Callable[..., str], tmp_path: Path, left_out: dict[str, Any]
) -> None:
    file = config(**left_out, trainer=PLAN | {"max_epochs": 1})
    train(["fit", "--config", file, "--run_dir", str(tmp_path / "run")])
    assert kept_by(tmp_path / "run") == ["dev/objective"]


def test_without_a_figure_best_is_the_last_epoch(config: Callable[..., str], tmp_path: Path) -> None:
    file = config(checkpoint={"monitor": None}, trainer=PLAN | {"max_epochs": 1})
    train(["fit", "--config", file, "--run_dir", str(tmp_path / "stage1")])
    assert kept_by(tmp_path / "stage1") == [None]
    probe = {"class_path": "disentangle_lightning.tasks.probe.Probe", "init_args": {"targets": ["ctc"]}}
    file = config(model=probe, checkpoint={}, trainer=PLAN | {"max_epochs": 1})
    train(["fit", "--config", file, "--run_dir", str(tmp_path / "probe")])
    assert kept_by(tmp_path / "probe") == [None]


def kept_by(run_dir: Path) -> list[str | None]:
    """By which figure best.ckpt was chosen."""
    callbacks = read_checkpoint(run_dir / "checkpoints" / "best.ckpt")["callbacks"].values()
    return [state["monitor"] for state in callbacks if "best_model_score" in state]


def test_one_seed_decides_everything_unless_a_probe_has_its_own(config: Callable[..., str], tmp_path: Path) -> None:
    def first_weights(name: str, process_seed: int, **init_args: Any) -> torch.Tensor:
        model = {
            "class_path": "disentangle_lightning.tasks.probe.Probe",
            "init_args": {"targets": ["ctc"], "learning_rate": 0.0} | init_args,
        }
        file = config(model=model, checkpoint={}, trainer=PLAN | {"max_epochs": 1})
        train(["fit", "--config", file, "--run_dir", str(tmp_path / name), "--seed_everything", str(process_seed)])
        return final_weights(tmp_path / name)["heads.ctc.classifier.weight"]

    one, other, own = first_weights("one", 1), first_weights("other", 2), first_weights("own", 2, seed=1)
    assert not torch.equal(one, other)
    assert torch.equal(one, own)


def final_weights(run_dir: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["state_dict"]
    return weights


def test_fit_leaves_a_run_directory_that_says_everything(config: Callable[..., str], tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    train(["fit", "--config", config(), "--run_dir", str(run_dir)])
    assert {file.name for file in run_dir.iterdir()} == FILES
    assert {file.name for file in (run_dir / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    summary = json.loads((run_dir / "summary.json").read_text())
    assert {"stage1.wer", "stage1.wer.ci_low", "stage1.cer", "stage1.active_dimensions"} <= summary.keys()
    assert [t["id"] for t in json.loads((run_dir / "transcripts.json").read_text())] == [
        f"test{i:02d}" for i in range(24)
    ]
    weights = json.loads((run_dir / "layer_weights.json").read_text())
    assert weights["layers"] == [1, 2]
    assert sum(weights["weights"]) == pytest.approx(1)
    rows = read_rows(run_dir / "metrics.csv")
    objectives = [float(row["dev/objective"]) for row in rows if row["dev/objective"]]
    assert len(objectives) == PLAN["max_epochs"]
    assert {"train/loss", "train/task", "train/kl_nats_per_frame", "train/beta", "dev/wer"} <= rows[0].keys()
    best = read_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    assert best["epoch"] == min(range(len(objectives)), key=objectives.__getitem__)


def test_the_config_of_a_run_is_the_same_run_again_elsewhere(config: Callable[..., str], tmp_path: Path) -> None:
    train(["fit", "--config", config(), "--run_dir", str(tmp_path / "one"), "--seed_everything", "7"])
    train(["fit", "--config", str(tmp_path / "one" / "config.yaml"), "--run_dir", str(tmp_path / "other")])
    assert_same_run(tmp_path / "one", tmp_path / "other")
    assert {file.name for file in (tmp_path / "one").iterdir()} == FILES, "the second run wrote into the first"


def test_another_seed_is_another_run(config: Callable[..., str], tmp_path: Path) -> None:
    for seed in ("0", "1"):
        train(["fit", "--config", config(), "--run_dir", str(tmp_path / seed), "--seed_everything", seed])
    weights, others = final_weights(tmp_path / "0"), final_weights(tmp_path / "1")
    assert not torch.equal(weights["ctc_head.weight"], others["ctc_head.weight"])


def test_an_interpolation_obeys_an_override_on_the_command_line(config: Callable[..., str], tmp_path: Path) -> None:
    file = config(
        model={
            "class_path": "disentangle_lightning.tasks.stage1.Stage1VIB",
            "init_args": {"latent_dim": 4, "beta": 0.01, "beta_start": "${model.init_args.beta}"},
        }
    )
    cli = train(["fit", "--config", file, "--run_dir", str(tmp_path / "run"), "--model.init_args.beta", "0.25"])
    assert (cli.model.beta, cli.model.beta_start) == (0.25, 0.25)
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]["init_args"]
    assert (saved["beta"], saved["beta_start"]) == (0.25, 0.25)


def test_a_run_directory_refuses_a_run_with_other_settings(config: Callable[..., str], tmp_path: Path) -> None:
    run_dir = str(tmp_path / "run")
    train(["fit", "--config", config(), "--run_dir", run_dir])
    for option, value in (("model.init_args.beta", "0.02"), ("seed_everything", "3"), ("data.max_utterances", "2")):
        with pytest.raises(UserError, match=rf"holds a run with {option}.* not {value}"):
            train(["fit", "--config", config(), "--run_dir", run_dir, f"--{option}", value])


def test_a_finished_run_started_again_trains_nothing(config: Callable[..., str], tmp_path: Path) -> None:
    arguments = ["fit", "--config", config(), "--run_dir", str(tmp_path / "run")]
    train(arguments)
    before = (tmp_path / "run" / "metrics.csv").read_text()
    summary = (tmp_path / "run" / "summary.json").read_text()
    train(arguments)
    assert (tmp_path / "run" / "metrics.csv").read_text() == before
    assert (tmp_path / "run" / "summary.json").read_text() == summary
    assert {file.name for file in (tmp_path / "run" / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_checkpoint_is_not_resumed_or_tested_under_other_settings(config: Callable[..., str], tmp_path: Path) -> None:
    train(["fit", "--config", config(), "--run_dir", str(tmp_path / "run")])
    checkpoint = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    other = ["--config", config(), "--run_dir", str(tmp_path / "other"), "--model.init_args.beta=0.9"]
    for subcommand in ("fit", "test"):
        with pytest.raises(UserError, match=r"trained with model.beta 0.01, but 0.9 is asked for"):
            train([subcommand, *other, "--ckpt_path", checkpoint])


def test_the_test_of_a_checkpoint_gives_the_figures_of_its_run(config: Callable[..., str], tmp_path: Path) -> None:
    train(["fit", "--config", config(), "--run_dir", str(tmp_path / "run")])
    checkpoint = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    train(["test", "--config", config(), "--run_dir", str(tmp_path / "again"), "--ckpt_path", checkpoint])
    summaries = [(tmp_path / name / "summary.json").read_text() for name in ("run", "again")]
    assert summaries[0] == summaries[1]
    (tmp_path / "run" / "summary.json").unlink()
    train(["test", "--config", config(), "--run_dir", str(tmp_path / "run"), "--ckpt_path", "best"])
    assert (tmp_path / "run" / "summary.json").read_text() == summaries[0]


def test_a_run_that_an_exception_ended_goes_on_as_if_nothing_had_happened(
    config: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(["fit", "--config", config(), "--run_dir", str(tmp_path / "whole")])
    own_step = Stage1VIB.training_step

    def failing_step(self: Stage1VIB, batch: Any, index: int) -> Any:
        if (self.trainer.current_epoch, index) == (2, 3):
            raise RuntimeError("out of memory")
        return own_step(self, batch, index)

    arguments = ["fit", "--config", config(), "--run_dir", str(tmp_path / "cut")]
    with monkeypatch.context() as patch:
        patch.setattr(Stage1VIB, "training_step", failing_step)
        with pytest.raises(RuntimeError, match="out of memory"):
            train(arguments)
    train(arguments)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_metrics_csv_that_was_cut_off_in_a_line_goes_on_whole(config: Callable[..., str], tmp_path: Path) -> None:
    arguments = ["fit", "--config", config(), "--run_dir", str(tmp_path / "run")]
    train(arguments)
    metrics = tmp_path / "run" / "metrics.csv"
    whole = metrics.read_text()
    metrics.write_text(whole[:-5])
    train(arguments)
    assert metrics.read_text() == whole


def test_a_forged_checkpoint_in_a_run_directory_is_refused_and_never_run(
    config: Callable[..., str], tmp_path: Path
) -> None:
    checkpoints, trace = tmp_path / "run" / "checkpoints", tmp_path / "trace"
    checkpoints.mkdir(parents=True)
    for name in ("best.ckpt", "last.ckpt"):
        torch.save({"state_dict": Payload(trace)}, checkpoints / name)
    for subcommand, options in (("fit", []), ("test", ["--ckpt_path", "best"]), ("test", ["--ckpt_path", "last"])):
        with pytest.raises(UserError, match="could run code"):
            train([subcommand, "--config", config(), "--run_dir", str(tmp_path / "run"), *options])
    assert not trace.exists()


@pytest.fixture
def wandb_service() -> Iterator[None]:
    """wandb reads its environment once, and serves a process until it is told to stop."""
    yield
    wandb.teardown()


@pytest.mark.usefixtures("wandb_service")
@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_weights_and_biases_logs_beside_metrics_csv_without_an_account(
    config: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"project": "tests"}}
    file = config(trainer=PLAN | {"logger": logger, "max_epochs": 2})
    train(["fit", "--config", file, "--run_dir", str(tmp_path / "run")])
    assert len(read_rows(tmp_path / "run" / "metrics.csv")) > 2
    logged = list((tmp_path / "run").rglob("run-*.wandb"))
    assert len(logged) == (1 if mode == "offline" else 0)


def test_predict_writes_one_file_per_utterance(config: Callable[..., str], planted: Planted, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    train(["fit", "--config", config(), "--run_dir", str(run_dir)])
    checkpoint = run_dir / "checkpoints" / "best.ckpt"
    train(["predict", "--config", config(), "--run_dir", str(run_dir), "--ckpt_path", str(checkpoint)])
    lines = [json.loads(line) for line in (run_dir / "predictions" / "predictions-0.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == [f"test{i:02d}" for i in range(24)]
    assert len(list((run_dir / "predictions").glob("*.safetensors"))) == 24
    transcripts = {t["id"]: t["hypothesis"] for t in json.loads((run_dir / "transcripts.json").read_text())}
    assert {line["id"]: line["transcripts"] for line in lines} == transcripts
    stage1 = load_task(checkpoint, Stage1VIB)
    batch = next(iter(planted.data([]).test_dataloader()))
    frames = load_file(run_dir / "predictions" / f"{batch.ids[0]}.safetensors")["z_textual"]
    expected = stage1.latent_encoder(batch.features).mean[batch.segments.index == 0]
    torch.testing.assert_close(frames, expected.detach())


def test_a_probe_cannot_be_asked_for_predictions(config: Callable[..., str], tmp_path: Path) -> None:
    probe = {"class_path": "disentangle_lightning.tasks.probe.Probe", "init_args": {"targets": ["ctc"]}}
    with pytest.raises(UserError, match="a probe has nothing to predict"):
        train(["predict", "--config", config(model=probe), "--run_dir", str(tmp_path / "run")])
