"""The utterances of one split, and how a list of them becomes a packed batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.nn.segments import Segments


@dataclass(frozen=True)
class Example:
    """What is known of an utterance beside its features.

    Attributes:
        id: its id.
        index: its place in the feature store.
        frames: how many frames it has.
        targets: the CTC ids of its transcription; empty where there is none.
        transcription: the normalised text, or None.
        labels: {name: place in the class list}, -1 where missing.
    """

    id: str
    index: int
    frames: int
    targets: list[int]
    transcription: str | None
    labels: dict[str, int]


class FrameSource(Protocol):
    """Where frames come from: the mapped store, or memory."""

    def frames(self, index: int) -> Tensor:
        """[frames, layers, dim] of the utterance at this place of the store."""


class MappedFrames:
    """Frames straight from the store's mapped files; the operating system caches what fits."""

    def __init__(self, store: FeatureStore, layers: Sequence[int]) -> None:
        self._store = store
        self._layers = list(layers)

    def frames(self, index: int) -> Tensor:
        return self._store.read(index, self._layers)


class ResidentFrames:
    """The wanted layers of the wanted utterances, read into memory once."""

    def __init__(self, store: FeatureStore, layers: Sequence[int], indices: Sequence[int]) -> None:
        ends = np.cumsum(store.lengths[list(indices)])
        self._all = torch.empty(int(ends[-1]), len(layers), store.dim, dtype=store.dtype)
        self._slices = {}
        for index, end in zip(indices, ends.tolist(), strict=True):
            self._slices[index] = slice(end - int(store.lengths[index]), end)
            self._all[self._slices[index]] = store.read(index, layers)

    def frames(self, index: int) -> Tensor:
        return self._all[self._slices[index]]


class FrameDataset(Dataset[FrameBatch]):
    """Map a list of places to the packed batch of those utterances."""

    def __init__(self, examples: Sequence[Example], source: FrameSource) -> None:
        self.examples = list(examples)
        self._source = source

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[utterances] frames of each."""
        return np.array([example.frames for example in self.examples], dtype=np.int64)

    def __getitem__(self, places: list[int]) -> FrameBatch:
        chosen = [self.examples[place] for place in places]
        lengths = [example.frames for example in chosen]
        return FrameBatch(
            features=torch.cat([self._source.frames(example.index) for example in chosen]),
            segments=Segments.from_lengths(torch.tensor(lengths), sum(lengths), max(lengths)),
            ids=[example.id for example in chosen],
            targets=torch.tensor([id for example in chosen for id in example.targets], dtype=torch.int64),
            target_lengths=torch.tensor([len(example.targets) for example in chosen]),
            labels={name: torch.tensor([example.labels[name] for example in chosen]) for name in chosen[0].labels},
            transcriptions=[example.transcription for example in chosen],
        )
