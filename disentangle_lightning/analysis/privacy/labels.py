"""Attackers that read a label from a fixed number of statistics of each utterance."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.analysis.privacy.detection import (
    Floats,
    Indices,
    draws_of_speakers,
    one_against_rest,
    percentiles,
)
from disentangle_lightning.nn.segments import segment_mean
from disentangle_lightning.tasks.linear_reader import fit_classes, moments

Reader = Callable[[Floats], Floats]
"""Vectors [U, d] to the scores of each class [U, classes], whose differences are log-odds."""

Attacker = Callable[[Floats, Indices, int], Reader]
"""(vectors [U, d], classes [U], how many classes there are) -> what it has learnt."""

HIDDEN_UNITS, EPOCHS = 128, 200
IMPOSSIBLE = -1e9
"""The score of a class that an attacker never saw."""


def statistics(latents: SplitLatents, representation: str) -> Floats:
    """The mean and standard deviation of every dimension over an utterance's frames, [U, 2 d].

    The statistics pooling of x-vectors (Snyder et al., X-vectors, 2018): unlike means alone, they tell how much a
    dimension moves. What is said in the order of frames is lost to them.
    """
    frames = latents.frames[representation].double()
    means = segment_mean(frames, latents.segments)
    variance = segment_mean((frames - means[latents.segments.index]) ** 2, latents.segments)
    return np.concatenate([means.numpy(), variance.sqrt().numpy()], axis=1)


def linear(vectors: Floats, classes: Indices, count: int) -> Reader:
    """Linear discriminant analysis, see `fit_classes`."""
    return fit_classes(moments(vectors, np.eye(count)[classes]), vectors.shape[1])


def mlp(vectors: Floats, classes: Indices, count: int) -> Reader:
    """A network with one hidden layer, on vectors of mean 0 and deviation 1, with weight decay."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(classes)) == 1:  # who has seen one class says nothing else
        alone = np.where(np.arange(count) == classes[0], 0.0, IMPOSSIBLE)
        return lambda asked: np.tile(alone, (len(asked), 1))
    network = MLPClassifier((HIDDEN_UNITS,), alpha=1.0, max_iter=EPOCHS, random_state=0)
    model = make_pipeline(StandardScaler(), network)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are a budget, as in every training here
        model.fit(vectors, classes)

    def read(asked: Floats) -> Floats:
        scores = np.full((len(asked), count), IMPOSSIBLE)
        scores[:, model.classes_] = np.log(np.maximum(model.predict_proba(asked), 1e-300))
        return scores

    return read


def held_out_scores(
    attacker: Attacker,
    probe: Floats,
    probe_classes: Indices,
    probe_speakers: Sequence[str],
    test: Floats,
    test_speakers: Sequence[str],
    count: int,
    groups: Sequence[frozenset[str]],
) -> Floats:
    """The scores of test utterances, each by an attacker who was trained without its speaker, [U, classes].

    Args:
        groups: of test speakers; the attacker of a group is trained on the speech of all others.
    """
    scores = np.full((len(test), count), IMPOSSIBLE)
    for group in groups:
        trained = np.array([s not in group for s in probe_speakers])
        asked = np.array([s in group for s in test_speakers])
        scores[asked] = attacker(probe[trained], probe_classes[trained], count)(test[asked])
    return scores


def attack_figures(
    name: str, scores: Floats, classes: Indices, speakers: Indices, training_counts: Indices
) -> dict[str, float]:
    """`NAME.accuracy`, `.chance`, `.leakage` and `.tpr_at_1_fpr` of scores [U, classes], intervals over speakers.

    Chance and leakage are those of `classification_figures`: chance is always giving the commonest class of training,
    leakage (accuracy - chance) / (1 - chance). The true positive rate is that of `one_against_rest`. There is neither
    where all utterances are of one class.

    Args:
        training_counts: utterances of each class in the attacker's speech.
    """
    correct = (scores.argmax(axis=1) == classes).astype(float)
    accuracy = float(correct.mean())
    chance = float((classes == int(np.argmax(training_counts))).mean())
    weights = draws_of_speakers(int(speakers.max()) + 1)[:, speakers]
    total = np.where(weights.sum(axis=1) > 0, weights.sum(axis=1), np.nan)
    low, high = percentiles(weights @ correct / total)
    figures = {f"{name}.accuracy": accuracy, f"{name}.accuracy.ci_low": low, f"{name}.accuracy.ci_high": high}
    figures |= {f"{name}.chance": chance}
    if len(np.unique(classes)) > 1:
        for suffix in ("", ".ci_low", ".ci_high"):
            figures[f"{name}.leakage{suffix}"] = (figures[f"{name}.accuracy{suffix}"] - chance) / (1 - chance)
        rate, drawn = one_against_rest(_log_odds(scores), classes, speakers)
        figures[f"{name}.tpr_at_1_fpr"] = rate
        figures[f"{name}.tpr_at_1_fpr.ci_low"], figures[f"{name}.tpr_at_1_fpr.ci_high"] = percentiles(drawn)
    return figures


def _log_odds(scores: Floats) -> Floats:
    """log p(class) - log p(any other class), for every class."""
    odds = np.empty_like(scores)
    for place in range(scores.shape[1]):
        others = np.delete(scores, place, axis=1)
        odds[:, place] = scores[:, place] - np.logaddexp.reduce(others, axis=1)
    return odds
