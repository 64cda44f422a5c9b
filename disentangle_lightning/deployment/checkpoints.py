"""From the checkpoints of training to what a DisentangledEncoder is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from disentangle_lightning.deployment.trained_upstream import FEATURES, IDENTITY
from disentangle_lightning.errors import UserError
from disentangle_lightning.tasks.base import checkpoint_kind, load_task
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

_STAGE1_PARTS = ("latent_encoder.", "ctc_head.")
_STAGE2_PARTS = ("latent_encoder.", "pool_textual.", "pool_acoustic.", "classifier.")


def read_stages(paths: Sequence[str | Path]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read one Stage 1, or one or several Stage 2s, which carry their Stage 1 with them.

    Returns:
        The arguments of `DisentangledEncoder`, and the weights of its `TrainedStages` by name.

    Raises:
        UserError: a file is no such checkpoint, two are of the same task, or they carry different Stage 1s.
    """
    if not paths:
        raise UserError("no checkpoint was named; a Stage 1, or one Stage 2 for each task, is needed")
    if len(paths) == 1 and checkpoint_kind(paths[0]) == Stage1VIB.__name__:
        return _parts(load_task(paths[0], Stage1VIB), [])
    stages = [load_task(path, Stage2ConditionalVIB) for path in paths]
    for i, stage in enumerate(stages):
        if stage.task in [other.task for other in stages[:i]]:
            raise UserError(f"checkpoint {paths[i]} is a second Stage 2 for task '{stage.task}'; name one for each")
        if not _same(stage.stage1, stages[0].stage1):
            raise UserError(
                f"checkpoints {paths[0]} and {paths[i]} carry different Stage 1s; train every Stage 2 on the same one"
            )
    return _parts(stages[0].stage1, stages)


def _parts(stage1: Stage1VIB, stages: Sequence[Stage2ConditionalVIB]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    header = stage1.inputs["feature_header"]
    arguments = {
        "upstream": {name: header["encoder"][name] for name in IDENTITY} | {name: header[name] for name in FEATURES},
        "alphabet": stage1.inputs["alphabet"],
        "latent_encoder": stage1.latent_encoder.config,
        "tasks": [
            {
                "task": stage.task,
                "classes": stage.classes,
                "latent_encoder": stage.latent_encoder.config,
                "scaled_attention": stage.hparams["scaled_attention"],
            }
            for stage in stages
        ],
    }
    weights = {name: value for name, value in stage1.state_dict().items() if name.startswith(_STAGE1_PARTS)}
    for i, stage in enumerate(stages):
        for name, value in stage.state_dict().items():
            if name.startswith(_STAGE2_PARTS):
                weights[f"tasks.{i}.{name}"] = value
    return arguments, weights


def _same(one: Stage1VIB, other: Stage1VIB) -> bool:
    """Whether two Stage 1s compute the same from the same waveforms."""
    (arguments, weights), (other_arguments, other_weights) = _parts(one, []), _parts(other, [])
    return arguments == other_arguments and all(torch.equal(w, other_weights[name]) for name, w in weights.items())
