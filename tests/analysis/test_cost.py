"""Costs are counted and multiplied right, and what is compared does the same work."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pipeline import command, finished_run, refused, write_corpus

from disentangle_lightning.analysis.cost import Part, figures_of, measuring
from disentangle_lightning.analysis.cost.fine_tuning import FineTuning, trained_parameters
from disentangle_lightning.analysis.cost.measuring import WARM_UP, measure
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.report.analysis_result import read_result
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A finished run of its own, with its audio."""
    shutil.copytree(finished_run(tmp_path_factory), tmp_path / "run", symlinks=True)
    write_corpus(tmp_path / "corpus")
    return tmp_path / "run"


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure without new processes: each would import PyTorch for a few steps."""

    class Here:
        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> Here:
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, function: Any, *arguments: object) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(function(*arguments))
            return future

    monkeypatch.setattr(measuring, "ProcessPoolExecutor", Here)


@pytest.mark.usefixtures("in_this_process")
def test_cost_of_a_run(run: Path) -> None:
    status, errors = command("analyze", "cost", run, "--steps", "2", "--fine_tuning_steps", "2")
    assert status == 0, errors
    result = read_result(run / "analysis" / "cost")
    figures = {name.removeprefix("cost."): value for name, value in result.figures.items()}

    trained = TrainedRun(run)
    stage2 = sum(p.numel() for n, p in trained.stage2(0, "emotion").named_parameters() if not n.startswith("stage1."))
    stage1 = sum(p.numel() for p in trained.stage1(0).parameters())
    assert figures["stage1.parameters"] == stage1
    assert figures["stage2_emotion.parameters"] == stage2
    encoder = sum(p.numel() for p in trained.encoder.parameters())
    assert figures["fine_tuning.parameters"] == figures["plain_probe.parameters"] + encoder

    framework = ["encoding", "stage1", "stage2_emotion", "probe_textual", "probe_acoustic_emotion", "probe_hidden"]
    assert figures["framework.seconds"] == pytest.approx(sum(figures[f"{name}.seconds"] for name in framework))
    assert figures["framework.parameters"] == sum(figures[f"{name}.parameters"] for name in framework[1:])
    assert figures["ratio.framework.seconds"] == 1
    ratio = figures["fine_tuning.seconds"] / figures["framework.seconds"]
    assert figures["ratio.fine_tuning.seconds"] == pytest.approx(ratio)
    words = {name: row[0].text for name, row in result.tables[0].rows}
    assert words["encoding, once"].startswith("40 clips x ")
    of_epoch = {
        kind: len(trained.data(train_split=split, max_utterances=size).train_dataloader())
        for kind, split, size in (("stage1", "train", 16), ("plain", "train", 8), ("probe", "probe", 8))
    }
    assert of_epoch["plain"] > of_epoch["probe"]
    assert words["Stage 1"].startswith(f"{of_epoch['stage1']} steps x 2 epochs x ")
    assert words["fine-tuning the encoder"].startswith(f"{of_epoch['plain']} steps x 2 epochs x ")
    assert words["probe on z_textual"].startswith(f"{of_epoch['probe']} steps x 2 epochs x ")
    kept = json.loads((run / "analysis" / "cost" / "stage1.json").read_text())
    assert len(kept["seconds"]) == 2


def test_a_part_is_its_mean_step_times_its_repeats():
    part = Part([0.1, 0.2, 0.3], 50, "")
    assert part.total == pytest.approx(10)
    low, high = part.interval
    assert 5 <= low < 10 < high <= 15
    parts = {
        "encoding": Part([1.0], 6, ""),
        "stage1": Part([2.0], 2, "", parameters=30, megabytes=700, libraries=500),
        "plain_probe": Part([1.0], 4, "", parameters=5, megabytes=600, libraries=500),
        "fine_tuning": Part([10.0], 4, "", parameters=90, megabytes=1400, libraries=500),
    }
    ways = {
        "framework": ["encoding", "stage1"],
        "plain_probe": ["encoding", "plain_probe"],
        "fine_tuning": ["fine_tuning"],
    }
    figures = figures_of(parts, ways)
    assert figures["framework.seconds"] == 10
    assert figures["ratio.plain_probe.seconds"] == 1
    assert figures["ratio.fine_tuning.seconds"] == 4
    assert figures["ratio.fine_tuning.parameters"] == 3
    assert figures["ratio.fine_tuning.peak_megabytes"] == 2
    assert figures["stage1.own_megabytes"] == 200


def test_frozen_parameters_are_not_counted_as_trained():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    assert trained_parameters(model) == 3 * 4 + 4 + 4 * 2 + 2
    model[0].requires_grad_(False)
    assert trained_parameters(model) == 4 * 2 + 2


def test_fine_tuning_has_the_loss_of_the_probe_and_its_gradient_reaches_the_encoder(run: Path) -> None:
    trained = TrainedRun(run)
    data = trained.data(train_split="train")
    arguments = {"inputs": data.inputs, "targets": ["ctc", "emotion"], "seed": 0}
    probe = Probe(**arguments)
    encoder = FrozenSpeechEncoder.from_pretrained(trained.settings.encode.encoder)
    tuned = FineTuning(encoder, trained.utterances, **arguments)
    batch = next(iter(data.test_dataloader()))
    losses = [
        sum(head.losses(module.logits(batch)[name], batch)[0] for name, head in module.each_head())
        for module in (probe, tuned)
    ]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-2)  # the store has float16
    losses[1].backward()
    reached = [name for name, p in tuned.encoder.named_parameters() if p.grad is not None and bool(p.grad.any())]
    assert any("feature_extractor.conv_layers.0" in name for name in reached)
    assert any("encoder.layers.2" in name for name in reached)


def test_bad_settings_are_named(run: Path) -> None:
    assert "fields 'steps' and 'fine_tuning_steps' must be 2 or more" in refused("analyze", "cost", run, "--steps", "1")


@pytest.mark.slow
def test_a_process_of_its_own_has_its_own_memory(run: Path, tmp_path: Path) -> None:
    from disentangle_lightning.analysis.cost import trainings

    ours = np.ones(100_000_000)  # 800 MB that are no part of the training's
    found = measure(trainings(TrainedRun(run), tmp_path)["stage1"][0], 3)
    assert len(found.seconds) == 3
    assert WARM_UP > 0
    assert 0 < found.libraries <= found.megabytes < measuring.peak_megabytes()
    assert ours.nbytes / 1e6 > 700
