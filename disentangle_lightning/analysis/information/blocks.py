"""Which latent holds which factor: disentanglement, completeness and informativeness of two blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from disentangle_lightning.analysis.information.factors import Factor
from disentangle_lightning.analysis.information.readers import Floats, linear_answers
from disentangle_lightning.tasks.metrics import RESAMPLES


def dci(textual: tuple[Floats, Floats], acoustic: tuple[Floats, Floats], factors: Sequence[Factor]) -> dict[str, float]:
    """Disentanglement, completeness and informativeness (Eastwood and Williams 2018) of two blocks.

    What is known of factor j from a set S of blocks is v_j(S) = (a - 1/K) / (1 - 1/K), with a the mean over the K
    classes of how many of their test utterances linear discriminant analysis finds: 0 for whatever answers without
    looking, also where classes are rarer in one split than in the other. The importance of a block is its Shapley
    value, R_bj = (v_j(b) + v_j(both) - v_j(other)) / 2, or 0 where that is negative: what both blocks hold is halved
    between them. Factors are of two kinds, text and labels, and the importance of a block for a kind, R_bk, is the mean
    over its factors, for speaker and gender are not two things to a latent that was made to hold the voice.

        disentanglement of a block b:    1 - H2(R_bk / sum_k R_bk), weighted by sum_k R_bk over blocks
        completeness of a factor j:      1 - H2(R_bj / sum_b R_bj), weighted by sum_b R_bj over factors
        informativeness of a factor j:   v_j(both), the mean over factors

    H2 is the entropy in bits, all are 1 at best; the first two have no floor but 0, where every block holds the same of
    everything, and fall steeply from 1: a hundredth of the other kind costs 0.08. Nothing is said of factors that are
    not asked for, of what another reader finds, or of dimensions inside a block. Two blocks that hold nothing have no
    disentanglement; the figures are then left out. A label that follows from the words counts as text nowhere here, and
    what z_textual rightly knows of it lowers the figures. The intervals are bootstraps over test utterances.

    Args:
        textual: means over the utterances of the probes' split [U, d], and of the test split [U', d].
        acoustic: the same, [U, e] and [U', e].
        factors: of both kinds.

    Returns:
        `disentanglement`, also `.textual` and `.acoustic`, `completeness`, `informativeness`, and
        `importance.FACTOR.textual` and `.acoustic`, with intervals.
    """
    both = tuple(np.concatenate(sides, axis=1) for sides in zip(textual, acoustic, strict=True))
    correct = [np.stack([_correct(means, factor) for means in (textual, acoustic, both)]) for factor in factors]
    utterances = len(textual[1])
    draws = np.random.default_rng(0).multinomial(utterances, np.full(utterances, 1 / utterances), RESAMPLES)
    weights = np.concatenate([np.ones((1, utterances), np.int64), draws]).astype(float)
    known = np.stack([_known(c, factor, weights) for c, factor in zip(correct, factors, strict=True)])
    alone, together = known[:, :2], known[:, 2]
    importance = np.maximum(0.0, (alone + together[:, None] - alone[:, ::-1]) / 2)  # [J, 2, draws]
    is_text = np.array([factor.kind == "text" for factor in factors])
    of_kinds = np.stack([importance[is_text].mean(0), importance[~is_text].mean(0)])
    block_sums, factor_sums = of_kinds.sum(0), importance.sum(1)
    disentangled, complete = _certainty(of_kinds, 0), _certainty(importance, 1)
    drawn = {
        "disentanglement": _weighted(disentangled, block_sums),
        "disentanglement.textual": disentangled[0],
        "disentanglement.acoustic": disentangled[1],
        "completeness": _weighted(complete, factor_sums),
        "informativeness": together.mean(0),
    }
    for factor, shares in zip(factors, importance, strict=True):
        name = f"importance.{factor.key}"
        drawn |= {f"{name}.textual": shares[0], f"{name}.acoustic": shares[1]}
    figures: dict[str, float] = {}
    for name, values in drawn.items():
        if np.isfinite(values[0]):
            low, high = np.nanquantile(values[1:], [0.025, 0.975])
            figures |= {name: float(values[0]), f"{name}.ci_low": float(low), f"{name}.ci_high": float(high)}
    return figures


def _correct(means: tuple[Floats, ...], factor: Factor) -> Floats:
    """1 for each test utterance whose class is read right."""
    has = factor.fitted >= 0
    answers = linear_answers(means[0][has], factor.fitted[has], factor.count, means[1])
    right: Floats = (answers == factor.tested).astype(float)
    return right


def _known(correct: Floats, factor: Factor, weights: Floats) -> Floats:
    """(a - 1/K) / (1 - 1/K) of each set of blocks under weights [draws, U] of utterances: [3, draws].

    K counts the classes that a draw has; 0 where it is 1, so that there is nothing to know.
    """
    found, classes = np.zeros((len(correct), len(weights))), np.zeros(len(weights))
    for place in range(factor.count):
        members = weights * (factor.tested == place)
        total = members.sum(1)
        found += np.where(total > 0, correct @ members.T / np.maximum(total, 1), 0.0)
        classes += total > 0
    chance = 1 / np.maximum(classes, 1)
    known: Floats = np.where(classes > 1, (found * chance - chance) / np.maximum(1 - chance, 0.5), 0.0)
    return known


def _certainty(shares: Floats, axis: int) -> Floats:
    """1 - the entropy in bits of two shares along an axis; NaN where both are 0."""
    total = shares.sum(axis, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = shares / total
        entropy = -np.where(p > 0, p * np.log2(p), 0.0).sum(axis)
    certainty: Floats = np.where(total.squeeze(axis) > 0, 1 - entropy, np.nan)
    return certainty


def _weighted(values: Floats, weights: Floats) -> Floats:
    """The mean over the first axis, without what has no value."""
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(weights > 0, values * weights, 0.0).sum(0) / weights.sum(0)
    return mean
