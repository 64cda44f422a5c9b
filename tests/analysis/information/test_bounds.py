"""Bounds of mutual information hold the truth between them where it is known, and random pairings tell yes from no."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_lightning.analysis.information.bounds import club, infonce
from disentangle_lightning.analysis.information.pairs import Dependence, Pairs

PERMUTATIONS = 99


def gaussians(correlation: float, utterances: int, seed: int, places: int = 1, dim: int = 3) -> Pairs:
    """Dimension i of y has this correlation with dimension i of x, and with nothing else."""
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, utterances, places, dim))
    return Pairs(x, correlation * x + math.sqrt(1 - correlation**2) * noise)


@pytest.fixture(scope="module", params=[0.0, 0.5, 0.8])
def measured(request: pytest.FixtureRequest) -> tuple[float, Dependence, Dependence]:
    r = request.param
    pairs = gaussians(r, 600, 0), gaussians(r, 600, 1)
    return r, infonce(*pairs, PERMUTATIONS), club(*pairs, PERMUTATIONS)


def test_the_truth_lies_between_the_bounds(measured: tuple[float, Dependence, Dependence]) -> None:
    r, lower, upper = measured
    truth = -3 / 2 * math.log2(1 - r**2)
    of_club = 3 * r**2 / (1 - r**2) / math.log(2)  # its value for the true q
    assert lower.value <= truth + 0.05
    assert lower.value >= 0.7 * truth - 0.05
    assert upper.value >= truth - 0.05
    assert upper.value == pytest.approx(of_club, rel=0.35, abs=0.05)


def test_random_pairings_are_rejected_only_where_there_is_dependence(
    measured: tuple[float, Dependence, Dependence],
) -> None:
    r, *bounds = measured
    for bound in bounds:
        if r:
            assert bound.p == pytest.approx(1 / (1 + PERMUTATIONS))
            assert np.quantile(bound.null, 0.95) < bound.low
        else:
            assert bound.p > 0.05


def test_a_critic_finds_what_no_line_shows() -> None:
    """y = |x| + noise is uncorrelated with x."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 1, 1))
    y = np.abs(x) + 0.1 * rng.normal(size=x.shape)
    bound = infonce(Pairs(x[:400], y[:400]), Pairs(x[400:], y[400:]), PERMUTATIONS)
    assert abs(np.corrcoef(x.ravel(), y.ravel())[0, 1]) < 0.1
    assert bound.low > 0.5


def test_the_bound_is_blind_to_how_either_side_is_turned_and_scaled() -> None:
    fitted, tested = gaussians(0.8, 400, 0), gaussians(0.8, 400, 1)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0] @ np.diag([1e-3, 1.0, 1e3])
    turned = [Pairs(p.x @ turn + 5.0, p.y @ turn) for p in (fitted, tested)]
    straight = infonce(fitted, tested, 1)
    assert straight.value > 1.0
    assert infonce(*turned, 1).value == pytest.approx(straight.value, abs=0.3)


def test_a_latent_that_never_changes_shares_nothing() -> None:
    fitted, tested = (Pairs(p.x, np.full_like(p.y, 3.0)) for p in (gaussians(0.0, 50, 0), gaussians(0.0, 50, 1)))
    for bound in (infonce(fitted, tested, 20), club(fitted, tested, 20)):
        assert bound.value == pytest.approx(0.0, abs=1e-6)
        assert bound.p > 0.05


def test_what_two_frames_owe_to_their_place_alone_is_no_dependence_of_utterances() -> None:
    """Both latents rise from the first frame to the last: pairing utterances at random changes nothing."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(-3, 3, 4)[None, :, None]
    x, y = (ramp + rng.normal(size=(300, 4, 2)) for _ in range(2))
    bound = infonce(Pairs(x[:150], y[:150]), Pairs(x[150:], y[150:]), PERMUTATIONS)
    assert bound.value > 0.5
    assert bound.p > 0.05
