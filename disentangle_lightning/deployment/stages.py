"""Trained stages without their training: hidden states in, disentangled frames out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.nn.ctc import greedy_decode
from disentangle_lightning.nn.latent import LatentEncoder
from disentangle_lightning.nn.pooling import AttentionPooling
from disentangle_lightning.nn.segments import Segments


@dataclass(frozen=True)
class Disentangled:
    """One clip, taken apart.

    Attributes:
        z_textual: [frames, d], what transcription needs.
        z_acoustic: {task: [frames, d]}, what the task needs beyond that.
        transcript: read from z_textual.
        predictions: {task: (class, probability)}.
        attention: {task: {"textual": [frames], "acoustic": [frames]}}, the weight of each frame in the task's
            prediction; each stream sums to one.
        frame_rate: frames per second.
    """

    z_textual: Tensor
    z_acoustic: dict[str, Tensor]
    transcript: str
    predictions: dict[str, tuple[str, float]]
    attention: dict[str, dict[str, Tensor]]
    frame_rate: float


@dataclass(frozen=True)
class AcousticOutput:
    """What an `AcousticTask` says of B clips with N frames in all.

    Attributes:
        z: [N, d].
        textual, acoustic: [N], the attention over each clip's frames in either stream.
        predictions: B pairs of the best class and its probability.
    """

    z: Tensor
    textual: Tensor
    acoustic: Tensor
    predictions: list[tuple[str, float]]


class AcousticTask(nn.Module):
    """A Stage 2 without the Stage 1 that it was trained on.

    Args:
        task: the label's name.
        classes: its values.
        latent_encoder: the config of its `LatentEncoder`.
        scaled_attention: see `AttentionPooling`.
        textual_dim: the size of z_textual.
    """

    def __init__(
        self, task: str, classes: list[str], latent_encoder: dict[str, Any], scaled_attention: bool, textual_dim: int
    ) -> None:
        super().__init__()
        acoustic_dim = latent_encoder["latent_dim"]
        self.task = task
        self.classes = classes
        self.latent_encoder = LatentEncoder(**latent_encoder)
        self.pool_textual = AttentionPooling(textual_dim, scaled=scaled_attention)
        self.pool_acoustic = AttentionPooling(acoustic_dim, scaled=scaled_attention)
        self.classifier = nn.Linear(textual_dim + acoustic_dim, len(classes))

    def forward(self, features: Tensor, z_textual: Tensor, segments: Segments) -> AcousticOutput:
        """From features [N, L, D] and z_textual [N, d]."""
        z = self.latent_encoder(features, segments).mean
        textual, textual_attention = self.pool_textual(z_textual, segments)
        acoustic, acoustic_attention = self.pool_acoustic(z, segments)
        logits = self.classifier(torch.cat([textual, acoustic], dim=-1))
        probability, best = logits.softmax(-1).max(-1)
        predictions = [(self.classes[i], p) for i, p in zip(best.tolist(), probability.tolist(), strict=True)]
        return AcousticOutput(z, textual_attention, acoustic_attention, predictions)


class TrainedStages(nn.Module):
    """A Stage 1 and one Stage 2 for each task.

    Args:
        alphabet: the letters of CTC.
        latent_encoder: the config of Stage 1's `LatentEncoder`.
        tasks: the configs of the `AcousticTask`s, without textual_dim.
    """

    def __init__(self, alphabet: str, latent_encoder: dict[str, Any], tasks: list[dict[str, Any]]) -> None:
        super().__init__()
        textual_dim = latent_encoder["latent_dim"]
        self.tokenizer = CTCTokenizer(alphabet)
        self.latent_encoder = LatentEncoder(**latent_encoder)
        self.ctc_head = nn.Linear(textual_dim, len(self.tokenizer))
        # A list: a ModuleDict refuses keys such as "type" or "a.b", which labels may be called.
        self.tasks = nn.ModuleList(AcousticTask(**task, textual_dim=textual_dim) for task in tasks)

    def forward(self, features: Tensor, frame_rate: float) -> list[Disentangled]:
        """Take clips of one length apart, from their features [B, frames, L, D]."""
        clips, frames = features.shape[:2]
        lengths = torch.full((clips,), frames, device=features.device)
        segments = Segments.from_lengths(lengths, clips * frames, frames)
        packed = features.flatten(0, 1)
        z_textual = self.latent_encoder(packed, segments).mean
        letters = greedy_decode(self.ctc_head(z_textual), segments)
        tasks = cast(Iterable[AcousticTask], self.tasks)
        outputs: dict[str, AcousticOutput] = {task.task: task(packed, z_textual, segments) for task in tasks}

        def of_clip(i: int, x: Tensor) -> Tensor:
            return x[i * frames : (i + 1) * frames]

        return [
            Disentangled(
                z_textual=of_clip(i, z_textual),
                z_acoustic={task: of_clip(i, output.z) for task, output in outputs.items()},
                transcript=self.tokenizer.decode(letters[i]),
                predictions={task: output.predictions[i] for task, output in outputs.items()},
                attention={
                    task: {"textual": of_clip(i, output.textual), "acoustic": of_clip(i, output.acoustic)}
                    for task, output in outputs.items()
                },
                frame_rate=frame_rate,
            )
            for i in range(clips)
        ]
