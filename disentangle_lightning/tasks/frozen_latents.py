"""The latents of a frozen stage, computed once in a training."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.residency import room_to_keep
from disentangle_lightning.nn.latent import LatentEncoder
from disentangle_lightning.nn.segments import Segments

log = logging.getLogger(__name__)


class FrozenLatents:
    """The posterior means of a frozen encoder, which remembers those of each utterance during a fit.

    Each utterance goes through the encoder by itself. So its latents do not depend on the batch that it comes in, nor
    on what is remembered: a training that was resumed, with an empty memory, goes on with the very same values.

    Args:
        encoder: of the frozen stage.
    """

    def __init__(self, encoder: LatentEncoder) -> None:
        self._encoder = encoder
        self._known: dict[str, Tensor] = {}
        self._room: int | None = None

    def remember(self, device: torch.device, processes: int) -> None:
        """From now on, keep latents on the device where they are made while there is room.

        Args:
            device: where the encoder computes.
            processes: how many on this machine share the memory.
        """
        self._room = room_to_keep(device, processes)

    def forget(self) -> None:
        """Drop what is remembered, and keep nothing any more: other features may come under the same ids."""
        self._known, self._room = {}, None

    @torch.no_grad()
    def __call__(self, batch: FrameBatch) -> Tensor:
        """[N, d] float32."""
        if all(id in self._known for id in batch.ids):
            return torch.cat([self._known[id] for id in batch.ids])
        utterances = torch.split(batch.features, batch.segments.lengths.tolist())
        return torch.cat([self._latents(id, features) for id, features in zip(batch.ids, utterances, strict=True)])

    def _latents(self, id: str, features: Tensor) -> Tensor:
        if (known := self._known.get(id)) is not None:
            return known
        frames = len(features)
        alone = Segments.from_lengths(torch.tensor([frames], device=features.device), frames, frames)
        mean: Tensor = self._encoder(features, alone).mean
        if self._room is None:
            return mean
        self._room -= mean.nbytes
        if self._room >= 0:
            self._known[id] = mean
        else:
            log.info("latents of %d utterances are remembered; there is no room for more", len(self._known))
            self._room = None
        return mean
