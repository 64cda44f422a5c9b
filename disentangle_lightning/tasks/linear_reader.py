"""Linear read-outs in closed form, fitted on sums alone: the same whatever the batches, and on any number of processes.

For utterances with means x [d] and outcomes y [K], all that a fit needs is the sum of [1, x, y]^T [1, x, y].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Reader = Callable[[Array], Array]
"""Means [U, d] to what is read from them, [U, K]."""


def moments(means: Array, outcomes: Array) -> Array:
    """The sum over U utterances of [1, x, y]^T [1, x, y], from [U, d] and [U, K]: a square of 1 + d + K."""
    rows = np.concatenate([np.ones((len(means), 1)), means, outcomes], axis=1)
    products: Array = rows.T @ rows
    return products


def fit_classes(sums: Array, dim: int) -> Reader:
    """Linear discriminant analysis: the log-odds of each class, to which a constant may be added.

    Classes share one covariance, shrunk as in `shrink`, and keep the frequencies that they have, so that where nothing
    can be read, the commonest class is answered.

    Args:
        sums: `moments` with one-hot outcomes.
        dim: d.
    """
    total, mean, scale = _centre(sums, dim)
    counts, present = np.diag(sums)[1 + dim :], np.diag(sums)[1 + dim :] > 0
    class_means = (sums[1 + dim :, 1 : 1 + dim] / np.maximum(counts, 1)[:, None] - mean) / scale
    class_means[~present] = 0.0
    second = sums[1 : 1 + dim, 1 : 1 + dim] / total - np.outer(mean, mean)
    within = second / np.outer(scale, scale) - (class_means.T * counts) @ class_means / total
    weights = np.linalg.solve(shrink(within, total), class_means.T)
    priors = np.log(np.where(present, counts, 1) / total)
    bias = np.where(present, priors - 0.5 * (class_means * weights.T).sum(axis=1), -np.inf)
    return lambda means: (means - mean) / scale @ weights + bias


def fit_values(sums: Array, dim: int) -> Reader:
    """Least squares with a covariance shrunk as in `shrink`: the expected outcomes.

    Args:
        sums: `moments`.
        dim: d.
    """
    total, mean, scale = _centre(sums, dim)
    outcome = sums[0, 1 + dim :] / total
    second = sums[1 : 1 + dim, 1 : 1 + dim] / total - np.outer(mean, mean)
    common = (sums[1 : 1 + dim, 1 + dim :] / total - np.outer(mean, outcome)) / scale[:, None]
    weights = np.linalg.solve(shrink(second / np.outer(scale, scale), total), common)
    return lambda means: (means - mean) / scale @ weights + outcome


def shrink(covariance: Array, samples: float) -> Array:
    """Move a covariance [d, d] towards a multiple of the identity, by as much as so few samples ask for.

    OAS, the oracle approximating shrinkage (arXiv 0907.4698, equation 23): the share that has the least expected error
    for Gaussian samples. Without it, a fit on fewer utterances than dimensions would read noise.
    """
    dim = len(covariance)
    spread, square = np.trace(covariance) / dim, np.mean(covariance**2)
    most = (samples + 1) * (square - spread**2 / dim)
    share = min(1.0, (square + spread**2) / most) if most > 0 else 1.0
    shrunk: Array = (1 - share) * covariance + share * (spread if spread > 0 else 1.0) * np.eye(dim)
    return shrunk


def _centre(sums: Array, dim: int) -> tuple[float, Array, Array]:
    """How many utterances, their mean and standard deviation [d]; a dimension that never changes has deviation 1."""
    total = float(sums[0, 0])
    mean = sums[0, 1 : 1 + dim] / total
    square = np.diag(sums)[1 : 1 + dim] / total
    variance = square - mean**2
    varies = variance > 1e-12 * square  # what is left of a constant after rounding is no variance
    return total, mean, np.sqrt(np.where(varies, variance, 1.0))
