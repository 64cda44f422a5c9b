"""The closed-form readers against scikit-learn's, and what they find where nothing is to be found."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import oas
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression

from disentangle_lightning.tasks.linear_reader import fit_classes, fit_values, moments, shrink


def clouds(utterances: int, dim: int = 4, classes: int = 3, apart: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Correlated Gaussian clouds far from the origin, of unequal size, and the class of each point."""
    rng = np.random.default_rng(0)
    labels = rng.choice(classes, utterances, p=[0.6, 0.3, 0.1])
    mixing = (np.eye(dim) + 0.3 * rng.normal(size=(dim, dim))) * [1, 10, 0.1, 1]
    points = (rng.normal(size=(utterances, dim)) + apart * rng.normal(size=(classes, dim))[labels]) @ mixing + 7
    return points, labels


def test_classes_are_those_of_linear_discriminant_analysis() -> None:
    points, labels = clouds(20_000)
    reader = fit_classes(moments(points, np.eye(3)[labels]), 4)
    known = LinearDiscriminantAnalysis(solver="lsqr").fit(points, labels)
    answers = reader(points).argmax(1)
    assert (answers == known.predict(points)).mean() > 0.999
    assert (answers == labels).mean() > 0.7
    odds, theirs = reader(points)[:, 1:] - reader(points)[:, :1], known.decision_function(points)
    np.testing.assert_allclose(odds, theirs[:, 1:] - theirs[:, :1], rtol=0.01, atol=0.1)


def test_values_are_those_of_least_squares() -> None:
    points, _ = clouds(20_000)
    rng = np.random.default_rng(1)
    values = points @ rng.normal(size=(4, 2)) + rng.normal(size=(20_000, 2)) + 3
    reader = fit_values(moments(points, values), 4)
    known = LinearRegression().fit(points, values).predict(points)
    assert ((reader(points) - known) ** 2).sum() < 1e-4 * ((values - values.mean(0)) ** 2).sum()


@pytest.mark.parametrize("utterances", [10, 50, 5000])
def test_the_shrinkage_is_that_of_oracle_approximation(utterances: int) -> None:
    points = np.random.default_rng(2).normal(size=(utterances, 6)) * [1, 2, 3, 1, 1, 1]
    points -= points.mean(0)
    covariance, _ = oas(points, assume_centered=True)
    np.testing.assert_allclose(shrink(points.T @ points / utterances, utterances), covariance, rtol=1e-10)


def test_sums_of_parts_are_sums_of_the_whole() -> None:
    points, labels = clouds(100)
    outcomes = np.eye(3)[labels]
    parts = [moments(points[i::3], outcomes[i::3]) for i in range(3)]
    np.testing.assert_allclose(sum(parts), moments(points, outcomes), rtol=1e-12)


def test_a_class_that_no_utterance_has_is_never_the_answer() -> None:
    points, labels = clouds(200)
    kept = labels != 2
    reader = fit_classes(moments(points[kept], np.eye(3)[labels[kept]]), 4)
    assert set(reader(points).argmax(1)) == {0, 1}


@pytest.mark.parametrize("spread", [0.0, 1e-9])
def test_dimensions_that_say_nothing_get_the_commonest_class_and_the_mean(spread: float) -> None:
    _, labels = clouds(200)
    constant = np.full((200, 4), 0.3) + spread * np.random.default_rng(3).normal(size=(200, 4))
    outcomes = np.eye(3)[labels]
    sums = moments(constant, outcomes)
    assert set(fit_classes(sums, 4)(constant).argmax(1)) == {0}
    np.testing.assert_allclose(fit_values(sums, 4)(constant), np.tile(outcomes.mean(0), (200, 1)), atol=0.1)


def test_noise_of_more_dimensions_than_utterances_reads_nothing() -> None:
    rng = np.random.default_rng(4)
    labels = rng.choice(2, 60)
    reader = fit_classes(moments(rng.normal(size=(60, 128)), np.eye(2)[labels]), 128)
    others = rng.normal(size=(4000, 128))
    answers = reader(others).argmax(1)
    assert abs((answers == rng.choice(2, 4000)).mean() - 0.5) < 0.04
