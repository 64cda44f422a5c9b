"""Mutual information between two representations, from below and from above, by networks fitted on other utterances."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from disentangle_lightning.analysis.information.pairs import Dependence, Pairs, random_pairings, whitened
from disentangle_lightning.analysis.information.perceptrons import Perceptrons, folds, train
from disentangle_lightning.tasks.metrics import bootstrap_ratio

HIDDEN, CODE = 64, 16
"""Hidden units of every network, and the size of the codes that the critic compares."""

_ROWS = 1024
"""Scores of so many pairs against all are in memory at once."""


def infonce(fitted: Pairs, measured: Pairs, permutations: int, seed: int = 0) -> Dependence:
    """A lower bound of I(X; Y) in bits (InfoNCE, arXiv 1807.03748).

        I >= E[ log2( exp f(x_i, y_i) / (1/N sum_j exp f(x_i, y_j)) ) ],    f(x, y) = g(x).h(y) + a(y)

    with g and (h, a) networks. Any f bounds it from below on utterances that f was not fitted on; how near depends on
    f, and no f gets above log2 N, N the pairs measured: near that, the truth may be anything above. The interval is
    that of the mean over utterances, the N candidates being what they are.

    Args:
        fitted: pairs that five networks learn from, each with another fifth of the utterances to choose its step; their
            mean is used.
        measured: other utterances.
        permutations: how many random pairings of the latter.
        seed: of the networks.
    """
    fitted, measured = whitened(fitted, measured)
    learnt, held_out = _folds(fitted, seed)
    left = Perceptrons(len(learnt), fitted.x.shape[2], HIDDEN, CODE, seed)
    right = Perceptrons(len(learnt), fitted.y.shape[2], HIDDEN, CODE + 1, seed + 1)
    # The outputs of one side start at random: two sides of zeros would never leave zero.
    left.second.data.normal_(0, math.sqrt(1 / HIDDEN), generator=torch.Generator().manual_seed(seed))
    x, y = _rows(fitted.x), _rows(fitted.y)

    def losses(rows: Tensor) -> Tensor:
        g, h = left(x[rows]), right(y[rows])
        scores = g @ h[..., :CODE].transpose(1, 2) + h[..., CODE].unsqueeze(1)
        right_ones = torch.arange(rows.shape[1]).expand_as(rows)
        return F.cross_entropy(scores.transpose(1, 2), right_ones, reduction="none").mean(1)

    train([left, right], losses, learnt, held_out, seed)
    with torch.no_grad():
        # The mean of the critics is the product of their codes side by side.
        g, h = (net(_rows(part)).double() for net, part in ((left, measured.x), (right, measured.y)))
        h, a = h[..., :CODE] / len(h), h[..., CODE].mean(0)
        g, h = (side.transpose(0, 1).flatten(1) for side in (g, h))
        at_random = torch.cat([torch.logsumexp(part @ h.T + a, 1) for part in g.split(_ROWS)]) - math.log(len(g))
    shape = measured.x.shape[:2]
    g, h, a = (part.reshape(*shape, -1).numpy() for part in (g, h, a))
    expected = at_random.reshape(shape).mean(1).numpy()

    def terms(y_of: NDArray[np.int64]) -> NDArray[np.float64]:
        scores = (g * h[y_of]).sum(2) + a[y_of, :, 0]
        of_utterance: NDArray[np.float64] = (scores.mean(1) - expected) / math.log(2)
        return of_utterance

    return _of_terms(terms, shape[0], permutations)


def club(fitted: Pairs, measured: Pairs, permutations: int, seed: int = 0) -> Dependence:
    """An upper bound of I(X; Y) in bits (vCLUB, arXiv 2006.12013).

        E_p(x,y)[ log2 q(y|x) ] - E_p(x)p(y)[ log2 q(y|x) ],    q(y|x) = N(mean(x), diag variance(x))

    with mean and variance from a network. It bounds I from above where q is near p(y|x); a q that has not learnt says
    0, so that the figure is no evidence of independence by itself. A narrow q makes it large: on Gaussians of
    correlation r and the true q it is r^2 / (1 - r^2) nats per dimension, the truth -log(1 - r^2) / 2.

    Args:
        fitted, measured, permutations, seed: as for `infonce`.
    """
    fitted, measured = whitened(fitted, measured)
    dim = fitted.y.shape[2]
    learnt, held_out = _folds(fitted, seed)
    network = Perceptrons(len(learnt), fitted.x.shape[2], HIDDEN, 2 * dim, seed)
    x, y = _rows(fitted.x), _rows(fitted.y)

    def losses(rows: Tensor) -> Tensor:
        mean, log_variance = _normal(network(x[rows]))
        return ((y[rows] - mean) ** 2 / log_variance.exp() + log_variance).sum(2).mean(1) / 2

    train([network], losses, learnt, held_out, seed)
    with torch.no_grad():
        mean, log_variance = (part.double() for part in _normal(network(_rows(measured.x))))
    # The mean of the networks' log q is that of a normal distribution, too, but for what does not depend on y.
    shape = (*measured.x.shape[:2], dim)
    weight = torch.exp(-log_variance)
    precision = weight.mean(0).reshape(shape).numpy()
    pull = (weight * mean).mean(0).reshape(shape).numpy()
    # log q(y|x) is quadratic in y, so that its mean over all y needs their first two moments alone.
    first, second = measured.y.mean((0, 1)), (measured.y**2).mean((0, 1))

    def terms(y_of: NDArray[np.int64]) -> NDArray[np.float64]:
        y = measured.y[y_of]
        nats = (precision * (second - y**2) / 2 + pull * (y - first)).sum(2)
        of_utterance: NDArray[np.float64] = nats.mean(1) / math.log(2)
        return of_utterance

    return _of_terms(terms, shape[0], permutations)


def _of_terms(
    terms: Callable[[NDArray[np.int64]], NDArray[np.float64]], utterances: int, permutations: int
) -> Dependence:
    """The mean of one term for each utterance, given whose y each x is paired with, with its bootstrap interval."""
    true = terms(np.arange(utterances))
    low, high = bootstrap_ratio(true, np.ones_like(true))
    null = np.array([terms(pairing).mean() for pairing in random_pairings(utterances, permutations)])
    return Dependence(float(true.mean()), low, high, null)


def _normal(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance, both [T, n, e]; the latter within what whitened values can need."""
    mean, log_variance = outputs.chunk(2, dim=2)
    return mean, 6 * torch.tanh(log_variance / 6)


def _rows(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.reshape(-1, values.shape[2])).float()


def _folds(pairs: Pairs, seed: int) -> tuple[Tensor, Tensor]:
    """The rows that each network learns from and those held out, all places of an utterance on one side."""
    places = pairs.x.shape[1]
    learnt, held_out = folds(len(pairs), seed)
    rows_of = torch.arange(places)
    return (learnt[..., None] * places + rows_of).flatten(1), (held_out[..., None] * places + rows_of).flatten(1)
