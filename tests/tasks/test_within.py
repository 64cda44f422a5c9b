"""A stage that may make hardly more errors than one without a bottleneck pays for no more code than that takes."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from planted import Planted, run_fit, weights_of

from disentangle_lightning.errors import UserError
from disentangle_lightning.tasks.base import load_task
from disentangle_lightning.tasks.no_bottleneck import NO_BOTTLENECK, control_errors
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

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
    print(figures["fixed"], figures["within"])
    for e in courses["within"].epochs: print(e)
    assert figures["within"]["stage1.rate_bits_per_second"] < 0.7 * figures["fixed"]["stage1.rate_bits_per_second"]
    assert figures["within"]["stage1.wer"] <= figures["fixed"]["stage1.wer"] + 0.02
    assert min(epoch["dev/error"] for epoch in courses["within"].epochs[-5:]) <= 0.02
