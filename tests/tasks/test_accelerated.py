"""Training in bfloat16, and on a GPU without waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from planted import Planted, run_fit
from torch import Tensor, nn

from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.tasks.base import TaskModule
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

Made = tuple[TaskModule, FrameFeatureDataModule]
KINDS = ["stage 1", "stage 2", "probe of hidden states", "probe of latents"]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, planted: Planted, stage1_checkpoint: str) -> Callable[[], Made]:
    """A module of each kind, the same at each call, and its data."""

    def make() -> Made:
        torch.manual_seed(0)
        data = planted.data(["emotion", "speaker"])
        match request.param:
            case "stage 1":
                return Stage1VIB(data.inputs, latent_dim=6), data
            case "stage 2":
                return Stage2ConditionalVIB(data.inputs, "emotion", stage1_checkpoint, latent_dim=4), data
            case "probe of hidden states":
                return Probe(data.inputs, ["emotion", "speaker", "ctc"]), data
        return Probe(data.inputs, ["emotion", "speaker", "ctc"], "textual", stage1_checkpoint), data

    return make


class Losses(Callback):
    """The loss of every step, and the types in which linear layers answer."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.dtypes: set[torch.dtype] = set()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        for module in pl_module.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(lambda _, __, output: self.dtypes.add(output.dtype))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))


def test_training_in_bfloat16_follows_that_in_float32_with_ctc_in_float32(
    make: Callable[[], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    own_ctc = F.ctc_loss

    def ctc_loss(log_probabilities: Tensor, *arguments: Any, **options: Any) -> Tensor:
        seen.append(log_probabilities.dtype)
        return own_ctc(log_probabilities, *arguments, **options)

    monkeypatch.setattr(F, "ctc_loss", ctc_loss)
    results = {}
    for precision in ("32-true", "bf16-mixed"):
        module, data = make()
        results[precision] = recorder = Losses()
        run_fit(module, data, tmp_path, epochs=4, precision=precision, callbacks=[recorder])
        assert all(bool(value.isfinite().all()) for value in module.state_dict().values())
        assert {p.dtype for p in module.parameters()} == {torch.float32}
    full, half = results["32-true"], results["bf16-mixed"]
    assert full.dtypes == {torch.float32}
    assert half.dtypes == {torch.bfloat16}
    assert half.losses[:4] == pytest.approx(full.losses[:4], rel=0.02)
    assert half.losses[0] != full.losses[0]
    assert sum(half.losses[-8:]) == pytest.approx(sum(full.losses[-8:]), rel=0.05)
    assert sum(half.losses[-8:]) < sum(half.losses[:8])
    assert set(seen) <= {torch.float32}
    assert bool(seen) == (not isinstance(module, Stage2ConditionalVIB))


class NoWaiting(Callback):
    """From the second epoch on, an error where a step of training makes the host wait for the GPU."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.current_epoch > 0:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.steps += torch.cuda.get_sync_debug_mode() == 2
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_the_gpu(make: Callable[[], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps at which figures are logged do wait, and so does PyTorch's CTC, which reads the lengths: another sum here.
    # In the first epoch the latents of a frozen stage are made, utterance by utterance.
    monkeypatch.setattr(F, "ctc_loss", lambda log_probabilities, *_, **__: log_probabilities.sum((0, 2)))
    module, data = make()
    watch = NoWaiting()
    try:
        trainer = run_fit(
            module, data, tmp_path, 2, accelerator="gpu", devices=1, callbacks=[watch], log_every_n_steps=1000
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watch.steps == trainer.num_training_batches
