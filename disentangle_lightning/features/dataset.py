"""The utterances of one split, and how a list of them becomes a packed batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.examples import Examples, Integers
from disentangle_lightning.features.sources import FrameSource
from disentangle_lightning.nn.segments import Segments


class FrameDataset(Dataset[FrameBatch]):
    """Map a list of places to the packed batch of those utterances.

    Args:
        examples: the utterances.
        ids: those of all utterances, by their place among the features.
        source: where the features come from.
    """

    def __init__(self, examples: Examples, ids: Sequence[str], source: FrameSource) -> None:
        self._examples = examples
        self._ids = ids
        self._source = source

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def lengths(self) -> Integers:
        """[utterances] frames of each."""
        return self._examples.frames

    def __getitem__(self, places: list[int]) -> FrameBatch:
        return self.fetch(places, self.empty(places))

    def empty(self, places: list[int]) -> Tensor:
        """Room for the features of a batch; see `FrameSource` for why it is made apart."""
        return self._source.empty(int(self.lengths[places].sum()))

    def fetch(self, places: list[int], room: Tensor) -> FrameBatch:
        """The batch, its features in `room`."""
        chosen = np.array(places)
        lengths = self.lengths[chosen]
        indices = self._examples.indices[chosen].tolist()
        letters = self._examples.letters(chosen)
        return FrameBatch(
            features=self._source.gather(indices, room),
            segments=Segments.from_lengths(torch.from_numpy(lengths), len(room), int(lengths.max())),
            ids=[self._ids[index] for index in indices],
            targets=letters.targets,
            target_lengths=letters.lengths,
            labels={name: torch.from_numpy(ids[chosen]).long() for name, ids in self._examples.labels.items()},
            transcriptions=letters.texts,
        )
