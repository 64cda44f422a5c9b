"""Sound files to waveforms: decode, cut, mix to mono, resample to 16 kHz."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.errors import UserError

SAMPLE_RATE = 16_000
"""Every upstream of this project takes 16 kHz."""

_UNKNOWN_FRAMES = 2**63 - 1
_STREAMED_BYTES = 0x7FFF_0000


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
        UserError: the file is missing, is not audio, is truncated, has no samples in the stretch, or holds
            NaN or infinite samples, or nothing but digital silence.
    """
    path = Path(path)
    with _open(path) as file:
        rate = file.samplerate
        first = round(start * rate)
        wanted = _announced_frames(file, path) - first if duration is None else round(duration * rate)
        if first >= file.frames or wanted <= 0:
            raise UserError(f"audio file {path} has no samples from {start:g} s on: it lasts {file.frames / rate:g} s")
        try:
            file.seek(first)
            samples = file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UserError(f"audio file {path} cannot be decoded: {_reason(error)}") from None
    # A cut may overshoot the end by the rounding of its times, never by more.
    if len(samples) < wanted - rate // 20:
        raise UserError(
            f"audio file {path} is truncated: {wanted} samples were announced, {len(samples)} could be read"
        )
    # Mixed first: channels in opposite phase are silent only together.
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise UserError(f"audio file {path} holds samples that are NaN or infinite")
    if not mono.any():
        raise UserError(f"audio file {path} is silent: every sample is zero")
    return resample(torch.from_numpy(mono), rate)


def utterance_seconds(utterance: Utterance) -> float:
    """How long an utterance lasts; a file's header is read only where the utterance does not say.

    Raises:
        UserError: the header has to be read, and the file is missing or not audio.
    """
    if utterance.duration is not None:
        return utterance.duration
    with _open(utterance.audio) as file:
        return max(0.0, float(file.frames / file.samplerate) - utterance.start)


def utterance_samples(utterance: Utterance) -> int:
    """How many samples at 16 kHz `load_utterance` gives, as far as the file's header tells.

    Raises:
        UserError: the file is missing, is not audio, or has no samples in the stretch.
    """
    with _open(utterance.audio) as file:
        rate = file.samplerate
        there = file.frames - round(utterance.start * rate)
        wanted = there if utterance.duration is None else min(there, round(utterance.duration * rate))
        if wanted <= 0:
            raise UserError(
                f"audio file {utterance.audio} has no samples from {utterance.start:g} s on: "
                f"it lasts {file.frames / rate:g} s"
            )
    if rate == SAMPLE_RATE:
        return int(wanted)
    common = math.gcd(rate, SAMPLE_RATE)
    # In float32, as torchaudio reckons it: near 2^24 samples the last one is a matter of rounding.
    return int(torch.ceil(torch.as_tensor((SAMPLE_RATE // common) * wanted / (rate // common))))


def resample(waveform: Tensor, rate: int) -> Tensor:
    """[samples] at `rate` Hz to [samples] at 16 kHz, by windowed-sinc interpolation."""
    if rate == SAMPLE_RATE:
        return waveform
    from torchaudio.functional import resample as sinc_resample

    common = math.gcd(rate, SAMPLE_RATE)
    resampled: Tensor = sinc_resample(waveform, rate // common, SAMPLE_RATE // common)
    return resampled


def _open(path: Path) -> soundfile.SoundFile:
    if not path.is_file():
        raise UserError(f"audio file {path} does not exist")
    if path.suffix.lower() == ".raw":
        raise UserError(f"audio file {path} has no header, so its rate is unknown; convert it to WAV or FLAC")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise UserError(f"audio file {path} cannot be decoded: {_reason(error)}") from None
    if file.frames == _UNKNOWN_FRAMES:
        raise UserError(f"audio file {path} does not say how long it is; write it again, to a file and not a pipe")
    return file


def _announced_frames(file: soundfile.SoundFile, path: Path) -> int:
    """The frames that the header announces.

    libsndfile shortens a truncated WAV, AIFF, AU or OGG file to the frames that are there, and says so only
    in its log. A size near the field's limit is what a program writes that streams and cannot know the size.

    Raises:
        UserError: an OGG file stops before its last page; its header announces no length.
    """
    log = file.extra_info
    if re.search(r"(?i)Ogg *: .*(end-of-stream|junk after the last page)", log):
        raise UserError(f"audio file {path} is truncated: its last page is missing or incomplete")
    shortfall = re.search(r"(?m)^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", log)
    if shortfall is None:
        return int(file.frames)
    announced, there = map(int, shortfall.groups())
    if announced >= _STREAMED_BYTES:
        return int(file.frames)
    return round(int(file.frames) * announced / max(there, 1))


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string.removeprefix("Error : ").rstrip("."))
