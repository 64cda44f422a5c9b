"""Does each dimension of a latent know of text alone, or of labels alone?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from disentangle_lightning.analysis.information.factors import Factor
from disentangle_lightning.analysis.information.kernels import GROUPS
from disentangle_lightning.analysis.information.readers import Classes, Floats

BINS = 5
"""Into which each dimension is cut for its mutual information with a factor: quantiles of the probes' split."""


def modularity(fitted: Floats, tested: Floats, factors: Sequence[Factor]) -> dict[str, float]:
    """`modularity` (Ridgeway and Mozer 2018) of the dimensions of a representation, with its interval.

        sum_i m_i (1 - (n_i / m_i)^2) / sum_i m_i

    with m_i and n_i the larger and the smaller of the mutual information of dimension i with text and with labels: 1 if
    each dimension knows of one kind alone, 0 if it knows as much of either. The mutual information is that of `BINS`
    quantiles, less its bias for so many utterances, over the entropy of the factor, in the mean over the factors of a
    kind. Unlike the original, dimensions weigh by what they know, for on few utterances those that know nothing are
    noise. It sees one dimension at a time: what only several tell together is missed. The interval is a jackknife over
    groups of utterances.

    Args:
        fitted: means [U, d] that cut the bins.
        tested: other means [U', d], that are measured.
        factors: of both kinds.
    """
    edges = np.quantile(fitted, np.arange(1, BINS) / BINS, axis=0)
    bins = (tested[:, None, :] > edges).sum(1)
    owner = np.arange(len(tested)) % min(GROUPS, len(tested))
    value = _modularity(bins, factors)
    without = np.array(
        [_modularity(bins[owner != group], _tested(factors, owner != group)) for group in range(owner.max() + 1)]
    )
    if not np.isfinite(value):
        return {}
    error = 1.96 * float(np.sqrt(owner.max() * np.nanvar(without)))
    low, high = max(0.0, value - error), min(1.0, value + error)
    return {"modularity": value, "modularity.ci_low": low, "modularity.ci_high": high}


def _modularity(bins: Classes, factors: Sequence[Factor]) -> float:
    of_kinds = []
    for kind in ("text", "label"):
        shares = [_information(bins, factor) for factor in factors if factor.kind == kind]
        of_kinds.append(np.maximum(0.0, np.mean(shares, axis=0)))
    most, least = np.maximum(*of_kinds), np.minimum(*of_kinds)
    if not most.sum() > 0:
        return float("nan")
    ratio = least / np.where(most > 0, most, 1.0)
    return float((most * (1 - ratio**2)).sum() / most.sum())


def _information(bins: Classes, factor: Factor) -> Floats:
    """Mutual information of each dimension [U, d] with a factor, less its bias, over the factor's entropy: [d]."""
    has = factor.tested >= 0
    members = np.eye(factor.count)[factor.tested[has]]
    total = max(len(members), 1)
    joint = np.stack([(bins[has] == place).T @ members for place in range(BINS)], axis=1) / total  # [d, BINS, classes]
    of_bin, of_class = joint.sum(2, keepdims=True), joint.sum(1, keepdims=True)
    expected = of_bin * of_class
    nats = np.where(joint > 0, joint * np.log(np.where(joint > 0, joint, 1) / np.where(joint > 0, expected, 1)), 0)
    # The bias of Miller (1955): (bins - 1)(classes - 1) / 2U, of those that are in use.
    bias = ((of_bin > 0).sum((1, 2)) - 1) * ((of_class > 0).sum((1, 2)) - 1) / (2 * total)
    shares = members.mean(0) if len(members) else np.zeros(factor.count)
    entropy = float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    information: Floats = (nats.sum((1, 2)) - bias) / entropy if entropy > 0 else np.zeros(bins.shape[1])
    return information


def _tested(factors: Sequence[Factor], chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[Factor]:
    return [replace(factor, tested=factor.tested[chosen]) for factor in factors]
