"""Stages whose latents look at neighbouring frames: an utterance's latents never depend on what it is packed with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from planted import ALPHABET, Planted, run_fit

from disentangle_lightning.analysis.latents import collect
from disentangle_lightning.deployment.stages import TrainedStages
from disentangle_lightning.tasks.base import load_task
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB


@pytest.fixture(scope="module")
def checkpoints(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A Stage 1 that looks two frames far and a Stage 2 on it that looks one frame far."""
    folder = tmp_path_factory.mktemp("context")
    data = planted.data()
    torch.manual_seed(0)
    stage1 = Stage1VIB(data.inputs, latent_dim=5, context=2, learning_rate=0.02)
    run_fit(stage1, data, folder / "stage1", epochs=3)
    stage2 = Stage2ConditionalVIB(data.inputs, "emotion", str(folder / "stage1/last.ckpt"), latent_dim=4, context=1)
    run_fit(stage2, data, folder / "stage2", epochs=1)
    return [folder / "stage1/last.ckpt", folder / "stage2/last.ckpt"]


def deploy(stage1: Stage1VIB, stage2: Stage2ConditionalVIB) -> TrainedStages:
    """What `DisentangledEncoder` holds; the planted features have no encoder for it."""
    task = {"task": stage2.task, "classes": stage2.classes, "latent_encoder": stage2.latent_encoder.config}
    deployed = TrainedStages(ALPHABET, stage1.latent_encoder.config, [task | {"scaled_attention": True}])
    weights = {f"tasks.0.{name}": value for name, value in stage2.state_dict().items() if name[:6] != "stage1"}
    deployed.load_state_dict(stage1.state_dict() | weights, strict=False)
    return deployed.eval()


@torch.no_grad()
def test_a_clip_alone_gets_the_latents_that_it_has_in_a_batch(planted: Planted, checkpoints: list[Path]) -> None:
    stage1, stage2 = load_task(checkpoints[0], Stage1VIB), load_task(checkpoints[1], Stage2ConditionalVIB)
    assert stage1.latent_encoder.context is not None
    assert bool((stage1.latent_encoder.context.weight[0].abs() > 1e-3).any()), "training made use of it"
    deployed = deploy(stage1, stage2)
    (batch, *_) = planted.data(max_utterances=8).test_dataloader()
    frames: dict[str, Any] = stage2.predict_step(batch, 0)["frames"]
    torch.testing.assert_close(frames["z_textual"], stage1.predict_step(batch, 0)["frames"]["z_textual"])
    clips = torch.split(batch.features, batch.segments.lengths.tolist())
    speech = [deployed(clip[None], 50.0)[0] for clip in clips]
    torch.testing.assert_close(torch.cat([s.z_textual for s in speech]), frames["z_textual"])
    torch.testing.assert_close(torch.cat([s.z_acoustic["emotion"] for s in speech]), frames["z_acoustic"])
    latents = collect(planted.data(), "test", stage1, {"emotion": stage2})
    of_batch = torch.isin(latents.segments.index, torch.tensor([latents.ids.index(id) for id in batch.ids]))
    assert latents.frames["textual"][of_batch].sum() == pytest.approx(float(frames["z_textual"].sum()), abs=1e-3)


def test_a_checkpoint_from_before_there_was_context_still_loads(stage1_checkpoint: str, tmp_path: Path) -> None:
    content = torch.load(stage1_checkpoint, weights_only=True)
    del content["hyper_parameters"]["context"]
    torch.save(content, tmp_path / "old.ckpt")
    assert load_task(tmp_path / "old.ckpt", Stage1VIB).latent_encoder.context is None
