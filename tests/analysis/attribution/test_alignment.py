"""Forced alignment of planted logits has a known answer; prosody of a planted tone, too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from disentangle_lightning.analysis.attribution.alignment import Span, align
from disentangle_lightning.analysis.attribution.findings import alignment_figures
from disentangle_lightning.analysis.attribution.prosody import measure_prosody
from disentangle_lightning.corpus.tokenizer import CTCTokenizer

TOKENIZER = CTCTokenizer("ABC")


def planted_logits(path: str, certainty: float = 8.0) -> Tensor:
    """[T, V], in which each frame says one token of a path; `-` is the blank."""
    ids = [0 if token == "-" else TOKENIZER.tokens.index(token) for token in path]
    return certainty * torch.eye(len(TOKENIZER))[ids]


def places(spans: list[Span]) -> list[tuple[str, int, int]]:
    return [(span.text, span.begin, span.end) for span in spans]


def test_words_and_letters_are_where_they_were_planted() -> None:
    found = align(planted_logits("--AA-B-|--C-CC-"), "ab cc", TOKENIZER)
    assert found is not None
    assert places(found.words) == [("AB", 2, 6), ("CC", 10, 14)]
    assert places(found.letters) == [("A", 2, 4), ("B", 5, 6), ("|", 7, 8), ("C", 10, 11), ("C", 12, 14)]
    assert all(word.probability > 0.99 for word in found.words)


def test_a_transcription_that_was_not_said_is_aligned_with_little_probability() -> None:
    said, not_said = (align(planted_logits("--AA-B-|--C-CC-"), text, TOKENIZER) for text in ("AB CC", "CC AB"))
    assert said is not None
    assert not_said is not None
    figures = alignment_figures("x", {"said": said, "not said": not_said, "too short": None})
    assert (figures["x.aligned"], figures["x.infeasible"]) == (2, 1)
    assert max(word.probability for word in not_said.words) < 0.5
    assert 0.4 < figures["x.probability"] < 0.8


def test_the_letters_of_a_word_weigh_as_much_as_their_frames() -> None:
    logits = planted_logits("AAAB", certainty=20.0)
    logits[3] = 0  # B is as likely as every other of the five tokens
    found = align(logits, "AB", TOKENIZER)
    assert found is not None
    assert found.words[0].probability == pytest.approx((3 * 1 + 1 * 0.2) / 4, abs=1e-3)


@pytest.mark.parametrize(("path", "text"), [("AB", "ABC"), ("AA", "AA"), ("-A|", "A CA")])
def test_more_letters_than_frames_are_infeasible(path: str, text: str) -> None:
    assert align(planted_logits(path), text, TOKENIZER) is None


def test_as_many_frames_as_letters_are_enough() -> None:
    found = align(planted_logits("A-A"), "AA", TOKENIZER)
    assert found is not None
    assert places(found.letters) == [("A", 0, 1), ("A", 2, 3)]


def test_pitch_and_intensity_are_those_of_the_sound_at_each_frame() -> None:
    time = torch.arange(16_000) / 16_000
    loud_then_soft = torch.where(time < 0.5, 0.4, 0.1)
    tone = loud_then_soft * torch.sin(2 * torch.pi * 220 * time)
    tone[14_000:] = 0
    found = measure_prosody(tone, frames=50, frame_rate=50.0)
    assert found.pitch.shape == found.intensity.shape == (50,)
    assert found.pitch[5:40] == pytest.approx(220, abs=2)
    assert np.isnan(found.pitch[-4:]).all()
    decibels = np.nanmean(found.intensity[5:20]) - np.nanmean(found.intensity[30:40])
    assert decibels == pytest.approx(20 * np.log10(4), abs=0.5)


def test_a_sound_too_short_for_praat_has_no_prosody() -> None:
    found = measure_prosody(torch.ones(1_000), frames=3, frame_rate=50.0)
    assert np.isnan(found.pitch).all()
    assert np.isnan(found.intensity).all()
