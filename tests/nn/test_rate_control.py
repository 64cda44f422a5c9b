from __future__ import annotations

import math

import pytest
import torch

from disentangle_lightning.nn.rate_control import RateControl

STEPS = 4000


def steer(control: RateControl, rates: dict[float, float], lag: float = 20.0, steps: int = STEPS) -> list[float]:
    """The KL over a training on a bottleneck whose KL goes to c / sqrt(beta) with a lag of so many steps.

    Args:
        rates: {progress: c from there on}.
    """
    kl, course = 0.05, []
    for step in range(steps):
        c = [c for begin, c in rates.items() if begin <= step / steps][-1]
        kl += (c / math.sqrt(float(control.beta)) - kl) / lag
        control.update(torch.tensor(kl), step / steps, steps)
        course.append(kl)
    return course


@pytest.mark.parametrize("beta", [1e-4, 0.02, 10.0])
@pytest.mark.parametrize("steps", [400, STEPS])
def test_it_ends_at_the_chosen_rate_wherever_beta_starts(beta: float, steps: int) -> None:
    control = RateControl(target=3.0, beta=beta)
    course = steer(control, {0.0: 0.5}, steps=steps)
    assert course[-steps // 20 :] == pytest.approx([3.0] * (steps // 20), rel=0.02)
    assert float(control.beta) == pytest.approx((0.5 / 3.0) ** 2, rel=0.1)


def test_it_follows_a_bottleneck_that_changes() -> None:
    control = RateControl(target=3.0, beta=0.02)
    course = steer(control, {0.0: 0.5, 0.7: 1.0})
    assert max(course[int(0.7 * STEPS) :]) > 4
    assert course[-1] == pytest.approx(3.0, rel=0.02)


def test_the_aim_is_kept_on_the_way_down_and_not_undershot() -> None:
    control = RateControl(target=3.0, beta=0.02)
    course = steer(control, {0.0: 0.5})
    for progress in (0.2, 0.3, 0.4):
        assert course[int(progress * STEPS)] == pytest.approx(control.aim(progress), rel=0.25)
    assert min(course[STEPS // 2 :]) > 2.7


def test_a_collapsed_bottleneck_is_opened_again() -> None:
    control = RateControl(target=1.0, beta=5.0)
    control.update(torch.tensor(0.0), 0.9, STEPS)
    assert float(control.beta) == pytest.approx(5.0 * math.exp(-0.01))


def test_a_step_that_has_diverged_moves_nothing() -> None:
    control = RateControl(target=1.0, beta=5.0)
    control.update(torch.tensor(float("nan")), 0.9, STEPS)
    assert float(control.beta) == pytest.approx(5.0)


def test_its_state_goes_on_from_a_state_dict() -> None:
    control, again = RateControl(1.0, beta=0.02), RateControl(1.0, beta=0.02)
    for step in range(50):
        control.update(torch.tensor(2.5 + step), step / STEPS, STEPS)
    again.load_state_dict(control.state_dict())
    assert torch.equal(again.beta, control.beta)
    assert list(control.parameters()) == []
