"""Decoding: every format and rate gives the right samples, every damaged file one sentence."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from disentangle_lightning.corpus.audio import load_audio, load_utterance, utterance_seconds
from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.errors import UserError


def tone(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def noise(samples: int) -> NDArray[np.float32]:
    """Does not compress, so that a cut of a file is a cut of its sound."""
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


def frequency(waveform: torch.Tensor) -> float:
    """The strongest frequency of a waveform at 16 kHz, in Hz."""
    return float(torch.fft.rfft(waveform).abs().argmax()) * 16_000 / len(waveform)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 96_000])
def test_a_tone_keeps_frequency_level_and_length_at_every_rate(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate), rate)
    waveform = load_audio(tmp_path / "a.wav")
    assert waveform.dtype == torch.float32
    assert waveform.shape == (16_000,)
    assert frequency(waveform) == 440
    expected = torch.from_numpy(tone(16_000))
    # The filter sees silence beyond both ends.
    assert torch.allclose(waveform[200:-200], expected[200:-200], atol=5e-3)


def test_what_16_khz_cannot_hold_is_filtered_out_and_not_folded_back(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(44_100, hertz=10_000), 44_100)
    assert load_audio(tmp_path / "a.wav")[200:-200].abs().max() < 0.005


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_each_format_holds_the_same_tone(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"a.{format.lower()}"
    soundfile.write(path, tone(16_000), 16_000, format=format)
    waveform = load_audio(path)
    assert frequency(waveform[:16_000]) == 440
    assert abs(len(waveform) - 16_000) < 1_200  # MP3 pads to whole frames
    assert waveform.abs().max() == pytest.approx(0.5, abs=0.05)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = tone(16_000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, 0 * left], axis=1), 16_000, subtype="FLOAT")
    assert torch.allclose(load_audio(tmp_path / "a.wav"), torch.from_numpy(left) / 2)


def test_a_cut_is_the_same_stretch_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(16_000), 16_000)
    whole = load_audio(path)
    assert torch.equal(load_audio(path, 0.25, 0.5), whole[4_000:12_000])
    assert torch.equal(load_audio(path, 0.25), whole[4_000:])
    assert torch.equal(load_utterance(Utterance("a", path, 0.25, 0.5)), whole[4_000:12_000])


def test_a_cut_may_overshoot_the_end_by_a_rounding_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(16_000), 16_000)
    assert len(load_audio(path, 0.5, 0.52)) == 8_000
    with pytest.raises(UserError, match="truncated: 16000 samples were announced, 8000 could be read"):
        load_audio(path, 0.5, 1.0)
    with pytest.raises(UserError, match="no samples from 1 s on: it lasts 1 s"):
        load_audio(path, 1.0)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_one_sample_is_decoded(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.5], np.float32), rate)
    waveform = load_audio(tmp_path / "a.wav")
    assert 1 <= len(waveform) <= 2
    assert torch.isfinite(waveform).all()


@pytest.mark.parametrize(
    "path", ["a.wav", "float.wav", "ulaw.wav", "a.aiff", "a.au", "a.flac", "a.ogg", "opus.ogg", "a.mp3"]
)
@pytest.mark.parametrize("kept", [0.6, 0.9])
def test_a_truncated_file_is_refused_and_not_silently_shortened(tmp_path: Path, path: str, kept: float) -> None:
    file = tmp_path / path
    subtype = {"float.wav": "FLOAT", "ulaw.wav": "ULAW", "opus.ogg": "OPUS"}.get(path)
    soundfile.write(file, noise(64_000), 16_000, subtype=subtype)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError, match=r"truncated|cannot be decoded"):
        load_audio(file)


def test_a_cut_before_the_truncation_can_still_be_used(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, noise(16_000), 16_000)
    whole = load_audio(file)
    file.write_bytes(file.read_bytes()[:20_000])
    assert torch.equal(load_audio(file, 0.0, 0.5), whole[:8_000])


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF])
def test_a_wav_streamed_without_a_known_size_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, noise(16_000), 16_000)
    content = bytearray(file.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", size)
    file.write_bytes(content)
    assert len(load_audio(file)) == 16_000


def test_a_flac_that_does_not_say_its_length_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.flac"
    soundfile.write(file, noise(16_000), 16_000)
    content = bytearray(file.read_bytes())
    content[21] &= 0xF0  # the 36-bit count of samples in STREAMINFO
    content[22:26] = bytes(4)
    file.write_bytes(content)
    with pytest.raises(UserError, match="does not say how long it is"):
        load_audio(file)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.wav", None, "does not exist"),
        ("a.wav", b"", "cannot be decoded"),
        ("a.wav", b"RIFF", "cannot be decoded"),
        ("a.mp3", b"hello", "cannot be decoded"),
        ("notes.txt", b"hello world\n" * 100, "cannot be decoded"),
        ("a.raw", b"\0\1" * 100, "has no header"),
    ],
)
def test_what_is_not_audio_is_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load_audio(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(UserError, match="has no samples from 0 s on"):
        load_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    samples = tone(16_000)
    samples[5_000] = bad
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(UserError, match="NaN or infinite"):
        load_audio(tmp_path / "a.wav")


def test_silence_is_refused_also_where_channels_cancel(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "zero.flac", np.zeros(16_000, np.float32), 16_000)
    left = tone(16_000)
    soundfile.write(tmp_path / "cancel.wav", np.stack([left, -left], axis=1), 16_000, subtype="FLOAT")
    for name in ("zero.flac", "cancel.wav"):
        with pytest.raises(UserError, match="is silent"):
            load_audio(tmp_path / name)


def test_the_length_of_an_utterance_comes_from_its_cut_or_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(16_000), 8_000)
    assert utterance_seconds(Utterance("a", path)) == 2.0
    assert utterance_seconds(Utterance("a", path, start=0.5)) == 1.5
    assert utterance_seconds(Utterance("a", tmp_path / "none.wav", duration=3.0)) == 3.0
    with pytest.raises(UserError, match="does not exist"):
        utterance_seconds(Utterance("a", tmp_path / "none.wav"))
