"""Both latents of every utterance of a split, with its hidden states and labels, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.nn.segments import Segments, segment_mean
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]


@dataclass(frozen=True)
class SplitLatents:
    """U utterances with N frames in all.

    Attributes:
        ids: U ids.
        segments: whose frame each one is.
        frames: {representation: [N, d] float32}, the posterior means of `textual` and `acoustic_TASK`, and `hidden`,
            the average of the encoder's layers with the same weight for each.
        kl: {`textual` and `acoustic_TASK`: [N, d] float32}, in nats per frame and dimension.
        labels: {name: [U]}, places in the label's classes; -1 where it is missing.
        label_names: {name: classes}.
        transcriptions: the normalised text of each utterance; None where there is none.
    """

    ids: list[str]
    segments: Segments
    frames: dict[str, Tensor]
    kl: dict[str, Tensor]
    labels: dict[str, Classes]
    label_names: dict[str, list[str]]
    transcriptions: list[str | None]

    def __len__(self) -> int:
        return len(self.ids)

    def means(self, representation: str) -> Floats:
        """The mean over each utterance's frames, [U, d] float64."""
        return np.asarray(segment_mean(self.frames[representation], self.segments).double().numpy())


@torch.no_grad()
def collect(
    data: FrameFeatureDataModule, split: str, stage1: Stage1VIB, stage2: Mapping[str, Stage2ConditionalVIB]
) -> SplitLatents:
    """Run frozen stages over a split, in order.

    Args:
        data: with `probe` as its training split.
        split: `probe`, `dev` or `test`.
        stage1: of z_textual.
        stage2: {task: of its z_acoustic}.
    """
    loader = {
        "probe": data.probe_dataloader,
        "dev": data.val_dataloader,
        "test": data.test_dataloader,
    }[split]()
    encoders = {"textual": stage1.latent_encoder} | {f"acoustic_{t}": s.latent_encoder for t, s in stage2.items()}
    frames: dict[str, list[Tensor]] = {name: [] for name in ["hidden", *encoders]}
    kl: dict[str, list[Tensor]] = {name: [] for name in encoders}
    labels: dict[str, list[Tensor]] = {name: [] for name in data.label_names}
    ids: list[str] = []
    transcriptions: list[str | None] = []
    lengths: list[Tensor] = []
    for batch in loader:
        ids += batch.ids
        transcriptions += batch.transcriptions
        lengths.append(batch.segments.lengths)
        frames["hidden"].append(batch.features.float().mean(1))
        for name, encoder in encoders.items():
            posterior = encoder(batch.features, batch.segments)
            frames[name].append(posterior.mean)
            kl[name].append(posterior.kl())
        for name in labels:
            labels[name].append(batch.labels[name])
    all_lengths = torch.cat(lengths)
    return SplitLatents(
        ids,
        Segments.from_lengths(all_lengths, int(all_lengths.sum()), int(all_lengths.max())),
        {name: torch.cat(parts) for name, parts in frames.items()},
        {name: torch.cat(parts) for name, parts in kl.items()},
        {name: torch.cat(parts).numpy() for name, parts in labels.items()},
        data.label_names,
        transcriptions,
    )
