"""Pitch and intensity of each frame, by Praat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from disentangle_lightning.corpus.audio import SAMPLE_RATE

Floats = NDArray[np.float64]

PITCH_RANGE = (75.0, 600.0)
"""Hz: Praat's own default, which holds every adult voice and most children's."""

_WINDOW_PERIODS = 6.4
"""Praat measures intensity over so many periods of the lowest pitch, and refuses a shorter sound."""


@dataclass(frozen=True)
class Prosody:
    """Of an utterance with T frames.

    Attributes:
        pitch: [T] Hz; NaN where the frame has no voice.
        intensity: [T] dB relative to 2e-5 Pa, if the samples were pascals; NaN within half a window of either end.
    """

    pitch: Floats
    intensity: Floats


def measure_prosody(waveform: Tensor, frames: int, frame_rate: float) -> Prosody:
    """Praat's pitch (autocorrelation) and intensity at the middle of each frame.

    Args:
        waveform: [samples] at 16 kHz; one under 86 ms, too short for Praat, gives NaN throughout.
        frames: T.
        frame_rate: frames per second.
    """
    import parselmouth

    lowest, highest = PITCH_RANGE
    if len(waveform) < _WINDOW_PERIODS / lowest * SAMPLE_RATE:
        return Prosody(np.full(frames, np.nan), np.full(frames, np.nan))
    sound = parselmouth.Sound(waveform.double().numpy(), SAMPLE_RATE)
    pitch = sound.to_pitch(pitch_floor=lowest, pitch_ceiling=highest)
    intensity = sound.to_intensity(minimum_pitch=lowest)
    middles = (np.arange(frames) + 0.5) / frame_rate
    return Prosody(
        np.array([pitch.get_value_at_time(middle) for middle in middles]),
        np.array([intensity.get_value(middle) for middle in middles]),
    )
