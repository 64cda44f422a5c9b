"""Corpus-level figures with bootstrap intervals: word errors, accuracy, leakage, rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Interval = tuple[float, float]
Figure = TypeVar("Figure", float, Tensor)

RESAMPLES = 1000
ACTIVE_NATS = 0.01
"""A latent dimension is active where its KL exceeds this many nats per frame, as in arXiv 1611.02731."""


def bits_per_second(nats_per_frame: Figure, frame_rate: float) -> Figure:
    """The rate of a code: KL in nats per frame, times frames per second, in bits."""
    return nats_per_frame * frame_rate / math.log(2)


def nats_per_frame(bits_per_second: float, frame_rate: float) -> float:
    """The KL of a code of this rate, in nats per frame."""
    return bits_per_second * math.log(2) / frame_rate


def bootstrap_ratio(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> Interval:
    """95 % percentile interval of sum(numerators) / sum(denominators) over resampled utterances.

    The utterance is the unit that is resampled, so the interval holds for more utterances of the same speakers;
    it says nothing about other speakers or other training seeds. Deterministic.
    """
    draws = np.random.default_rng(0).integers(len(numerators), size=(RESAMPLES, len(numerators)))
    ratios = numerators[draws].sum(axis=1) / denominators[draws].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def transcription_figures(name: str, references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """`NAME.wer` and `NAME.cer` with intervals: errors summed over the corpus, over words or characters summed.

    Never a mean of means: a short utterance does not weigh as much as a long one.
    """
    import jiwer

    figures: dict[str, float] = {}
    for measure, process in (("wer", jiwer.process_words), ("cer", jiwer.process_characters)):
        errors, units = [], []
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            counts = process(reference, hypothesis)
            errors.append(counts.substitutions + counts.deletions + counts.insertions)
            units.append(counts.substitutions + counts.deletions + counts.hits)
        figures |= _with_interval(f"{name}.{measure}", np.array(errors, float), np.array(units, float))
    return figures


def classification_figures(
    name: str, targets: Sequence[int], predictions: Sequence[int], training_counts: Sequence[int]
) -> dict[str, float]:
    """`NAME.accuracy`, `.chance` and `.leakage` with intervals, for utterances whose label is known.

    Chance is the accuracy of always answering the class that is most frequent in training. Leakage is
    (accuracy - chance) / (1 - chance): 0 is chance, 1 is perfect, and it may fall below zero by accident.

    Args:
        training_counts: utterances of each class in the split that the classifier was trained on.
    """
    target = np.asarray(targets)
    correct = (target == np.asarray(predictions)).astype(float)
    ones = np.ones_like(correct)
    figures = _with_interval(f"{name}.accuracy", correct, ones)
    chance = float((target == int(np.argmax(training_counts))).mean())
    figures[f"{name}.chance"] = chance
    if chance < 1:
        for suffix in ("", ".ci_low", ".ci_high"):
            accuracy = figures[f"{name}.accuracy{suffix}"]
            figures[f"{name}.leakage{suffix}"] = (accuracy - chance) / (1 - chance)
    return figures


def rate_figures(name: str, kl_per_dimension: NDArray[np.float64], frame_rate: float) -> dict[str, float]:
    """`NAME.kl_nats_per_frame`, `.rate_bits_per_second` and `.active_dimensions`.

    Args:
        kl_per_dimension: [d], the mean over frames of each dimension's KL, in nats.
    """
    total = float(kl_per_dimension.sum())
    return {
        f"{name}.kl_nats_per_frame": total,
        f"{name}.rate_bits_per_second": bits_per_second(total, frame_rate),
        f"{name}.active_dimensions": float((kl_per_dimension > ACTIVE_NATS).sum()),
    }


def _with_interval(name: str, numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> dict[str, float]:
    low, high = bootstrap_ratio(numerators, denominators)
    return {
        name: float(numerators.sum() / denominators.sum()),
        f"{name}.ci_low": low,
        f"{name}.ci_high": high,
    }
