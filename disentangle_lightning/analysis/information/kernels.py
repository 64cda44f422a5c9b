"""Dependence of two representations without training: HSIC and linear CKA."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from disentangle_lightning.analysis.information.pairs import Dependence, Floats, Pairs, random_pairings

MOST_PAIRS = 2000
"""Time and memory grow with the square of the pairs; beyond so many, utterances are drawn at random."""

GROUPS = 20
"""Of utterances, each left out once by the jackknife."""

Kernel = Literal["linear", "gaussian"]
Grams = NDArray[np.float32]


def alignment(pairs: Pairs, kernel: Kernel, permutations: int) -> Dependence:
    """How alike two representations see the similarities between utterances, from 0, independent, to 1, the same.

        HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))

    with the unbiased HSIC, see `u_centred`. With K = X X^T it is linear CKA (arXiv 1905.00414; debiased as in
    arXiv 2010.15327): blind to rotation and scale, and to what is not linear. With the Gaussian kernel, its width the
    median distance between pairs, it is the normalised HSIC (Gretton et al. 2005): in the limit 0 only for
    independence. Random pairings make its test (Gretton et al. 2007). Independent representations come out around 0,
    below it too. Several places of one utterance are not independent: at frame level, look at the null. A small value
    is no small leak: a label of two classes can be readable while it hardly moves the similarities.

    The interval is a jackknife over groups of utterances: value +- 1.96 standard errors.

    Args:
        pairs: of U utterances, of which as many are used as make `MOST_PAIRS`.
        kernel: `linear` or `gaussian`.
        permutations: how many random pairings.
    """
    places = pairs.x.shape[1]
    pairs = pairs.some(max(4, MOST_PAIRS // places))
    x, y = (_gram(part.reshape(len(pairs) * places, -1), kernel) for part in (pairs.x, pairs.y))
    value = _cosine(u_centred(x), u_centred(y))
    owner = np.repeat(np.arange(len(pairs)), places)
    groups = min(GROUPS, len(pairs))
    without = []
    for group in range(groups):
        kept = np.flatnonzero(owner % groups != group)
        without.append(_cosine(*(u_centred(gram[np.ix_(kept, kept)]) for gram in (x, y))))
    error = np.sqrt((groups - 1) * np.var(without))
    x, y = u_centred(x), u_centred(y)
    null = []
    for pairing in random_pairings(len(pairs), permutations):
        rows = (pairing[:, None] * places + np.arange(places)).ravel()
        null.append(_cosine(x, y[np.ix_(rows, rows)]))
    return Dependence(value, value - 1.96 * error, value + 1.96 * error, np.array(null))


def u_centred(gram: Grams) -> Grams:
    """A Gram matrix [n, n] so centred (arXiv 1310.2926) that its product with another is the unbiased HSIC.

        K_ij - sum_l K_il / (n - 2) - sum_k K_kj / (n - 2) + sum_kl K_kl / ((n - 1)(n - 2)),    0 where i = j

    sum_ij of the products of two such matrices, over n (n - 3), is the estimate of Song et al. (2012, equation 5).
    """
    n = len(gram)
    rows = gram.sum(1, dtype=np.float64) - np.diag(gram)
    shift = (rows / (n - 2) - rows.sum() / (2 * (n - 1) * (n - 2))).astype(np.float32)
    centred: Grams = gram - shift[:, None] - shift
    np.fill_diagonal(centred, 0.0)
    return centred


def _cosine(x: Grams, y: Grams) -> float:
    sizes = float(np.linalg.norm(x)) * float(np.linalg.norm(y))
    return float(np.vdot(x, y)) / sizes if sizes > 0 else 0.0


def _gram(values: Floats, kernel: Kernel) -> Grams:
    """The similarity of each pair of values, [n, n]."""
    centred = values - values.mean(0)
    spread = float(np.sqrt((centred**2).mean()))
    centred = centred / spread if spread > 0 else centred
    gram = centred @ centred.T
    if kernel == "gaussian":
        squares = np.diag(gram)
        distances = np.maximum(squares[:, None] + squares - 2 * gram, 0.0)
        width = float(np.median(distances[np.triu_indices(len(values), 1)]))
        gram = np.exp(-distances / (2 * width)) if width > 0 else np.zeros_like(gram)
    similarities: Grams = gram.astype(np.float32)
    return similarities
