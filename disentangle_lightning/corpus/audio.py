"""Sound files to waveforms: decode, cut, mix to mono, resample to 16 kHz."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.errors import UserError

SAMPLE_RATE = 16_000
"""Every upstream of this project takes 16 kHz."""


def load_utterance(utterance: Utterance) -> Tensor:
    """The waveform of an utterance: [samples] float32, mono, 16 kHz."""
    return load_audio(utterance.audio, utterance.start, utterance.duration)


def load_audio(path: str | Path, start: float = 0.0, duration: float | None = None) -> Tensor:
    """Decode a sound file (WAV, FLAC, OGG, MP3) to [samples] float32, mono, 16 kHz.

    Args:
        path: the file; channels are averaged, other rates resampled.
        start: where to begin, in seconds.
        duration: how much to read, in seconds; None reads to the end.

    Raises:
        UserError: the file is missing, is not audio, is truncated, has no samples in the stretch, or holds NaN
            or infinite samples, or nothing but digital silence.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"audio file {path} does not exist")
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            first = round(start * rate)
            wanted = file.frames - first if duration is None else round(duration * rate)
            if first >= file.frames or wanted <= 0:
                raise UserError(
                    f"audio file {path} has no samples from {start:g} s on: it lasts {file.frames / rate:g} s"
                )
            file.seek(first)
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UserError(f"audio file {path} cannot be decoded: {error.error_string.rstrip('.')}") from None
    # A cut may overshoot the end by the rounding of its times, never by more.
    if len(samples) < wanted - rate // 20:
        raise UserError(
            f"audio file {path} is truncated: {wanted} samples were announced, {len(samples)} could be read"
        )
    if not np.isfinite(samples).all():
        raise UserError(f"audio file {path} holds samples that are NaN or infinite")
    if not samples.any():
        raise UserError(f"audio file {path} is silent: every sample is zero")
    return resample(torch.from_numpy(samples.mean(axis=1)), rate)


def resample(waveform: Tensor, rate: int) -> Tensor:
    """[samples] at `rate` Hz to [samples] at 16 kHz, by windowed-sinc interpolation."""
    if rate == SAMPLE_RATE:
        return waveform
    from torchaudio.functional import resample as sinc_resample

    common = math.gcd(rate, SAMPLE_RATE)
    resampled: Tensor = sinc_resample(waveform, rate // common, SAMPLE_RATE // common)
    return resampled
