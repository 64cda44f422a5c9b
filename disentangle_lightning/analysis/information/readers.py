"""A class read from the mean of an utterance, in closed form: with a probability for each class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from disentangle_lightning.tasks.linear_reader import fit_classes, moments

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]

Probabilities = Callable[[Floats], Floats]
"""Means [U, d] to the logarithm of the probability of each class, [trust, U, K]."""


def tempered_reader(means: Floats, classes: Classes, count: int, trust: tuple[float, ...]) -> Probabilities:
    """Linear discriminant analysis that trusts what it reads more or less.

        log p(k | x) = log p(k) + trust * (log p(x | k) - log p(x)) + constant

    with normal p(x | k) of one shrunk covariance (`linear_reader.fit_classes`) and p(k) = (n_k + 1/2) / (n + K/2), so
    that a class that was not seen has a probability too. Trust 0 is the frequency of the class alone.

    Args:
        means: [n, d].
        classes: [n], from 0 to count - 1.
        count: K.
        trust: of each of the readers that are returned at once.
    """
    one_hot = np.eye(count)[classes]
    read = fit_classes(moments(means, one_hot), means.shape[1])
    seen = one_hot.sum(0)
    prior = np.log((seen + 0.5) / (len(classes) + 0.5 * count))
    frequency = np.log(np.maximum(seen, 1) / len(classes))

    def probabilities(asked: Floats) -> Floats:
        scores = read(asked)
        evidence = np.where(np.isfinite(scores), scores - frequency, 0.0)
        tempered = np.array(trust)[:, None, None] * evidence + prior
        tempered -= tempered.max(2, keepdims=True)
        normalised: Floats = tempered - np.log(np.exp(tempered).sum(2, keepdims=True))
        return normalised

    return probabilities


def linear_answers(means: Floats, classes: Classes, count: int, asked: Floats) -> Classes:
    """The likeliest class of each asked mean [U', d], by linear discriminant analysis of [U, d]: [U']."""
    answers: Classes = fit_classes(moments(means, np.eye(count)[classes]), means.shape[1])(asked).argmax(1)
    return answers
