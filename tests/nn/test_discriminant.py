from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from disentangle_lightning.nn.discriminant import MEMORY, RunningDiscriminant, utterance_statistics
from disentangle_lightning.nn.segments import Segments

MANY = 10_000_000
"""Of so many utterances that the covariance needs no ridge."""


def classes_in_a_row(count: int, distance: float) -> tuple[Tensor, Tensor]:
    """Rows [count, 4] of three classes whose means lie along the first axis, the last axis a hundredth as wide."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    x = torch.randn(count, 4, generator=generator)
    x[:, 1] += 0.8 * x[:, 0]
    x[:, 0] += distance * labels
    return x * torch.tensor([1.0, 1.0, 1.0, 0.01]), labels


def shown(x: Tensor, labels: Tensor, classes: int = 3, times: int = 1) -> RunningDiscriminant:
    reader = RunningDiscriminant(classes, x.shape[1])
    for _ in range(times):
        reader.update(reader.batch_sums(x, labels))
    return reader


def test_exposure_is_the_divergence_of_fishers_discriminant_from_the_shares() -> None:
    x, labels = classes_in_a_row(4000, 1.5)
    posterior = LinearDiscriminantAnalysis(solver="lsqr").fit(x.numpy(), labels.numpy()).predict_log_proba(x.numpy())
    shares = np.bincount(labels) / len(labels)
    expected = (shares * (np.log(shares) - posterior)).sum(1)
    np.testing.assert_allclose(shown(x, labels).exposure(x, MANY), expected, rtol=0.05, atol=5e-3)


def test_what_is_chance_is_not_taken_for_knowledge_however_many_the_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, noise = torch.arange(300) % 100, torch.randn(300, 8, generator=generator)
    signal = 3 * torch.randn(100, 8, generator=generator)[labels] + noise
    by_chance, known = (float(shown(x, labels, 100).exposure(x, 300).mean()) for x in (noise, signal))
    assert by_chance < 0.2, "each class seen three times"
    assert known > 4 * by_chance


def test_nothing_is_exposed_where_there_is_nothing_and_more_the_further_classes_are_apart() -> None:
    def exposed(distance: float) -> float:
        x, labels = classes_in_a_row(600, distance)
        return float(shown(x, labels).exposure(x, len(x)).mean())

    assert exposed(0.0) < 0.02
    assert exposed(0.5) < exposed(1.0) < exposed(3.0)
    assert exposed(3.0) > 1.0


def test_a_narrow_direction_is_read_as_well_as_a_wide_one() -> None:
    x, labels = classes_in_a_row(600, 2.0)
    wide = shown(x, labels).exposure(x, len(x)).mean()
    swapped = x * torch.tensor([0.05, 20.0, 1.0, 1.0])
    assert float(shown(swapped, labels).exposure(swapped, len(x)).mean()) == pytest.approx(float(wide), rel=0.01)


def test_its_gradient_takes_the_classes_out() -> None:
    x, labels = classes_in_a_row(300, 2.0)
    noise = 0.1 * torch.randn(300, 4, generator=torch.Generator().manual_seed(1))
    encoder = torch.eye(4).requires_grad_()
    optimizer = torch.optim.Adam([encoder], lr=0.01)
    reader, codes = RunningDiscriminant(3, 4), []
    for _ in range(1500):
        codes.append(x @ encoder + noise)
        reader.update(reader.batch_sums(codes[-1], labels))
        optimizer.zero_grad()
        reader.exposure(codes[-1], len(x)).mean().backward()
        optimizer.step()
    first, last = codes[0].detach().numpy(), codes[-1].detach().numpy()
    found = [LinearDiscriminantAnalysis().fit(code, labels).score(code, labels) for code in (first, last)]
    assert found[0] > 0.75
    assert found[1] < 0.5


def test_few_utterances_are_not_known_by_heart() -> None:
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(40, 32, generator=generator), torch.arange(40) % 3
    reader = shown(x, labels, times=400)
    assert float(reader.exposure(x, MANY).mean()) > 0.5, "labels at random, and yet read by whoever trusts all of it"
    assert float(reader.exposure(x, len(x)).mean()) < 0.4


def test_utterances_without_the_label_do_not_count() -> None:
    x, labels = classes_in_a_row(90, 1.0)
    more = torch.cat([x, torch.full((10, 4), 100.0)])
    unknown = torch.cat([labels, torch.full((10,), -1)])
    torch.testing.assert_close(shown(more, unknown).exposure(x, 90), shown(x, labels).exposure(x, 90))


def test_a_class_that_was_never_seen_exposes_nothing() -> None:
    x, labels = classes_in_a_row(90, 1.0)
    torch.testing.assert_close(shown(x, labels, classes=5).exposure(x, 90), shown(x, labels).exposure(x, 90))


def test_sums_of_parts_are_the_sums_of_the_whole_and_old_ones_fade() -> None:
    x, labels = classes_in_a_row(90, 1.0)
    reader = RunningDiscriminant(3, 4)
    parts = [reader.batch_sums(x[half], labels[half]) for half in (slice(0, 40), slice(40, 90))]
    torch.testing.assert_close(parts[0] + parts[1], reader.batch_sums(x, labels))
    reader.update(parts[0])
    reader.update(parts[1])
    assert float(reader.counts.sum()) == pytest.approx(40 * (1 - 1 / MEMORY) + 50)


def test_statistics_are_mean_and_deviation_of_each_utterance() -> None:
    x = torch.tensor([[1.0], [5.0], [2.0]], requires_grad=True)
    segments = Segments.from_lengths(torch.tensor([2, 1]), total=3, max_length=2)
    statistics = utterance_statistics(x, segments)
    torch.testing.assert_close(statistics, torch.tensor([[3.0, 2.0], [2.0, 0.01]]), rtol=1e-3, atol=1e-4)
    statistics.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all(), "of one frame, too"
