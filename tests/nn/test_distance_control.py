from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from disentangle_lightning.nn.distance_control import DistanceControl

STEPS = 50
"""An epoch."""


def steer(
    error_at: Callable[[float], float], beta: float, epochs: int, words: int, lag: float = 4.0, seed: int = 0
) -> list[float]:
    """Beta after each epoch of a stage whose error goes to that of its beta with a lag of so many epochs.

    It has learnt nothing in the beginning, nor has its control, and their dev set has so many words, of which each is
    wrong or not.
    """
    rng, true, course = np.random.default_rng(seed), 1.0, []
    unpaid = error_at(0.0) + (1 - error_at(0.0)) * (1 - 1 / lag) ** np.arange(1, epochs + 1)
    control = DistanceControl(list(rng.binomial(words, unpaid) / words), 0.03, beta)
    for epoch in range(epochs):
        for step in range(STEPS):
            control.update((epoch + step / STEPS) / epochs, epochs * STEPS)
        true += (error_at(float(control.beta)) - true) / lag
        control.see(rng.binomial(words, true) / words, (epoch + 1) / epochs)
        course.append(float(control.beta))
    return course


@pytest.mark.parametrize("expected", [0.01, 0.03, 0.3])
@pytest.mark.parametrize(("epochs", "words"), [(60, 1500), (60, 120), (30, 1500), (30, 240)])
def test_it_ends_where_the_error_is_the_allowed_one(expected: float, epochs: int, words: int) -> None:
    course = steer(lambda beta: 0.02 + 0.012 * max(0.0, math.log((beta + 1e-9) / 0.005)), expected, epochs, words)
    best = 0.005 * math.exp(0.03 / 0.012)
    assert course[-1] == pytest.approx(best, rel=0.5)
    assert max(course) < 4 * best
