"""Several processes are one training: the same batches, losses, weights and figures, and one end for all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from killed import KILLED, alive, assert_same_run, dealt, die, fit, forked, forked_ranks
from planted import ALPHABET, Planted, read_rows
from tiny_pipeline import prepare

from disentangle_lightning import cli
from disentangle_lightning.features import loader
from disentangle_lightning.features.plan import plan_batches
from disentangle_lightning.nn.bottleneck import Posterior
from disentangle_lightning.tasks import processes
from disentangle_lightning.tasks.base import read_checkpoint
from disentangle_lightning.tasks.training import train
from disentangle_lightning.tasks.vib_stage import VIBStage

EPOCHS = 2
LEARN = {"learning_rate": 0.005, "warmup_fraction": 0.5}
# Neither noise nor dropout: each process draws its own, so only without them can the weights be the same.
QUIET = LEARN | {"latent_dim": 4, "deterministic": True, "dropout": 0.0}
MODELS: dict[str, dict[str, Any]] = {
    "stage1": {"class_path": "disentangle_lightning.tasks.stage1.Stage1VIB", "init_args": QUIET},
    "stage1_paper": {
        "class_path": "disentangle_lightning.tasks.stage1.Stage1VIB",
        "init_args": QUIET | {"units": "paper"},
    },
    "stage1_rate": {
        "class_path": "disentangle_lightning.tasks.stage1.Stage1VIB",
        "init_args": QUIET | {"deterministic": False, "schedule": "rate", "rate": 60.0, "context": 1},
    },
    "stage1_within": {
        "class_path": "disentangle_lightning.tasks.stage1.Stage1VIB",
        "init_args": QUIET
        | {"deterministic": False, "schedule": "within", "distance": 0.01, "control": [1.5, 1.0], "beta": 0.1},
    },
    "stage1_hiding": {
        "class_path": "disentangle_lightning.tasks.stage1.Stage1VIB",
        "init_args": QUIET | {"hide": ["emotion"]},
    },
    "stage2": {
        "class_path": "disentangle_lightning.tasks.stage2.Stage2ConditionalVIB",
        "init_args": QUIET | {"task": "emotion"},
    },
    "probe": {
        "class_path": "disentangle_lightning.tasks.probe.Probe",
        "init_args": LEARN | {"targets": ["ctc", "emotion"]},
    },
}
Config = Callable[..., list[str]]


@pytest.fixture
def config(planted: Planted, stage1_checkpoint: str, tmp_path: Path) -> Config:
    """The arguments that set up a model of `MODELS`; keywords are further settings of the trainer."""

    def write(kind: str, max_utterances: int = 4, **trainer: Any) -> list[str]:
        model = json.loads(json.dumps(MODELS[kind]))
        if kind == "stage2":
            model["init_args"]["stage1"] = stage1_checkpoint
        settings = {
            "model": model,
            "data": {
                "manifest": planted.manifest,
                "store": planted.store,
                "labels": ["emotion"],
                "max_utterances": max_utterances,
                "alphabet": ALPHABET,
            },
            "trainer": {
                "max_epochs": EPOCHS,
                "accelerator": "cpu",
                "enable_progress_bar": False,
                "log_every_n_steps": 1,
            }
            | trainer,
        }
        if kind != "probe":
            settings["checkpoint"] = {"monitor": "dev/objective"}
        file = tmp_path / f"settings{len(list(tmp_path.glob('settings*')))}.yaml"
        file.write_text(yaml.safe_dump(settings))
        return ["--config", str(file)]

    return write


def ddp(count: int) -> dict[str, Any]:
    return {"devices": count, "strategy": "ddp"}


def merged_plan(*arguments: Any, **options: Any) -> list[list[list[int]]]:
    """The batches of two processes as those of one, step by step."""
    lengths, max_frames, seed, epoch, world_size, *others = arguments
    assert world_size == 1
    plan = plan_batches(lengths, max_frames, seed, epoch, 2, *others, **options)
    return [[[i for batch in step for i in batch] for step in zip(*plan, strict=True)]]


def without_noise() -> None:
    """Latents are means, in a process that ends with the test."""
    Posterior.sample = lambda posterior: posterior.mean  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", MODELS)
def test_two_processes_train_as_one_on_the_batches_of_both(
    config: Config, tmp_path: Path, kind: str, stage1_checkpoint: str
) -> None:
    two, one, log = tmp_path / "two", tmp_path / "one", tmp_path / "log"
    arguments = [*config(kind, **ddp(2)), "--run_dir", str(two)]
    alone = [*config(kind), "--run_dir", str(one)]

    def rank() -> None:
        without_noise()
        fit(arguments, tmp_path / f"batches{os.environ['LOCAL_RANK']}")

    def process() -> None:
        without_noise()
        loader.plan_batches = merged_plan
        fit(alone, tmp_path / "batches")

    assert forked_ranks(rank, 2, log) == [0, 0], log.read_text()
    assert forked(process, log) == 0, log.read_text()

    shares, whole = [dealt(tmp_path / f"batches{rank}") for rank in "01"], dealt(tmp_path / "batches")
    assert shares[0].keys() == shares[1].keys() == whole.keys(), "as many batches in each process"
    for epoch in range(EPOCHS):
        ids = [id for share in shares for (e, _), batch in share.items() if e == epoch for id in batch]
        assert sorted(ids) == sorted(set(ids))
        assert len(ids) == 32, "no utterance lost or doubled"

    rows, others = read_rows(two / "metrics.csv"), read_rows(one / "metrics.csv")
    assert len(rows) == len(others) > EPOCHS * len(whole) / EPOCHS
    for row, other in zip(rows, others, strict=True):
        assert {name: bool(value) for name, value in row.items()} == {n: bool(v) for n, v in other.items()}
        figures = {name: float(value) for name, value in row.items() if value}
        assert figures == pytest.approx({name: float(other[name]) for name in figures}, rel=2e-4, abs=1e-6)
    ours, theirs = (read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (two, one))
    for name, weight in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], weight, rtol=1e-3, atol=1e-4, msg=name)
    if kind == "stage2":
        frozen = read_checkpoint(stage1_checkpoint)["state_dict"]
        assert all(torch.equal(ours["state_dict"][f"stage1.{name}"], frozen[name]) for name in frozen)


@pytest.fixture
def trained(config: Config, stage1_checkpoint: str, stage2_checkpoint: str, tmp_path: Path) -> Callable[[str], str]:
    """A checkpoint of a kind of `MODELS`."""

    def find(kind: str) -> str:
        if kind != "probe":
            return stage1_checkpoint if kind == "stage1" else stage2_checkpoint
        log = tmp_path / "log"
        arguments = ["fit", *config(kind), "--run_dir", str(tmp_path / "trained")]
        assert forked(lambda: train(arguments), log) == 0, log.read_text()
        return str(tmp_path / "trained" / "checkpoints" / "last.ckpt")

    return find


def of(checkpoint: str) -> list[str]:
    """The arguments that name a checkpoint, and the model's settings as they are in it."""
    settings = read_checkpoint(checkpoint)["hyper_parameters"]
    given = {n: v for n, v in settings.items() if isinstance(v, int | float | str) and not n.startswith("_")}
    return ["--ckpt_path", checkpoint, *(f"--model.init_args.{name}={value}" for name, value in given.items())]


@pytest.mark.parametrize(("kind", "count"), [("stage1", 2), ("stage2", 5), ("probe", 5)])
def test_several_processes_test_as_one_does(
    config: Config, trained: Callable[[str], str], tmp_path: Path, kind: str, count: int
) -> None:
    checkpoint, other, log = trained(kind), tmp_path / "other", tmp_path / "log"
    # 24 utterances, one a batch: of five processes, one gets a batch that another has had.
    arguments = ["test", *config(kind, max_utterances=1, **ddp(count)), "--run_dir", str(other), *of(checkpoint)]
    one = ["test", *config(kind), "--run_dir", str(tmp_path / "one"), *of(checkpoint)]
    assert forked(lambda: train(one), log) == 0, log.read_text()
    assert forked_ranks(lambda: train(arguments) and 0, count, log) == [0] * count, log.read_text()
    for file in (tmp_path / "one").glob("*.json"):
        ours, theirs = (json.loads((folder / file.name).read_text()) for folder in (other, tmp_path / "one"))
        if file.name == "summary.json":
            assert ours == pytest.approx(theirs, rel=1e-5)
            exact = {name for name in theirs if "rate" not in name and "kl" not in name}
            assert {n: ours[n] for n in exact} == {n: theirs[n] for n in exact}
        else:
            assert ours == theirs, file.name


def test_dev_figures_of_three_processes_are_those_of_one(
    config: Config, stage1_checkpoint: str, tmp_path: Path
) -> None:
    def validate(arguments: Sequence[str], name: str) -> None:
        module = train(["validate", *arguments, "--run_dir", str(tmp_path / "out"), *of(stage1_checkpoint)])
        if module.trainer.is_global_zero:
            figures = {n: float(v) for n, v in module.trainer.callback_metrics.items()}
            (tmp_path / name).write_text(json.dumps(figures))

    log = tmp_path / "log"
    several = config("stage1", max_utterances=1, **ddp(3))  # nine batches of eight utterances
    alone = config("stage1")
    assert forked_ranks(lambda: validate(several, "three.json"), 3, log) == [0] * 3, log.read_text()
    assert forked(lambda: validate(alone, "one.json"), log) == 0, log.read_text()
    three, one = (json.loads((tmp_path / name).read_text()) for name in ("three.json", "one.json"))
    assert {"dev/wer", "dev/objective"} <= one.keys()
    assert three == pytest.approx(one, rel=1e-5)


def test_predictions_of_several_processes_hold_each_utterance_once(
    config: Config, stage1_checkpoint: str, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    stale = run / "predictions" / "predictions-7.jsonl"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}\n")
    arguments = ["predict", *config("stage1", max_utterances=1, **ddp(5)), "--run_dir", str(run)]
    arguments += of(stage1_checkpoint)
    assert forked_ranks(lambda: train(arguments) and 0, 5, log) == [0] * 5, log.read_text()
    lines = [line for file in stale.parent.glob("*.jsonl") for line in file.read_text().splitlines()]
    assert sorted(json.loads(line)["id"] for line in lines) == [f"test{i:02d}" for i in range(24)]


@pytest.mark.parametrize(("victim", "hangs"), [("0", False), ("1", False), ("1", True)])
def test_a_process_that_dies_or_hangs_ends_the_run_in_words(
    config: Config, tmp_path: Path, victim: str, hangs: bool
) -> None:
    log, own_step = tmp_path / "log", VIBStage.training_step
    arguments = ["fit", *config("stage1", **ddp(2)), "--run_dir", str(tmp_path / "run")]

    def step(self: VIBStage, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 2 and os.environ["LOCAL_RANK"] == victim:
            if hangs:
                time.sleep(600)
            die()
        return own_step(self, batch, batch_idx)

    def rank() -> int:
        if hangs:
            processes.TIMEOUT = timedelta(seconds=2)
        VIBStage.training_step = step  # type: ignore[method-assign]
        return cli.main(arguments)

    statuses = forked_ranks(rank, 2, log)
    said = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert statuses[1 - int(victim)] == 1, log.read_text()
    assert statuses[int(victim)] == KILLED
    assert len(said) == (2 if hangs else 1), log.read_text()
    assert all("of this run died" in line for line in said)


def test_a_bad_setting_is_said_once_by_all_processes(config: Config, tmp_path: Path) -> None:
    log, run = tmp_path / "log", tmp_path / "run"
    alone = ["fit", *config("stage1"), "--run_dir", str(run)]
    assert forked(lambda: train(alone), log) == 0, log.read_text()
    log.unlink()
    arguments = ["fit", *config("stage1", **ddp(3)), "--run_dir", str(tmp_path / "other"), "--trainer.max_epochs", "9"]
    arguments += ["--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
    assert forked_ranks(lambda: cli.main(arguments), 3, log) == [2, 2, 2], log.read_text()
    said = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "with world_size 1, but this run has 3; resume with the same world_size" in said[0]
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_processes_that_the_command_line_launched_end_together(config: Config, tmp_path: Path, victim: int) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "disentangle_lightning", "fit", *config("stage1", **ddp(2)), "--run_dir", str(run)]
    command += ["--trainer.max_epochs", "100000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True) as first:
        deadline = time.monotonic() + 240
        while not (run / "checkpoints" / "last.ckpt").exists():
            assert first.poll() is None, first.stderr and first.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        os.kill([first.pid, *children(first.pid)][victim], signal.SIGKILL)
        gone_by = time.monotonic() + 20
        _, errors = first.communicate(timeout=30)  # ends when the last of them has closed it
    while alive(first.pid):
        assert time.monotonic() < gone_by
        time.sleep(0.1)
    if victim == 1 and first.returncode == -signal.SIGKILL:  # Lightning looks for dead children every five seconds
        assert "terminated with code -9" in errors
        return
    assert first.returncode == (-signal.SIGKILL if victim == 0 else 1), errors
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, errors
    assert "of this run died" in said[0]


def children(parent: int) -> list[int]:
    """The processes that a process has started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.mark.slow
def test_the_pipeline_trains_in_several_processes(tmp_path: Path) -> None:
    settings = prepare(tmp_path)
    command = [sys.executable, "-m", "disentangle_lightning", "pipeline", "--config", str(settings)]
    for stage in ("stage1", "stage2", "probe"):
        command += [f"--{stage}.set.trainer.devices", "2", f"--{stage}.set.trainer.strategy", "ddp"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    checkpoint = tmp_path / "run" / "seed0" / "stage2_emotion" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(checkpoint)["plan"]["world_size"] == 2


def test_two_processes_that_were_killed_go_on_as_if_nothing_had_happened(config: Config, tmp_path: Path) -> None:
    whole, cut, log = tmp_path / "whole", tmp_path / "cut", tmp_path / "log"
    arguments = [*config("stage1", **ddp(2)), "--model.init_args.deterministic", "false"]
    arguments += ["--checkpoint.last_every_steps", "2", "--checkpoint.last_every_minutes", "0.001"]

    def run(folder: Path, instant: str | None = None) -> list[int]:
        rank_file = f"{folder.name}{{}}"
        work = lambda: fit(  # noqa: E731
            [*arguments, "--run_dir", str(folder)], tmp_path / rank_file.format(os.environ["LOCAL_RANK"]), instant
        )
        return forked_ranks(lambda: work() and 0, 2, log)

    assert run(whole) == [0, 0], log.read_text()
    assert run(cut, "step 1 3") == [KILLED, KILLED], log.read_text()
    assert read_checkpoint(cut / "checkpoints" / "last.ckpt")["global_step"] > 5, "a checkpoint within the epoch"
    assert run(cut) == [0, 0], log.read_text()
    assert_same_run(whole, cut)
    for rank in "01":
        assert dealt(tmp_path / f"whole{rank}") == dealt(tmp_path / f"cut{rank}")
