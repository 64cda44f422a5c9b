"""A packed batch: utterances end to end, nothing padded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from disentangle_lightning.nn.segments import Segments


@dataclass(frozen=True)
class FrameBatch:
    """B utterances with N frames in all.

    Attributes:
        features: [N, layers, dim] in the store's dtype (float16 where that is int8); in memory layer by layer, a view
            of a contiguous [layers, N, dim].
        segments: whose frame each one is.
        ids: B ids.
        targets: [sum of target_lengths] int64, the CTC ids of every transcription end to end.
        target_lengths: [B] int64; 0 where there is no transcription.
        labels: {name: [B] int64}, places in the class list of that label; -1 where the label is missing.
        transcriptions: the normalised text of each utterance; None where there is none, or where none of its
            characters is in the alphabet.
    """

    features: Tensor
    segments: Segments
    ids: list[str]
    targets: Tensor
    target_lengths: Tensor
    labels: dict[str, Tensor]
    transcriptions: list[str | None]

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> FrameBatch:
        """The same batch on another device."""
        return FrameBatch(
            self.features.to(device, non_blocking=non_blocking),
            self.segments.to(device, non_blocking=non_blocking),
            self.ids,
            self.targets.to(device, non_blocking=non_blocking),
            self.target_lengths.to(device, non_blocking=non_blocking),
            {name: values.to(device, non_blocking=non_blocking) for name, values in self.labels.items()},
            self.transcriptions,
        )

    def pin_memory(self) -> FrameBatch:
        """The same batch in page-locked memory, from which a GPU copies by itself; features on a device stay there."""
        segments = self.segments
        return FrameBatch(
            self.features.pin_memory() if self.features.device.type == "cpu" else self.features,
            Segments(
                segments.lengths.pin_memory(),
                segments.index.pin_memory(),
                segments.position.pin_memory(),
                segments.max_length,
            ),
            self.ids,
            self.targets.pin_memory(),
            self.target_lengths.pin_memory(),
            {name: values.pin_memory() for name, values in self.labels.items()},
            self.transcriptions,
        )
