"""Encoding and training killed at random instants, again and again: the result is that of a run left in peace."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from killed import KILLED, assert_same_run, dealt, fit, forked
from planted import ALPHABET, Planted, plant, run_fit

from disentangle_lightning.corpus.manifest import Utterance, write_manifest
from disentangle_lightning.features.extract import encode
from disentangle_lightning.features.job import load_encoder
from disentangle_lightning.tasks.stage1 import Stage1VIB

pytestmark = pytest.mark.faults

KILLS = 50


@pytest.fixture
def instants(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> random.Random:
    """Other instants at each run; FAULTS_SEED repeats those of an earlier one."""
    seed = int(os.environ.get("FAULTS_SEED") or secrets.randbits(32))
    with capsys.disabled():
        print(f"\n{request.node.name}: FAULTS_SEED={seed}", flush=True)
    return random.Random(seed)


def kill_again_and_again(
    work: Callable[[Path], object],
    folder: Path,
    kills: int,
    instants: random.Random,
    same: Callable[[Path, Path], None],
) -> None:
    """Kill `work`, which makes a folder, until so many have hit; each folder that gets finished must be the `same`."""
    log, whole, number, hit = folder / "log", folder / "whole", 0, 0
    begun = time.monotonic()
    assert forked(lambda: work(whole), log) == 0, log.read_text()
    seconds = time.monotonic() - begun
    while hit < kills:
        number += 1
        made = folder / f"cut{number}"
        while True:
            left = kills - hit
            status = forked(lambda: work(made), log, instants.uniform(0, seconds) if left else None)  # noqa: B023
            assert status in (0, KILLED), log.read_text()
            if status == 0:
                break
            hit += 1
        same(whole, made)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_encoding_killed_at_random_instants_writes_the_same_store(
    tmp_path: Path, instants: random.Random, dtype: str
) -> None:
    rng = np.random.default_rng(0)
    utterances = []
    for i in range(60):
        file = tmp_path / f"clip{i:02d}.wav"
        soundfile.write(file, rng.uniform(-0.5, 0.5, int(16_000 * (0.4 + 0.1 * (i % 12)))), 16_000)
        utterances.append(Utterance(id=file.stem, audio=file, split="train"))
    write_manifest(tmp_path / "manifest.jsonl", utterances)
    encoder = load_encoder("embedded", None, "fp32", None)

    def work(store: Path) -> None:
        torch.set_num_threads(1)
        encode(
            tmp_path / "manifest.jsonl", encoder, store, dtype, batch_seconds=2.0, shard_megabytes=0.2, progress=False
        )

    def same(one: Path, other: Path) -> None:
        assert contents(one).keys() == contents(other).keys()
        assert contents(one) == contents(other)

    kill_again_and_again(work, tmp_path, KILLS // 2, instants, same)
    assert len(list((tmp_path / "whole").rglob("*.safetensors"))) > 5


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def stage1_checkpoint(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, data = tmp_path_factory.mktemp("stage1"), planted.data()
    run_fit(Stage1VIB(data.inputs, latent_dim=6, beta=1e-3, learning_rate=0.02), data, folder, epochs=2)
    return str(folder / "last.ckpt")


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ["stage1.Stage1VIB", "stage2.Stage2ConditionalVIB", "probe.Probe"])
def test_training_killed_at_random_instants_ends_with_the_same_run(
    planted: Planted, stage1_checkpoint: str, tmp_path: Path, instants: random.Random, kind: str, num_workers: int
) -> None:
    arguments: dict[str, Any] = {
        "stage1.Stage1VIB": {"latent_dim": 4, "beta": 0.01},
        "stage2.Stage2ConditionalVIB": {"task": "emotion", "stage1": stage1_checkpoint, "latent_dim": 4},
        "probe.Probe": {"targets": ["ctc", "emotion", "speaker"]},
    }[kind]
    settings = {
        "model": {
            "class_path": f"disentangle_lightning.tasks.{kind}",
            "init_args": arguments | {"learning_rate": 0.02},
        },
        "data": {
            "manifest": planted.manifest,
            "store": planted.store,
            "labels": ["emotion", "speaker"],
            "max_utterances": 4,
            "alphabet": ALPHABET,
            "num_workers": num_workers,
        },
        "trainer": {"max_epochs": 6, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 2},
        "checkpoint": {"last_every_steps": 2} | ({} if kind == "probe.Probe" else {"monitor": "dev/objective"}),
    }
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(settings))

    def work(run: Path) -> None:
        fit(["--config", str(file), "--run_dir", str(run)], run.with_suffix(".jsonl"))

    def same(one: Path, other: Path) -> None:
        assert_same_run(one, other)
        assert dealt(one.with_suffix(".jsonl")) == dealt(other.with_suffix(".jsonl"))

    kill_again_and_again(work, tmp_path, KILLS // 2, instants, same)
