"""Praat's measures are right where the answer is known, and each clip is measured once."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from disentangle_lightning.corpus import praat
from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.corpus.praat import MEASURES, measure, measure_corpus
from disentangle_lightning.errors import UserError

RATE = 16_000


def pulses(jitter: float, shimmer: float = 0.0, pitch: float = 125.0, seconds: float = 1.0) -> NDArray[np.float32]:
    """A train of band-limited pulses, every other period longer, and every other pulse louder, by these shares."""
    wave = np.zeros(int(RATE * seconds))
    time, step = 0.02, 0
    samples = np.arange(len(wave)) / RATE
    while time < seconds - 0.02:
        near = np.abs(samples - time) < 0.01
        sign = 1 if step % 2 else -1
        wave[near] += (1 + sign * shimmer / 2) * np.exp(-(((samples[near] - time) * 1500) ** 2))
        time += (1 + sign * jitter / 2) / pitch
        step += 1
    return (0.5 * wave).astype(np.float32)


def tone(pitch: float, amplitude: float = 0.3, seconds: float = 1.0) -> NDArray[np.float32]:
    return (amplitude * np.sin(2 * np.pi * pitch * np.arange(int(RATE * seconds)) / RATE)).astype(np.float32)


def test_a_tone_of_200_hz_has_a_pitch_of_200_hz():
    values = measure(tone(200))
    assert values["pitch"] == pytest.approx(200, rel=0.01)
    assert values["pitch_deviation"] < 1
    assert values["length"] == 1.0


def test_a_tone_that_rises_has_a_deviation_of_pitch():
    time = np.arange(RATE) / RATE
    rising = (0.3 * np.sin(2 * np.pi * (150 * time + 50 * time**2))).astype(np.float32)  # 150 to 250 Hz
    values = measure(rising)
    assert values["pitch"] == pytest.approx(200, rel=0.02)
    assert values["pitch_deviation"] == pytest.approx(100 / math.sqrt(12), rel=0.1)  # of an even spread


def test_ten_times_the_amplitude_is_20_db_more():
    quiet, loud = measure(tone(200, 0.05)), measure(tone(200, 0.5))
    assert loud["intensity"] - quiet["intensity"] == pytest.approx(20, abs=0.1)
    assert loud["intensity_deviation"] == pytest.approx(quiet["intensity_deviation"], abs=0.1)
    # A sine's power is half its amplitude squared; the reference is 20 µPa.
    assert loud["intensity"] == pytest.approx(10 * math.log10(0.5**2 / 2 / 4e-10), abs=0.1)


def test_jitter_and_shimmer_are_those_of_the_pulses():
    even = measure(pulses(0))
    assert even["jitter"] < 0.002
    assert even["shimmer"] < 0.02
    assert measure(pulses(jitter=0.03))["jitter"] == pytest.approx(0.03, rel=0.15)
    loud = measure(pulses(0, shimmer=0.1))
    assert loud["shimmer"] == pytest.approx(0.1, rel=0.15)
    assert loud["jitter"] < 0.005


def test_what_is_not_defined_is_not_a_number():
    noise = (0.1 * np.random.default_rng(0).normal(size=RATE)).astype(np.float32)
    values = measure(noise)
    assert {name for name, value in values.items() if math.isnan(value)} == {
        "pitch", "pitch_deviation", "jitter", "shimmer",
    }  # fmt: skip
    short = measure(noise[:500])
    assert {name for name, value in short.items() if not math.isnan(value)} == {"length"}


@pytest.fixture
def clips(tmp_path: Path) -> list[Utterance]:
    """Five tones."""
    found = []
    for i in range(5):
        soundfile.write(tmp_path / f"{i}.wav", tone(150 + 50 * i, seconds=0.3), RATE)
        found.append(Utterance(f"u{i}", tmp_path / f"{i}.wav"))
    return found


def test_a_corpus_is_measured_once_and_goes_on_where_it_stopped(
    clips: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "praat.jsonl"
    whole = measure_corpus(clips, file)
    assert [round(whole[f"u{i}"]["pitch"]) for i in range(5)] == [150, 200, 250, 300, 350]
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + len(clips)

    file.write_text("".join(lines[:3]) + lines[3][:20])  # stopped in the middle of the third clip
    measured = []

    def counted(waveform: NDArray[np.float32]) -> dict[str, float]:
        measured.append(len(waveform))
        return measure(waveform)

    monkeypatch.setattr(praat, "measure", counted)
    assert str(measure_corpus(clips, file)) == str(whole)
    assert len(measured) == 3
    assert file.read_text().splitlines(keepends=True) == lines
    assert str(measure_corpus(clips, file)) == str(whole)
    assert len(measured) == 3
    assert list(whole["u0"]) == list(MEASURES)


def test_audio_that_cannot_be_read_is_named_and_what_came_before_is_kept(
    clips: list[Utterance], tmp_path: Path
) -> None:
    clips[2].audio.rename(tmp_path / "gone.wav")
    with pytest.raises(UserError, match="does not exist"):
        measure_corpus(clips, tmp_path / "praat.jsonl")
    assert len((tmp_path / "praat.jsonl").read_text().splitlines()) == 3
    (tmp_path / "gone.wav").rename(clips[2].audio)
    assert list(measure_corpus(clips, tmp_path / "praat.jsonl")) == [clip.id for clip in clips]


def test_measures_of_other_audio_are_refused(clips: list[Utterance], tmp_path: Path) -> None:
    file = tmp_path / "praat.jsonl"
    measure_corpus(clips[:2], file)
    with pytest.raises(UserError, match="holds measures of other audio; delete it"):
        measure_corpus(clips[1:3], file)
