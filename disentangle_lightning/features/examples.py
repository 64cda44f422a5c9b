"""What is known of the utterances of one split beside their features, in columns: a few dozen bytes each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.features.targets import CTC_TARGET

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Letters:
    """The transcriptions of B utterances.

    Attributes:
        targets: [sum of lengths] int64, their CTC ids end to end.
        lengths: [B] int64.
        texts: normalised; None where there is none, or where none of its characters is in the alphabet.
    """

    targets: Tensor
    lengths: Tensor
    texts: list[str | None]


class Examples:
    """U utterances of a split.

    Args:
        utterances: them.
        indices: the place of each among the features.
        frames: [U] how many frames each has.
        tokenizer: the letters of CTC.
        classes: {label: its classes}.

    Attributes:
        indices: [U] int64.
        frames: [U] int64.
        labels: {label: [U] int32}, places in its classes; -1 where missing.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        indices: Sequence[int],
        frames: Integers,
        tokenizer: CTCTokenizer,
        classes: Mapping[str, Sequence[str]],
    ) -> None:
        self.indices: Integers = np.array(indices, dtype=np.int64)
        self.frames = frames
        self.labels: dict[str, npt.NDArray[np.int32]] = {}
        for name, values in classes.items():
            places: dict[str | None, int] = {value: place for place, value in enumerate(values)}
            self.labels[name] = np.array([places.get(u.label(name), -1) for u in utterances], dtype=np.int32)
        # Letter ids are as small as the alphabet allows; they are also all that is kept of the texts.
        self._characters = ["", " ", *tokenizer.alphabet]
        ids = [
            np.array(tokenizer.encode(u.transcription or ""), np.min_scalar_type(len(tokenizer))) for u in utterances
        ]
        self._targets = np.concatenate(ids) if ids else np.empty(0, np.uint8)
        self._ends = np.cumsum([0, *map(len, ids)])

    def __len__(self) -> int:
        return len(self.indices)

    def have(self, target: str) -> bool:
        """Whether any of them has this label, or, where it is `CTC_TARGET`, a transcription."""
        return self._targets.size > 0 if target == CTC_TARGET else bool((self.labels[target] >= 0).any())

    def letters(self, chosen: Integers) -> Letters:
        """The transcriptions of the utterances at these places."""
        spans = [self._targets[self._ends[i] : self._ends[i + 1]] for i in chosen.tolist()]
        texts = ["".join([self._characters[id] for id in span.tolist()]) or None for span in spans]
        targets = np.concatenate(spans, dtype=np.int64)
        return Letters(torch.from_numpy(targets), torch.tensor([len(span) for span in spans]), texts)
