"""How a clip sounds, in Praat's measures: pitch, intensity, jitter, shimmer; each clip measured once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disentangle_lightning.atomic import write_text
from disentangle_lightning.corpus.audio import SAMPLE_RATE, load_utterance
from disentangle_lightning.corpus.manifest import Utterance, audio_hash
from disentangle_lightning.errors import UserError

MEASURES = {
    "pitch": "mean pitch (Hz)",
    "pitch_deviation": "deviation of pitch (Hz)",
    "intensity": "mean intensity (dB)",
    "intensity_deviation": "deviation of intensity (dB)",
    "jitter": "local jitter",
    "shimmer": "local shimmer",
    "length": "duration (s)",
}
"""The acoustic targets of arXiv 2410.03037, and what each is; `duration` itself is a field of the manifest."""

# Praat's own standard settings: periods of 0.1 to 20 ms that differ by a factor of 1.3 at most, peaks by 1.6.
_PERIODS = (0, 0, 0.0001, 0.02, 1.3)
_PEAK_FACTOR = 1.6

Track = Callable[[Sequence[Utterance]], Iterable[Utterance]]


def measure(waveform: NDArray[np.float32]) -> dict[str, float]:
    """Every measure of `MEASURES` of one clip; NaN where it is not defined.

    Pitch is the mean over voiced frames of Praat's autocorrelation method, 75 to 600 Hz; intensity the mean energy,
    in dB above 20 µPa if a sample of 1 were 1 Pa, so that it depends on the recording level. Jitter is the mean
    difference of neighbouring periods over the mean period, shimmer that of neighbouring peaks over the mean peak
    (Praat manual, "Voice: Get jitter (local)"). Nothing but intensity and length is defined in a clip without voice,
    and only length in one of under 64 ms. Do not trust pitch of noisy or creaky speech, where octaves are missed, nor
    compare jitter and shimmer of recordings of different quality: noise and compression raise both.

    Args:
        waveform: [samples] at 16 kHz.
    """
    import parselmouth
    from parselmouth.praat import call

    values = dict.fromkeys(MEASURES, math.nan) | {"length": len(waveform) / SAMPLE_RATE}
    sound = parselmouth.Sound(waveform.astype(np.float64), SAMPLE_RATE)
    try:
        intensity = sound.to_intensity()
        values["intensity"] = call(intensity, "Get mean", 0, 0, "energy")
        values["intensity_deviation"] = call(intensity, "Get standard deviation", 0, 0)
        pitch = sound.to_pitch()
        values["pitch"] = call(pitch, "Get mean", 0, 0, "Hertz")
        values["pitch_deviation"] = call(pitch, "Get standard deviation", 0, 0, "Hertz")
        pulses = call([sound, pitch], "To PointProcess (cc)")
        values["jitter"] = call(pulses, "Get jitter (local)", *_PERIODS)
        values["shimmer"] = call([sound, pulses], "Get shimmer (local)", *_PERIODS, _PEAK_FACTOR)
    except parselmouth.PraatError:
        pass  # the clip is shorter than a window: what was measured before stays
    return values


def measure_corpus(
    utterances: Sequence[Utterance], file: Path, track: Track = iter, skip_unreadable: bool = False
) -> dict[str, dict[str, float]]:
    """{id: `measure`} of every utterance.

    A line is written as soon as a clip is measured, so that the same call goes on after an interruption.

    Args:
        utterances: of which audio.
        file: the JSONL in which they are kept; its first line says of which audio they are.
        track: shows progress over those that are still to be measured.
        skip_unreadable: leaves out an utterance whose audio cannot be read.

    Raises:
        UserError: the file holds measures of other audio, or audio cannot be read.
    """
    heading = json.dumps({"audio": audio_hash(utterances, file.parent)})
    done = _read(file, heading)
    with file.open("a", encoding="utf-8") as out:
        if not done:
            out.truncate(0)
            out.write(f"{heading}\n")
        for utterance in track([u for u in utterances if u.id not in done]):
            try:
                waveform = load_utterance(utterance).numpy()
            except UserError:
                if skip_unreadable:
                    continue
                raise
            done[utterance.id] = measure(waveform)
            values = {name: None if math.isnan(value) else value for name, value in done[utterance.id].items()}
            out.write(json.dumps({"id": utterance.id} | values) + "\n")
            out.flush()
    return done


def _read(file: Path, heading: str) -> dict[str, dict[str, float]]:
    """What an earlier run measured; its last line may have been cut off, and then is cut off here."""
    if not file.is_file():
        return {}
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(file, whole)
    first, *lines = whole.splitlines() or [heading]
    if first != heading:
        raise UserError(f"{file} holds measures of other audio; delete it to measure anew")
    records = [json.loads(line) for line in lines]
    return {
        record.pop("id"): {name: math.nan if value is None else value for name, value in record.items()}
        for record in records
    }
