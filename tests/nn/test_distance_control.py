from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from disentangle_lightning.nn.distance_control import MEMORY, OPENING, REACH, DistanceControl

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


def frontier(beta: float) -> float:
    """2 % up to beta 0.005, and 1.2 points more with each e-fold: 5 % at `BEST`."""
    return 0.02 + 0.012 * max(0.0, math.log(max(beta, 1e-9) / 0.005))


BEST = 0.005 * math.exp(0.03 / 0.012)


@pytest.mark.parametrize("expected", [0.01, 0.03, 0.3])
@pytest.mark.parametrize(("epochs", "words"), [(60, 1500), (60, 120), (30, 1500)])
def test_it_ends_near_where_the_error_is_the_allowed_one(expected: float, epochs: int, words: int) -> None:
    """Within a factor of e, wherever it starts: there, the error is off by 1.2 points at most."""
    ends = [math.log(steer(frontier, expected, epochs, words, seed=seed)[-1] / BEST) for seed in range(3)]
    assert max(ends) < 0.7
    assert min(ends) > -1.2


def test_over_a_cliff_it_comes_back() -> None:
    """The error is 100 % from a beta on, and the stage is slow to learn again."""
    course = steer(lambda beta: 1.0 if beta > 0.05 else 0.02, 0.03, 60, 1500)
    assert max(course) > 0.05
    assert 0.002 < course[-1] < 0.05


def test_beta_stays_where_it_is_as_long_as_nothing_is_learnt() -> None:
    assert steer(lambda beta: 1.0 if beta else 0.02, 0.03, 30, 1500) == pytest.approx([0.03 / OPENING] * 30)


def test_slack_and_beta_after_two_dev_epochs() -> None:
    control = DistanceControl([0.5, 0.1, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02], distance=0.01, beta=0.03)
    control.see(0.025, progress=0.5)  # half a point to spare, after so long that nothing else is remembered
    first = 0.5 + (-1 - 0.5) * math.exp(-0.5 / MEMORY)
    assert float(control.slack) == pytest.approx(first)
    control.update(progress=0.5, steps=100)
    raised = math.log(0.03 / OPENING) + 2 * 0.5 * REACH / 100 * first
    assert float(control.log_beta) == pytest.approx(raised)
    control.see(0.9, progress=0.5 + MEMORY)  # far off counts as a point off
    second = -1 + (first + 1) / math.e
    assert float(control.slack) == pytest.approx(second)
    control.update(progress=0.9, steps=100)
    assert float(control.log_beta) == pytest.approx(raised + REACH / 100 * second)


def test_the_excess_is_that_of_the_epoch_or_of_those_before_it() -> None:
    control = DistanceControl([0.2, 0.02, 0.02, 0.02], distance=0.01, beta=0.03)
    control.see(0.01, progress=0.9)
    assert control.excess(0.03) == 0
    assert control.excess(0.05) == pytest.approx(0.02)
    control.see(0.04, progress=1.0)
    assert control.excess(0.0) == pytest.approx(-0.01 * float(control.slack))
    assert control.excess(0.0) > 0


def test_its_state_goes_on_from_a_state_dict() -> None:
    control, again = (DistanceControl([0.1] * 8, 0.01, beta=0.02) for _ in range(2))
    for epoch in range(1, 6):
        control.see(0.1, epoch / 10)
        control.update(epoch / 10, 100)
    again.load_state_dict(control.state_dict())
    for each in (control, again):
        each.see(0.2, 0.6)
        each.update(0.6, 100)
    assert torch.equal(again.beta, control.beta)
    assert float(control.beta) != pytest.approx(0.02 / OPENING)
    assert list(control.parameters()) == []
