"""Detection: what a threshold on a score accepts, rightly and wrongly, with intervals over speakers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

FALSE_POSITIVES = 0.01
"""The share of wrong alarms that an attacker who must be sure allows himself."""

RESAMPLES = 500
_CELLS = 4_000_000
"""Weights that are held in memory at once."""


@dataclass(frozen=True)
class Trials:
    """T questions, to each of which the right answer is yes (a target) or no.

    Attributes:
        scores: [T], higher for yes.
        targets: [T], where the answer is yes.
        first, second: [T], whose speech a trial is made of, by the speakers' numbers; the same where there is one.
    """

    scores: Floats
    targets: Flags
    first: Indices
    second: Indices

    @property
    def speakers(self) -> int:
        """How many there are, if all up to the largest number occur."""
        return int(max(self.first.max(), self.second.max())) + 1

    @property
    def answerable(self) -> bool:
        """Whether either answer is right at least once."""
        return bool(self.targets.any() and not self.targets.all())


def detection_figures(name: str, trials: Trials) -> dict[str, float]:
    """`NAME.eer` and `NAME.tpr_at_1_fpr`, both from 0 to 1, with 95 % intervals over speakers.

    The equal error rate is where as large a share of the targets is refused as of the others accepted: 0.5 where the
    score knows nothing, 0 where it always knows. Between two thresholds it lies on the line that joins them (Fawcett,
    An introduction to ROC analysis, 2006: an attacker gets there by tossing a coin). The true positive rate at 1 %
    false positives is that of the lowest threshold that accepts at most 1 % of the others (arXiv 2112.03570, section
    III): 0.01 or less where the score knows nothing. Trials with the same score are accepted together.

    When not to trust them: an equal error rate of 0.5 can hide an attacker who is sure of few; below 100 trials that
    are no targets, 1 % allows none of them; below ten speakers the interval is too narrow.
    """
    curve = _Curve(trials)
    once = curve.at(np.ones((1, len(trials.scores))))
    drawn = [curve.at(weights) for weights in _weights(trials)]
    figures: dict[str, float] = {}
    for place, kind in enumerate(("eer", "tpr_at_1_fpr")):
        figures[f"{name}.{kind}"] = float(once[place][0])
        spread = np.concatenate([rates[place] for rates in drawn])
        figures[f"{name}.{kind}.ci_low"], figures[f"{name}.{kind}.ci_high"] = percentiles(spread)
    return figures


def one_against_rest(scores: Floats, classes: Indices, speakers: Indices) -> tuple[float, Floats]:
    """The true positive rate at 1 % false positives of every class against all others, averaged over classes.

    Each class has a threshold of its own; classes that no utterance has, or all have, are left out. A guess gets 0.01.

    Args:
        scores: [U, classes], such as log-odds.
        classes: [U], the right ones.
        speakers: [U], numbers from 0.

    Returns:
        the mean, and [RESAMPLES] means of resampled speakers.
    """
    once, drawn = [], []
    for place in range(scores.shape[1]):
        trials = Trials(scores[:, place], classes == place, speakers, speakers)
        if trials.answerable:
            curve = _Curve(trials)
            once.append(float(curve.at(np.ones((1, len(classes))))[1][0]))
            drawn.append(np.concatenate([curve.at(weights)[1] for weights in _weights(trials)]))
    # Where none of a class was drawn, its rate is not a number and the others speak for it.
    return float(np.mean(once)), _mean_of_known(np.stack(drawn))


def percentiles(values: Floats) -> tuple[float, float]:
    """What 95 % of the values that are numbers lie between."""
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def draws_of_speakers(speakers: int) -> Floats:
    """[RESAMPLES, speakers]: how often each is drawn, of as many as there are with replacement. Deterministic."""
    draws = np.random.default_rng(0).integers(speakers, size=(RESAMPLES, speakers))
    return np.stack([np.bincount(draw, minlength=speakers) for draw in draws]).astype(float)


class _Curve:
    """Trials in the order in which a falling threshold accepts them."""

    def __init__(self, trials: Trials) -> None:
        self._order = np.argsort(-trials.scores, kind="stable")
        scores = trials.scores[self._order]
        self._last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        self._targets = trials.targets[self._order]

    def at(self, weights: Floats) -> tuple[Floats, Floats]:
        """Equal error rates and true positive rates at 1 % [R] with R weights of each trial, [R, T]."""
        sorted_weights = weights[:, self._order]
        accepted = self._shares(np.where(self._targets, sorted_weights, 0.0))
        alarms = self._shares(np.where(self._targets, 0.0, sorted_weights))
        rows = np.arange(len(weights))
        gap = 1 - accepted - alarms  # falls from 1, where nothing is accepted, to -1
        after = np.argmax(gap <= 0, axis=1)
        before = after - 1
        part = gap[rows, before] / (gap[rows, before] - gap[rows, after])
        equal = alarms[rows, before] + part * (alarms[rows, after] - alarms[rows, before])
        within = np.maximum((alarms <= FALSE_POSITIVES + 1e-9).sum(axis=1) - 1, 0)
        known = np.isfinite(gap[:, 0])
        return np.where(known, equal, np.nan), np.where(known, accepted[rows, within], np.nan)

    def _shares(self, weights: Floats) -> Floats:
        """[R, 1 + thresholds]: how much of the weight lies above each threshold; not a number where there is none."""
        sums = np.cumsum(weights, axis=1)[:, self._last]
        total = np.where(sums[:, -1:] > 0, sums[:, -1:], np.nan)
        shares: Floats = np.concatenate([np.zeros_like(total), sums], axis=1) / total
        return shares


def _weights(trials: Trials) -> Iterator[Floats]:
    """The weights [R, T] of trials in every draw of speakers, some draws at a time.

    A speaker drawn twice counts twice, a pair of two speakers as often as there are pairs of their copies (the subset
    bootstrap: Bolle, Ratha and Pankanti, Error analysis of pattern recognition systems, 2004). Trials that share a
    speaker are not independent, so neither trials nor utterances may be drawn by themselves.
    """
    draws = draws_of_speakers(trials.speakers)
    at_once = max(1, _CELLS // len(trials.scores))
    same = trials.first == trials.second
    for start in range(0, len(draws), at_once):
        some = draws[start : start + at_once]
        yield some[:, trials.first] * np.where(same, 1.0, some[:, trials.second])


def _mean_of_known(values: Floats) -> Floats:
    """The mean over the first axis of what is a number."""
    known = np.isfinite(values)
    means: Floats = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return means
