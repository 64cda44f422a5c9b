"""Compression and selectivity: what is there is found, and what is learnt by heart does not count."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from disentangle_lightning.analysis.information.coding import compression
from disentangle_lightning.analysis.information.readers import Classes, Floats, tempered_reader
from disentangle_lightning.analysis.information.selectivity import control_labels, selectivity

CLASSES = 4


def planted(strength: float, seed: int = 0, utterances: int = 400, dim: int = 16) -> tuple[Floats, Classes]:
    """Means in which class k moves dimension k by so many standard deviations."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(CLASSES, size=utterances)
    return rng.normal(size=(utterances, dim)) + strength * np.eye(dim)[classes], classes


def halves(strength: float) -> tuple[tuple[Floats, Classes], tuple[Floats, Classes]]:
    means, classes = planted(strength)
    return (means[:200], classes[:200]), (means[200:], classes[200:])


def test_random_labels_are_not_compressed() -> None:
    found = compression(*halves(0.0), CLASSES)
    assert found.value == pytest.approx(1.0, abs=0.04)
    assert found.control == pytest.approx(1.0, abs=0.04)


def test_the_plainer_a_label_the_more_it_is_compressed() -> None:
    nothing, some, much = (compression(*halves(strength), CLASSES) for strength in (0.0, 2.0, 8.0))
    assert nothing.high < some.low < some.high < much.low
    assert much.value > 5
    assert much.control == pytest.approx(1.0, abs=0.05)


def test_a_rare_class_compresses_a_label_that_nothing_tells_and_the_control_shows_it() -> None:
    rng = np.random.default_rng(0)
    rare = (rng.random(400) < 0.05).astype(np.int64)
    means = rng.normal(size=(400, 8))
    found = compression((means[:200], rare[:200]), (means[200:], rare[200:]), 2)
    assert found.value > 2
    assert found.value == pytest.approx(found.control, rel=0.1)


def test_a_label_that_takes_many_utterances_to_learn_costs_more() -> None:
    """Both are read without a mistake in the end; online coding charges the way there."""
    rng = np.random.default_rng(0)
    classes = rng.integers(2, size=800)
    easy = np.concatenate([(6.0 * classes + rng.normal(size=800))[:, None], np.zeros((800, 60))], axis=1)
    hard = easy + np.concatenate([np.zeros((800, 1)), 50 * rng.normal(size=(800, 60))], axis=1)
    hard = hard @ np.linalg.qr(rng.normal(size=(61, 61)))[0]
    codes = [compression((m[:400], classes[:400]), (m[400:], classes[400:]), 2) for m in (easy, hard)]
    assert codes[1].high < codes[0].low


def test_a_code_is_a_probability() -> None:
    """Over all classes, one that was never seen among them, at every trust; trust 0 reads nothing."""
    means, classes = planted(1.0)
    log_p = tempered_reader(means, classes, CLASSES + 1, (0.0, 0.5, 1.0))(means[:20])
    assert np.exp(log_p).sum(2) == pytest.approx(1.0)
    assert np.isfinite(log_p).all()
    assert np.ptp(log_p[0], axis=0) == pytest.approx(0.0)
    frequencies = (np.bincount(classes, minlength=5) + 0.5) / (400 + 2.5)
    assert np.exp(log_p[0, 0]) == pytest.approx(frequencies)


def crossed(copies: int = 20, seed: int = 0) -> tuple[Classes, Classes, list[tuple[int, int]]]:
    """Four speakers in four styles, each pair as often, in random order: speakers, styles, types."""
    pairs = np.array(list(itertools.product(range(4), range(4))) * copies)
    pairs = np.random.default_rng(seed).permutation(pairs)
    return pairs[:, 0], pairs[:, 1], [tuple(pair) for pair in pairs.tolist()]


def test_a_representation_of_the_speaker_is_selective_for_speakers() -> None:
    speakers, _, types = crossed()
    means = np.eye(4)[speakers] * 6 + np.random.default_rng(0).normal(size=(len(speakers), 4))
    for found in selectivity(means, speakers, types, 160).values():
        assert found.accuracy > 0.95
        assert found.control < 0.6
        assert 0.35 < found.low < found.high


def test_a_representation_that_names_the_type_is_selective_for_nothing() -> None:
    """One direction for each of sixteen types: any labelling of them is as easy as the speaker."""
    speakers, styles, types = crossed()
    rng = np.random.default_rng(0)
    means = np.eye(16)[4 * speakers + styles] * 8 + rng.normal(size=(len(speakers), 16))
    for found in selectivity(means, speakers, types, 160).values():
        assert found.accuracy > 0.95
        assert found.control > 0.9
        assert found.accuracy - found.control < 0.08


def test_noise_is_selective_for_nothing() -> None:
    speakers, _, types = crossed()
    means = np.random.default_rng(0).normal(size=(len(speakers), 8))
    for found in selectivity(means, speakers, types, 160).values():
        assert found.accuracy < 0.4
        assert abs(found.accuracy - found.control) < 0.12


def test_only_the_mlp_reads_what_no_line_separates() -> None:
    rng = np.random.default_rng(0)
    signs = rng.integers(2, size=(800, 2))
    means = 4.0 * signs - 2 + 0.3 * rng.normal(size=(800, 2))
    odd = signs.sum(1) % 2
    found = selectivity(means, odd, list(range(2)) * 400, 400)
    assert found["linear"].accuracy < 0.65
    assert found["mlp"].accuracy > 0.95


def test_a_control_label_is_a_function_of_the_type_with_the_labels_frequencies() -> None:
    types = [f"type {i % 500}" for i in range(1000)]
    classes = np.array([0] * 300 + [1] * 700)
    control = control_labels(types, classes, 1000, seed=0)
    assert (control[:500] == control[500:]).all()
    assert control.mean() == pytest.approx(0.7, abs=0.06)
    assert (control != control_labels(types, classes, 1000, seed=1)).any()


def test_types_that_do_not_come_back_leave_nothing_to_measure() -> None:
    means, classes = planted(1.0)
    assert selectivity(means, classes, list(range(len(classes))), 200) == {}
