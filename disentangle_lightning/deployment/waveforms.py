"""What is taken in: mono waveforms that the encoder can use, grouped by length."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from disentangle_lightning.corpus.audio import resample
from disentangle_lightning.errors import UserError
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder


def checked_waveform(name: str, waveform: Tensor, rate: int, encoder: FrozenSpeechEncoder) -> Tensor:
    """A waveform at 16 kHz: [samples] float32.

    Raises:
        UserError: it is not [samples] of a float dtype, holds NaN or infinite samples, or is empty, silent, or
            too short or too long for the encoder; `name` says which one.
    """
    if not isinstance(waveform, Tensor) or not waveform.is_floating_point():
        kind = waveform.dtype if isinstance(waveform, Tensor) else type(waveform).__name__
        raise UserError(f"{name} is {kind}; expected a tensor of floating-point samples")
    if waveform.dim() != 1:
        raise UserError(f"{name} has shape {list(waveform.shape)}; expected one channel, [samples]")
    if not len(waveform):
        raise UserError(f"{name} is empty")
    if not waveform.isfinite().all():
        raise UserError(f"{name} holds samples that are NaN or infinite")
    if not waveform.any():
        raise UserError(f"{name} is silent: every sample is zero")
    resampled = resample(waveform.detach().float(), rate)
    samples, least, most = len(resampled), encoder.minimum_samples, encoder.maximum_samples
    if samples < least:
        raise UserError(f"{name} is too short: {samples} samples at 16 kHz; the encoder needs at least {least}")
    if most is not None and samples > most:
        raise UserError(f"{name} is too long: {samples} samples at 16 kHz; the encoder takes {most} at most")
    return resampled


def equal_length_batches(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Places of clips that go together: one length each, at most `most` samples in all; a longer clip goes alone.

    >>> equal_length_batches([3, 5, 3, 3], most=6)
    [[0, 2], [3], [1]]
    """
    places: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        places.setdefault(length, []).append(i)
    batches = []
    for length, same in places.items():
        size = max(1, most // length)
        batches += [same[start : start + size] for start in range(0, len(same), size)]
    return batches
