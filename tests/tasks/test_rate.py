"""A stage that is told a rate finds the beta for it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from planted import Planted, run_fit, weights_of

from disentangle_lightning.errors import UserError
from disentangle_lightning.tasks.base import load_task
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

RATE: dict[str, Any] = {"schedule": "rate", "beta": 0.01, "learning_rate": 0.01}


class Course(Callback):
    """The logged figures of every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.steps.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.mark.parametrize("rate", [60.0, 120.0])
def test_stage_1_ends_at_the_rate_that_was_asked_for(planted: Planted, rate: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data, course = planted.data(), Course()
    stage1 = Stage1VIB(data.inputs, latent_dim=6, dropout=0.0, rate=rate, **RATE)
    trainer = run_fit(stage1, data, tmp_path, epochs=40, callbacks=[course], log_every_n_steps=1)
    trainer.test(stage1, datamodule=data, verbose=False)
    figures = json.loads((tmp_path / "summary.json").read_text())
    assert figures["stage1.rate_bits_per_second"] == pytest.approx(rate, rel=0.15)
    betas = [step["train/beta"] for step in course.steps]
    aims = [step["train/aim_bits_per_second"] for step in course.steps]
    assert (betas[0], aims[0], aims[-1]) == pytest.approx((0.01, 4 * rate, rate))
    last = course.steps[-1]
    assert last["train/rate_bits_per_second"] == pytest.approx(last["train/kl_nats_per_frame"] * 50 / math.log(2))


def test_a_stage_2_that_would_collapse_does_not(planted: Planted, stage1_checkpoint: str, tmp_path: Path) -> None:
    data = planted.data()
    figures = {}
    for name, how in (("fixed", {"schedule": "fixed"}), ("rate", {"schedule": "rate", "rate": 20.0})):
        torch.manual_seed(0)
        settings: dict[str, Any] = {"latent_dim": 4, "dropout": 0.0, "beta": 3.0, "learning_rate": 0.01} | how
        stage2 = Stage2ConditionalVIB(data.inputs, "emotion", stage1_checkpoint, **settings)
        trainer = run_fit(stage2, data, tmp_path / name, epochs=40)
        trainer.test(stage2, datamodule=data, verbose=False)
        figures[name] = json.loads((tmp_path / name / "summary.json").read_text())
    assert figures["fixed"]["stage2_emotion.rate_bits_per_second"] < 1
    assert figures["rate"]["stage2_emotion.rate_bits_per_second"] == pytest.approx(20, rel=0.3)
    assert figures["rate"]["stage2_emotion.accuracy"] > 0.95


def test_beta_goes_on_where_a_checkpoint_has_it(planted: Planted, tmp_path: Path) -> None:
    data = planted.data()
    stage1 = Stage1VIB(data.inputs, latent_dim=4, rate=60.0, **RATE)
    run_fit(stage1, data, tmp_path, epochs=2)
    moved = weights_of(stage1)["rate_control.log_beta"]
    assert float(moved) != pytest.approx(math.log(0.01))
    loaded = load_task(tmp_path / "last.ckpt", Stage1VIB)
    assert loaded.rate_control is not None
    assert torch.equal(loaded.rate_control.log_beta, moved)


def test_a_dev_epoch_above_the_rate_is_not_the_best(planted: Planted) -> None:
    stage1 = Stage1VIB(planted.data().inputs, latent_dim=4, rate=60.0, **RATE)
    target = 60.0 * math.log(2) / 50
    prices = [float(stage1._price(torch.tensor(times * target))) for times in (0.2, 1.0, 1.04, 2.05)]
    assert prices == pytest.approx([0, 0, 0, target], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"schedule": "rate"}, "schedule 'rate' with rate None: 'rate' needs a rate"),
        ({"schedule": "fixed", "rate": 60.0}, "schedule 'fixed' with rate 60.0"),
        ({"schedule": "rate", "rate": 0.0}, "rate 0.0 with beta 0.02"),
        ({"schedule": "rate", "rate": 60.0, "beta": 0.0}, "the beta to start from"),
        ({"schedule": "rate", "rate": 60.0, "deterministic": True}, "deterministic true"),
    ],
)
def test_a_rate_that_cannot_be_is_refused(planted: Planted, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Stage1VIB(planted.data().inputs, **settings)


def test_nothing_is_kept_where_no_rate_is_asked_for(stage1_checkpoint: str) -> None:
    stage1 = load_task(stage1_checkpoint, Stage1VIB)
    assert stage1.rate_control is None
    assert not any("rate_control" in name for name in stage1.state_dict())
