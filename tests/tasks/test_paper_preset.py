"""The settings of the preset `paper` against arXiv 2410.03037, section 3, written out without any code of ours.

The reference below trains beside the module: same first weights, batches and noise; after every step the loss, every
gradient and every weight must agree. Utterances are taken one by one, so it knows neither packing nor masks.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from planted import Planted, run_fit, weights_of
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from transformers import get_cosine_schedule_with_warmup

from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.tasks.vib_stage import VIBStage

VIB: dict[str, Any] = {"variance": "softplus", "units": "paper", "schedule": "incremental", "beta": 1.0}
VIB |= {"beta_start": 0.1, "learning_rate": 1e-3, "weight_decay": 0.005, "warmup_fraction": 0.1}
VIB |= {"dropout": 0.0, "mixer_rate": 1.0}
POOLING: dict[str, Any] = {"query_init": "ones", "scaled_attention": False}
EPOCHS = 10

Weights = dict[str, Tensor]


class Recorder(Callback):
    """What happens in each step: batch, state of the generator, loss, gradients, rate, beta, and weights after it."""

    def __init__(self, module: VIBStage) -> None:
        self.steps: list[dict[str, Any]] = []
        own_step = module.training_step

        def training_step(batch: FrameBatch, batch_idx: int) -> Tensor:
            self.steps.append({"batch": batch, "random": torch.get_rng_state()})
            return own_step(batch, batch_idx)

        module.training_step = training_step  # type: ignore[method-assign]

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.steps[-1]["gradients"] = {
            name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None
        }
        rates = {group["lr"] for group in trainer.optimizers[0].param_groups}
        assert len(rates) == 1
        self.steps[-1]["rate"] = rates.pop()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.steps[-1] |= {"weights": weights_of(pl_module)}
        for name in ("loss", "beta"):
            self.steps[-1][name] = float(trainer.callback_metrics[f"train/{name}"])


def bottleneck(w: Weights, prefix: str, features: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
    """z and the KL of each frame in nats, for one utterance [T, L, D]; without noise z is the mean."""
    shares = torch.exp(w[f"{prefix}.mixer.theta"]) / torch.exp(w[f"{prefix}.mixer.theta"]).sum()
    h = torch.stack([share * features[:, layer] for layer, share in enumerate(shares)]).sum(0)
    for layer in (0, 2):
        h = F.gelu(h @ w[f"{prefix}.bottleneck.net.{layer}.weight"].T + w[f"{prefix}.bottleneck.net.{layer}.bias"])
    mean, raw = (
        h @ w[f"{prefix}.bottleneck.{head}.weight"].T + w[f"{prefix}.bottleneck.{head}.bias"]
        for head in ("mean_head", "variance_head")
    )
    deviation = torch.sqrt(torch.log1p(torch.exp(raw)))
    kl = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(dim=1)
    return (mean if noise is None else mean + deviation * noise), kl


def stage1_task(w: Weights, z: Tensor, utterance: dict[str, Any]) -> Tensor:
    logits = z @ w["ctc_head.weight"].T + w["ctc_head.bias"]
    letters = utterance["letters"]
    lengths = torch.tensor([len(z)]), torch.tensor([len(letters)])
    return F.ctc_loss(logits.log_softmax(-1)[:, None], letters[None], *lengths, blank=0, reduction="mean")


def stage2_task(w: Weights, z: Tensor, utterance: dict[str, Any]) -> Tensor:
    condition, _ = bottleneck(w, "stage1.latent_encoder", utterance["features"], noise=None)
    pooled = [
        torch.softmax(stream @ w[f"{pool}.query"], dim=0) @ stream
        for pool, stream in (("pool_textual", condition.detach()), ("pool_acoustic", z))
    ]
    logits = torch.cat(pooled) @ w["classifier.weight"].T + w["classifier.bias"]
    return -torch.log_softmax(logits, dim=0)[utterance["label"]]


def unpack(batch: FrameBatch, task: str) -> list[dict[str, Any]]:
    features = torch.split(batch.features.float(), batch.segments.lengths.tolist())
    letters = torch.split(batch.targets, batch.target_lengths.tolist())
    labels = batch.labels[task].tolist()
    return [
        {"features": f, "letters": t, "label": label} for f, t, label in zip(features, letters, labels, strict=True)
    ]


def check_against_reference(module: VIBStage, data: Any, folder: Path, task: Any) -> None:
    weights = {name: value.requires_grad_() for name, value in weights_of(module).items()}
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    recorder = Recorder(module)
    run_fit(module, data, folder, EPOCHS, callbacks=[recorder], log_every_n_steps=1)

    total = len(recorder.steps)
    optimizer = torch.optim.AdamW([weights[name] for name in trained], lr=1e-3, weight_decay=0.005)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(0.1 * total), total)
    for k, step in enumerate(recorder.steps):
        beta = min(1.0, 0.1 + 0.9 * (k / total) / 0.9)
        utterances = unpack(step["batch"], "emotion")
        frames = [len(u["features"]) for u in utterances]
        torch.set_rng_state(step["random"])
        noises = torch.split(torch.randn(sum(frames), module.hparams["latent_dim"]), frames)
        tasks, kls = [], []
        for utterance, noise in zip(utterances, noises, strict=True):
            z, kl = bottleneck(weights, "latent_encoder", utterance["features"], noise)
            tasks.append(task(weights, z, utterance))
            kls.append(kl)
        loss = torch.stack(tasks).mean() + beta * torch.cat(kls).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)

        assert step["beta"] == pytest.approx(beta, abs=1e-6)
        assert step["rate"] == pytest.approx(schedule.get_last_lr()[0], abs=1e-9)
        assert step["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert step["gradients"].keys() == set(trained)
        for name in trained:
            torch.testing.assert_close(step["gradients"][name], weights[name].grad, rtol=1e-4, atol=2e-6, msg=name)
        torch.nn.utils.clip_grad_norm_([weights[name] for name in trained], 1.0)
        optimizer.step()
        schedule.step()
        for name, value in step["weights"].items():
            torch.testing.assert_close(value, weights[name].detach(), rtol=1e-4, atol=2e-5, msg=name)
            weights[name].data.copy_(value)  # each step by itself: AdamW makes last bits grow from step to step


def test_preset_paper_reproduces_stage_1_to_the_letter(planted: Planted, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = planted.data(max_utterances=1)
    module = Stage1VIB(data.inputs, latent_dim=6, **VIB)
    check_against_reference(module, data, tmp_path, stage1_task)


def test_preset_paper_reproduces_stage_2_to_the_letter(
    planted: Planted, stage1_checkpoint: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    data = planted.data(max_utterances=8)
    module = Stage2ConditionalVIB(data.inputs, "emotion", stage1_checkpoint, latent_dim=4, **VIB, **POOLING)
    check_against_reference(module, data, tmp_path, stage2_task)


def test_beta_rises_in_a_straight_line_over_nine_tenths_of_the_steps_and_then_holds(
    planted: Planted, tmp_path: Path
) -> None:
    data = planted.data(max_utterances=8)
    module = Stage1VIB(data.inputs, latent_dim=4, **VIB)
    recorder = Recorder(module)
    run_fit(module, data, tmp_path, epochs=10, callbacks=[recorder], log_every_n_steps=1)
    betas = [step["beta"] for step in recorder.steps]
    total = len(betas)
    assert betas[0] == pytest.approx(0.1)
    rises = [later - earlier for earlier, later in pairwise(betas)]
    assert rises[: total * 9 // 10] == pytest.approx([1 / total] * (total * 9 // 10), abs=1e-6)
    assert betas[total * 9 // 10 :] == pytest.approx([1.0] * (total - total * 9 // 10))


def test_the_learning_rate_warms_up_over_a_tenth_of_the_steps_and_falls_as_a_cosine(
    planted: Planted, tmp_path: Path
) -> None:
    data = planted.data(max_utterances=8)
    module = Stage1VIB(data.inputs, latent_dim=4, **VIB)
    recorder = Recorder(module)
    run_fit(module, data, tmp_path, epochs=10, callbacks=[recorder], log_every_n_steps=1)
    rates = [step["rate"] for step in recorder.steps]
    total = len(rates)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = get_cosine_schedule_with_warmup(optimizer, total // 10, total)
    expected = []
    for _ in rates:
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected, rel=1e-6)
    assert (rates[0], max(rates)) == (0, 1e-3)
