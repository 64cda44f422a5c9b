"""A Stage 2 whose prediction rests on one known frame, and utterances made for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from disentangle_lightning.tasks.base import freeze
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

FRAMES, TELLING, IGNORED = 40, 17, 5
"""Of each utterance, the frame of z_acoustic that tells the class, and one of z_textual that only draws attention."""


def new_stage(classes: tuple[str, ...] = ("calm", "glad")) -> Stage2ConditionalVIB:
    """Frozen, of four dimensions in either stream, with random weights."""
    torch.manual_seed(0)
    inputs = {
        "num_layers": 1,
        "feature_dim": 4,
        "alphabet": "ABC",
        "label_names": {"emotion": list(classes)},
        "feature_header": {"layers": [1], "frame_rate": 50.0},
    }
    stage1 = Stage1VIB(inputs, latent_dim=4)
    stage = Stage2ConditionalVIB(inputs, "emotion", dict(stage1.hparams), latent_dim=4)
    freeze(stage)
    return stage


def planted_stage() -> Stage2ConditionalVIB:
    """Attention goes to dimension 0 of either stream; the class hangs on dimension 1 of z_acoustic alone."""
    stage = new_stage()
    for pool in (stage.pool_textual, stage.pool_acoustic):
        pool.query.copy_(torch.tensor([4.0, 0, 0, 0]))
    stage.classifier.weight.zero_()
    stage.classifier.bias.zero_()
    stage.classifier.weight[:, 5] = torch.tensor([-1.0, 1.0])
    return stage


def planted_streams(seed: int = 0) -> tuple[Tensor, Tensor]:
    """z_textual and z_acoustic of one utterance, [FRAMES, 4] each."""
    rng = np.random.default_rng(seed)
    textual, acoustic = (torch.from_numpy(0.1 * rng.normal(size=(FRAMES, 4))).float() for _ in range(2))
    textual[IGNORED, 0] = 3
    acoustic[TELLING, :2] = torch.tensor([3.0, 6.0])
    return textual, acoustic
