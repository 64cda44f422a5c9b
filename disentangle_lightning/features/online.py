"""Features without a store: the encoder runs whenever a batch is made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from disentangle_lightning.corpus.audio import load_audio, utterance_samples
from disentangle_lightning.corpus.manifest import Skipped, Utterance, audio_hash
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.extract import checked_layers, misfit, store_header
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder

_HEADERS_AT_ONCE = 4


class OnlineFeatures:
    """What a float32 store of a manifest would hold, made clip by clip; a `FrameSource`.

    Values differ from a store's by rounding where `encode` had clips of one length in one batch. Longest utterances
    first, as in a store. Clips that the encoder cannot take are left out as far as the headers of their files tell;
    what only decoding shows is an error when the clip's turn comes.

    Args:
        utterances: all of the manifest.
        manifest: its file.
        encoder: the frozen encoder.
        layers: the numbers of the layers wanted; None means all.
        alter: what is done to each clip before it is encoded, given its id and waveform [samples]; the result must be
            as long. None leaves clips as they are.

    Attributes:
        header: the header of the store that `encode` would make.
        ids: the utterances that can be encoded.
        lengths: [utterances] int64, frames of each.
        layers: the numbers of the layers, ascending.
        dim: the size of a hidden state.
        skipped: the utterances that cannot be encoded, with reasons.

    Raises:
        UserError: the encoder has no such layer, or no utterance can be encoded.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        manifest: Path,
        encoder: FrozenSpeechEncoder,
        layers: Sequence[int] | None,
        alter: Callable[[str, Tensor], Tensor] | None = None,
    ) -> None:
        self.layers = checked_layers(layers, encoder.num_layers)
        self.dim = encoder.dim
        self.header = store_header(encoder, self.layers, "float32", audio_hash(utterances, manifest.parent))
        with ThreadPoolExecutor(_HEADERS_AT_ONCE) as pool:
            measured = list(pool.map(lambda u: _samples(u, encoder), utterances))
        self.skipped = [
            Skipped(u.id, told) for u, told in zip(utterances, measured, strict=True) if isinstance(told, str)
        ]
        fitting = [(u, told) for u, told in zip(utterances, measured, strict=True) if isinstance(told, int)]
        if not fitting:
            raise UserError(
                f"none of the {len(utterances)} utterances of {manifest} can be encoded; "
                f"the first, '{self.skipped[0].id}': {self.skipped[0].reason}"
            )
        fitting.sort(key=lambda pair: -pair[1])
        self.ids = [u.id for u, _ in fitting]
        self.lengths = np.array([encoder.frames(samples) for _, samples in fitting], dtype=np.int64)
        self._cuts = [(str(u.audio), u.start, u.duration) for u, _ in fitting]
        self._encoder = encoder
        self._alter = alter
        self._one_at_a_time = threading.Lock()

    def to(self, device: torch.device) -> Self:
        """The same features, made on a device."""
        self._encoder.to(device)
        return self

    def empty(self, frames: int) -> Tensor:
        return torch.empty(len(self.layers), frames, self.dim, device=self._encoder.device).transpose(0, 1)

    def gather(self, indices: Sequence[int], out: Tensor) -> Tensor:
        """Encode these utterances into `out`, end to end.

        Raises:
            UserError: a file cannot be decoded, is not as long as it was, or the encoder makes NaN of it.
        """
        wanted = [layer - 1 for layer in self.layers]
        end = 0
        for index in indices:
            begin, end = end, end + int(self.lengths[index])
            features = self._encode(index)
            if len(features) != end - begin:
                raise UserError(
                    f"audio file {self._cuts[index][0]} gives {len(features)} frames, but its header announced "
                    f"{end - begin}; convert it to WAV or FLAC, and leave it alone while it is trained on"
                )
            out[begin:end] = features[:, wanted]
        return out

    def _encode(self, index: int) -> Tensor:
        """[frames, layers, dim] of one clip, all layers."""
        waveform = load_audio(*self._cuts[index])
        if self._alter is not None:
            waveform = self._alter(self.ids[index], waveform)
        with self._one_at_a_time:  # threads decode at once, but share the encoder
            features: Tensor = self._encoder(waveform[None])[0]
        if not features.isfinite().all():
            raise UserError(
                f"the encoder made NaN or infinite values of audio file {self._cuts[index][0]}; "
                "leave it out of the manifest"
            )
        return features


def _samples(utterance: Utterance, encoder: FrozenSpeechEncoder) -> int | str:
    """The length of a clip in samples at 16 kHz, or why it cannot be encoded."""
    try:
        samples = utterance_samples(utterance)
    except UserError as error:
        return str(error)
    return misfit(samples, encoder) or samples
