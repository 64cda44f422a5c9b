"""SIGUSR1 in a SLURM job: a checkpoint at once, the job again, and no trace of it in what the run ends as.

No SLURM is needed here: `scontrol` is a stand-in that writes down what it is asked.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from killed import assert_same_run, dealt, forked, forked_ranks, patch
from wandb.proto.wandb_internal_pb2 import Record

from disentangle_lightning import cli, slurm
from disentangle_lightning.tasks import checkpoints
from disentangle_lightning.tasks.base import TaskModule, read_checkpoint
from disentangle_lightning.tasks.training import TrainingCLI

STEPS = 9
NO_LOGGER = ("--trainer.logger", "false")


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for scontrol, first in PATH; its file of calls."""
    calls = tmp_path / "scontrol.txt"
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("WANDB_MODE", "offline")
    return calls


def run(arguments: list[str], batches: Path, when: str = "never", epoch: int = 0, index: int = 0) -> int:
    """`fit`, which notes its batches and gets SIGUSR1 in a training, validation or test step; its exit status."""
    own_setup = TrainingCLI.instantiate_classes

    def instantiate(self: TrainingCLI) -> None:
        own_setup(self)
        patch(self.model, batches, "never", [])
        if when != "never":
            signal_in(self.model, when, epoch, index)

    TrainingCLI.instantiate_classes = instantiate  # type: ignore[method-assign]  # this process is a child of its own
    return cli.main(["fit", *arguments])


def signal_in(module: TaskModule, when: str, epoch: int, index: int) -> None:
    own = getattr(module, when)

    def step(batch: Any, batch_idx: int) -> Any:
        if batch_idx == index and (when == "test_step" or module.trainer.current_epoch == epoch):
            os.kill(os.getpid(), signal.SIGUSR1)
        return own(batch, batch_idx)

    setattr(module, when, step)


def must_end(status: int, work: Callable[[], int], log: Path) -> None:
    """Run `work` in a child; its exit status must be this one."""

    def checked() -> None:
        ended = work()
        assert ended == status, f"status {ended}"

    assert forked(checked, log) == 0, log.read_text()


@pytest.fixture(scope="module")
def whole(settings: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped, and beside it its batches (.jsonl)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    arguments = ["--config", settings, *NO_LOGGER, "--run_dir", str(folder)]
    must_end(0, lambda: run(arguments, folder.with_suffix(".jsonl")), folder.with_suffix(".log"))
    return folder


@pytest.mark.parametrize(
    ("when", "epoch", "index", "steps"),
    [
        ("training_step", 0, 0, 1),
        ("training_step", 1, 4, STEPS + 5),
        ("validation_step", 0, 0, STEPS + 1),  # the checkpoint after it is made first
    ],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    settings: str,
    whole: Path,
    scontrol: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    epoch: int,
    index: int,
    steps: int,
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    cut, in_cut, log = tmp_path / "cut", tmp_path / "cut.jsonl", tmp_path / "log"
    arguments = ["--config", settings, *NO_LOGGER, "--run_dir", str(cut)]
    must_end(slurm.STATUS, lambda: run(arguments, in_cut, when, epoch, index), log)
    assert scontrol.read_text() == "requeue 7_2\n", "the task, not the whole array"
    assert read_checkpoint(cut / "checkpoints" / "last.ckpt")["global_step"] == steps
    must_end(0, lambda: run(arguments, in_cut), log)
    batches = whole.with_suffix(".jsonl").read_text()
    assert in_cut.read_text() == batches, "no batch was trained on twice, and none left out"
    assert_same_run(whole, cut)
    assert not list(cut.rglob("hpc_ckpt*"))


def test_a_run_that_makes_no_checkpoint_in_time_is_started_again_all_the_same(
    settings: str, scontrol: Path, tmp_path: Path
) -> None:
    log, arguments = tmp_path / "log", ["--config", settings, *NO_LOGGER, "--run_dir", str(tmp_path / "run")]

    def slow_test() -> int:
        slurm.GRACE_SECONDS = 0.1
        own = TrainingCLI.after_fit

        def after_fit(self: TrainingCLI) -> None:
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(1)
            own(self)

        TrainingCLI.after_fit = after_fit  # type: ignore[method-assign]
        return cli.main(["fit", *arguments])

    must_end(0, slow_test, log)  # SLURM would have ended it meanwhile
    assert scontrol.read_text() == "requeue 7\n"


def test_a_run_that_finishes_first_is_not_started_again(settings: str, scontrol: Path, tmp_path: Path) -> None:
    arguments = ["--config", settings, *NO_LOGGER, "--run_dir", str(tmp_path / "run")]
    must_end(0, lambda: run(arguments, tmp_path / "batches", "test_step"), tmp_path / "log")
    assert not scontrol.exists()
    assert (tmp_path / "run" / "summary.json").is_file()


def test_a_job_that_slurm_does_not_take_back_says_how_to_go_on(settings: str, scontrol: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\necho Requeue is off >&2; exit 1\n")
    arguments = ["--config", settings, *NO_LOGGER, "--run_dir", str(tmp_path / "run")]
    log = tmp_path / "log"
    must_end(slurm.STATUS, lambda: run(arguments, tmp_path / "batches", "training_step"), log)
    assert "error: job 7 is not started again (Requeue is off); submit it once more to go on" in log.read_text()


@pytest.mark.slow
def test_the_w_and_b_run_of_a_stopped_run_goes_on(settings: str, scontrol: Path, tmp_path: Path) -> None:
    folder, log, batches = tmp_path / "run", tmp_path / "log", tmp_path / "batches"
    arguments = ["--config", settings, "--run_dir", str(folder)]
    must_end(slurm.STATUS, lambda: run(arguments, batches, "training_step", 1, 4), log)
    must_end(0, lambda: run(arguments, batches), log)
    first, second = sorted(folder.rglob("run-*.wandb"), key=lambda file: file.stat().st_mtime)
    assert wandb_id(first) == wandb_id(second) == (folder / "wandb_run_id.txt").read_text()
    before, after = records(first), records(second)
    assert [record.WhichOneof("record_type") for record in before].count("preempting") == 1
    assert [record.exit.exit_code for record in before if record.HasField("exit")] == [slurm.STATUS]
    assert [record.exit.exit_code for record in after if record.HasField("exit")] == [0]
    assert [*logged_steps(before), *logged_steps(after)] == sorted({*logged_steps(before), *logged_steps(after)})
    again = yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["logger"]["init_args"]
    assert again["id"] is None, "elsewhere, config.yaml starts a W&B run of its own"


def wandb_id(file: Path) -> str:
    found = re.fullmatch(r"run-(\w+)\.wandb", file.name)
    assert found
    return found[1]


def records(file: Path) -> list[Record]:
    """What an offline W&B run would send: a LevelDB log of blocks of 32 KiB, after a header of 7 bytes."""
    content = file.read_bytes()
    found, parts, place = [], b"", 7
    while place + 7 <= len(content):
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if 32768 - place % 32768 < 7:  # too little for a record: padding
            place += 32768 - place % 32768
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def logged_steps(found: list[Record]) -> list[int]:
    """The step of each row of training figures."""
    rows = [
        {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
        for record in found
        if record.HasField("history")
    ]
    return [int(row["trainer/global_step"]) for row in rows if "train/loss" in row]


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step(settings: str, scontrol: Path, tmp_path: Path) -> None:
    arguments = ["--config", settings, *NO_LOGGER, "--trainer.devices", "2", "--trainer.strategy", "ddp", "--run_dir"]
    whole, cut, log = tmp_path / "whole", tmp_path / "cut", tmp_path / "log"

    def batches(name: str) -> Path:
        return tmp_path / f"{name}.{os.environ['LOCAL_RANK']}"

    def unbroken(name: str) -> int:
        checkpoints._LOOK_SECONDS = 0.0
        return run([*arguments, str(tmp_path / name)], batches(name))

    def signalled() -> int:
        checkpoints._LOOK_SECONDS = 0.0
        # Both are sent it, but not at the same step: the first process decides.
        late = 0 if os.environ["LOCAL_RANK"] == "0" else 1
        return run([*arguments, str(cut)], batches("cut"), "training_step", 0, 1 + late)

    assert forked_ranks(lambda: unbroken("whole"), 2, log) == [0, 0], log.read_text()
    assert forked_ranks(signalled, 2, log) == [slurm.STATUS, 0], log.read_text()
    assert scontrol.read_text() == "requeue 7\n"
    assert read_checkpoint(cut / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert forked_ranks(lambda: unbroken("cut"), 2, log) == [0, 0], log.read_text()
    for each in range(2):
        assert dealt(tmp_path / f"cut.{each}") == dealt(tmp_path / f"whole.{each}")
    assert_same_run(whole, cut)
