"""Latents of a frozen stage are computed once in a training, and nothing that is trained on them can tell."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from planted import SPLIT_SIZES, Planted, run_fit, weights_of
from torch import Tensor

from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.tasks import frozen_latents
from disentangle_lightning.tasks.base import TaskModule, load_task
from disentangle_lightning.tasks.frozen_latents import FrozenLatents
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

EPOCHS = 3
Made = tuple[TaskModule, FrameFeatureDataModule]


@pytest.fixture(params=["probe", "stage 2"])
def make(request: pytest.FixtureRequest, planted: Planted, stage1_checkpoint: str) -> Callable[[], Made]:
    """A module that reads latents of a frozen Stage 1, anew at each call, and its data."""

    def make() -> Made:
        torch.manual_seed(0)
        if request.param == "probe":
            data = planted.data(["emotion"], train_split="probe")
            return Probe(data.inputs, ["emotion", "ctc"], "textual", stage1_checkpoint), data
        data = planted.data(["emotion"])
        return Stage2ConditionalVIB(data.inputs, "emotion", stage1_checkpoint, latent_dim=4), data

    return make


def frozen_encoder(module: TaskModule) -> Any:
    stage: Any = module.source if isinstance(module, Probe) else module.stage1
    return stage.latent_encoder


def fitted(made: Made, folder: Path, **options: Any) -> dict[str, Tensor]:
    run_fit(*made, folder, EPOCHS, **options)
    return weights_of(made[0])


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_each_utterance_is_encoded_once_in_a_fit(make: Callable[[], Made], tmp_path: Path) -> None:
    module, data = make()
    calls: list[int] = []
    frozen_encoder(module).register_forward_hook(lambda _, arguments, __: calls.append(len(arguments[0])))
    run_fit(module, data, tmp_path, EPOCHS)
    train = SPLIT_SIZES["probe" if isinstance(module, Probe) else "train"]
    assert len(calls) == train + SPLIT_SIZES["dev"]


@pytest.mark.parametrize("room", [0, 5000])
def test_what_is_not_remembered_is_computed_again_to_the_same_bits(
    make: Callable[[], Made],
    room: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = fitted(make(), tmp_path / "all")
    monkeypatch.setattr(frozen_latents, "room_to_keep", lambda *_: room)
    with caplog.at_level(logging.INFO, logger=frozen_latents.__name__):
        assert_equal(fitted(make(), tmp_path / "some"), expected)
    lines = [record for record in caplog.records if record.name == frozen_latents.__name__]
    assert len(lines) == 1
    assert "no room" in lines[0].getMessage()


@pytest.mark.parametrize("steps", [3, 9])
def test_a_resumed_training_ends_with_the_same_bits(make: Callable[[], Made], steps: int, tmp_path: Path) -> None:
    # The file is written within an epoch, when some latents are known; the module that goes on knows none.
    keep = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1)
    expected = fitted(make(), tmp_path / "whole", callbacks=[keep], enable_checkpointing=True)
    (cut,) = tmp_path.glob(f"*step={steps}.ckpt")
    module, data = make()
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data, ckpt_path=str(cut), weights_only=True)
    assert_equal(weights_of(module), expected)


def test_checkpoints_hold_no_latents(make: Callable[[], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted(make(), tmp_path / "with")
    monkeypatch.setattr(frozen_latents, "room_to_keep", lambda *_: 0)
    fitted(make(), tmp_path / "without")
    sizes = [(tmp_path / name / "last.ckpt").stat().st_size for name in ("with", "without")]
    assert sizes[0] == sizes[1]


def test_latents_do_not_depend_on_the_batch_and_are_those_of_the_stage(
    planted: Planted, stage1_checkpoint: str
) -> None:
    stage1 = load_task(stage1_checkpoint, Stage1VIB)
    latents = FrozenLatents(stage1.latent_encoder)
    data = {size: planted.data(max_utterances=size) for size in (1, 4)}
    alone, together = ({} for _ in data)
    for parts, batches in zip((alone, together), data.values(), strict=True):
        for batch in batches.test_dataloader():
            assert torch.allclose(latents(batch), stage1.latent_encoder(batch.features).mean, atol=1e-5)
            parts |= dict(zip(batch.ids, latents(batch).split(batch.segments.lengths.tolist()), strict=True))
    assert_equal(alone, together)


def test_after_a_fit_other_features_under_the_same_ids_are_encoded_anew(
    planted: Planted, stage1_checkpoint: str, tmp_path: Path
) -> None:
    data = planted.data(["emotion"], train_split="probe")
    probe = Probe(data.inputs, ["emotion"], "textual", stage1_checkpoint)
    run_fit(probe, data, tmp_path, epochs=1)
    batch = next(iter(data.train_dataloader()))
    other = replace(batch, features=batch.features * 2)
    assert not torch.allclose(probe.represent(batch), probe.represent(other), atol=0.1)
