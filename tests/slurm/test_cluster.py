"""The job scripts on a real SLURM: tasks apart, stopped and started again, in parts, in two processes.

What a job ends as is compared with what the same command ends as without SLURM.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from cluster import Cluster, missing, started
from killed import assert_same_run, dealt, forked, forked_ranks
from noted import note_batches
from planted import read_rows
from tiny_pipeline import corpus_rows, write_corpus, write_encoder

from disentangle_lightning import cli
from disentangle_lightning.corpus.manifest import Utterance, write_manifest
from disentangle_lightning.features.store import FeatureStore

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(missing() is not None, reason=missing() or "")]
NO_LOGGER = ("--trainer.logger", "false")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a job as of a command: one thread, no account, and a `PYTHON` that notes its batches (noted.py)."""
    python = tmp_path_factory.mktemp("bin") / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("noted.py")} "$@"\n')
    python.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "WANDB_"))}
    return {**kept, "PYTHON": str(python), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("work"), environment) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Callable[..., Path]:
    """Runs the command without SLURM, in children of this process; returns its working directory."""

    def run(*arguments: str, processes: int = 1) -> Path:
        folder = tmp_path_factory.mktemp("plain")

        def work() -> None:
            os.chdir(folder)
            os.environ |= environment
            note_batches()
            assert cli.main(arguments) == 0

        log = folder / "log"
        ends = [forked(work, log)] if processes == 1 else forked_ranks(work, processes, log)
        assert not any(ends), log.read_text()
        return folder

    return run


def assert_same_end(alone: Path, run: Path) -> None:
    """The same weights and figures; the command is another, and so is what W&B keeps."""
    for folder in (alone, run):
        (folder / "provenance.json").unlink()
        (folder / "wandb_run_id.txt").unlink(missing_ok=True)
        shutil.rmtree(folder / "wandb", ignore_errors=True)
    assert_same_run(alone, run)


def wait_for_rows(cluster: Cluster, job: str, run: Path, count: int) -> None:
    """Until so many rows are in metrics.csv."""
    deadline = time.monotonic() + 120
    while not (run / "metrics.csv").is_file() or len(read_rows(run / "metrics.csv")) < count:
        assert time.monotonic() < deadline, f"{run} does not come to row {count}:\n{cluster.output()}"
        assert not cluster.ended(job), f"{run} ends before row {count}"
        time.sleep(0.1)


def test_tasks_of_an_array_do_not_touch_each_other(cluster: Cluster, plain: Callable[..., Path], settings: str) -> None:
    arguments = ["--config", settings, *NO_LOGGER]
    variables = {"FIELD": "model.init_args.beta", "VALUES": "0.001 0.01 0.1", "STEP_SECONDS": "0.2"}
    options = ("--job-name=beta", "--array=0-2")
    job = cluster.submit(*options, script="array.sbatch", arguments=arguments, **variables)
    runs = cluster.work / "runs" / "beta"
    wait_for_rows(cluster, job, runs / "0.001", 5)
    cluster.signal(f"{job}_0")
    cluster.finish(job)
    assert [cluster.restarts(f"{job}_{task}") for task in range(3)] == [1, 0, 0]
    assert {folder.name for folder in runs.iterdir() if folder.is_dir()} == {"0.001", "0.01", "0.1"}
    for beta in ("0.001", "0.01", "0.1"):
        alone = plain("fit", *arguments, "--model.init_args.beta", beta, "--run_dir", "alone") / "alone"
        assert_same_end(alone, runs / beta)
        batches = runs / f"{beta}.0.jsonl"
        assert batches.read_text() == alone.with_name("alone.0.jsonl").read_text(), "no batch was trained on twice"


def test_a_job_that_is_stopped_twice_ends_as_one_that_never_was(
    cluster: Cluster, plain: Callable[..., Path], settings: str
) -> None:
    arguments = ["--config", settings, "--checkpoint.last_every_steps", "2"]
    job = cluster.submit("--job-name=stopped", script="fit.sbatch", arguments=arguments, STEP_SECONDS="0.5")
    run = cluster.work / "runs" / "stopped"
    wait_for_rows(cluster, job, run, 4)
    cluster.signal(job)
    while not cluster.restarts(job):
        time.sleep(0.2)
    steps = len((run.parent / "stopped.0.jsonl").read_text().splitlines())
    assert steps in (4, 5, 6), "at the step that follows the signal"
    wait_for_rows(cluster, job, run, 13)
    cluster.requeue(job)  # no warning
    cluster.finish(job)
    assert cluster.restarts(job) == 2
    alone = plain("fit", *arguments, "--run_dir", "alone") / "alone"
    ids = [file.stem for file in run.rglob("run-*.wandb")]
    assert len(ids) == 3
    assert set(ids) == {f"run-{(run / 'wandb_run_id.txt').read_text()}"}, "one W&B run"
    assert_same_end(alone, run)
    assert dealt(run.with_name("stopped.0.jsonl")) == dealt(alone.with_name("alone.0.jsonl"))


def test_two_processes_of_a_job_stop_and_go_on_together(
    cluster: Cluster, plain: Callable[..., Path], settings: str
) -> None:
    arguments = ["--config", settings, *NO_LOGGER]
    options = ("--job-name=two", "--nodes=1", "--ntasks-per-node=2")
    job = cluster.submit(*options, script="ddp.sbatch", arguments=arguments, STEP_SECONDS="0.5")
    run = cluster.work / "runs" / "two"
    wait_for_rows(cluster, job, run, 2)
    cluster.signal(job)
    cluster.finish(job)
    assert cluster.restarts(job) == 1
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    alone = plain("fit", *arguments, *two, "--run_dir", "alone", processes=2) / "alone"
    assert_same_end(alone, run)
    for rank in range(2):
        batches = alone.with_name(f"alone.{rank}.jsonl").read_text()
        assert run.with_name(f"two.{rank}.jsonl").read_text() == batches
        assert len(batches.splitlines()) > 5


def test_parts_that_an_array_encodes_are_merged_by_the_job_that_waits_for_them(
    cluster: Cluster, plain: Callable[..., Path], tmp_path: Path
) -> None:
    corpus, encoder = write_corpus(tmp_path / "corpus"), write_encoder(tmp_path / "encoder")
    utterances = [Utterance(id=row["file_name"], audio=corpus / row["file_name"]) for row in corpus_rows()]
    write_manifest(tmp_path / "manifest.jsonl", utterances)
    arguments = ["--encoder", str(encoder), "--manifest", str(tmp_path / "manifest.jsonl"), "--device", "cpu"]
    arguments += ["--store", "features"]
    parts = cluster.submit("--array=1-3", script="encode.sbatch", arguments=arguments)
    merge = cluster.submit(f"--dependency=afterok:{parts}", script="encode.sbatch", arguments=arguments)
    cluster.finish(parts, merge)
    store = FeatureStore.open(cluster.work / "features", verify=True)
    whole = FeatureStore.open(plain("encode", *arguments) / "features", verify=True)
    assert store.header == whole.header
    assert set(store.ids) == set(whole.ids) == {utterance.id for utterance in utterances}
    for index, id in enumerate(store.ids):
        # A part has other batches, and a matrix product of another size may round otherwise.
        torch.testing.assert_close(store.read(index), whole.read(whole.ids.index(id)), rtol=2e-3, atol=2e-3)
    assert not (cluster.work / "features" / "parts").exists()
