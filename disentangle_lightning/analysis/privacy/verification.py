"""Speaker verification: are two utterances of one speaker? By cosine, and by a scorer trained on other speech."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from disentangle_lightning.analysis.privacy.detection import Floats, Indices, Trials
from disentangle_lightning.tasks.linear_reader import shrink

Scorer = Callable[[Floats], Floats]
"""Vectors [U, d] to the score of every two of them, [U, U], higher for one speaker."""

FOLDS, ROUNDS = 3, 5
"""Speakers are shared out among so many groups, in so many ways. The scorer of a group is trained without it."""

MOST_UTTERANCES = 3000
"""Of a group: their pairs, nine million, are looked through in memory."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of test utterances whose speakers the trained scorer must not have heard.

    Attributes:
        held_out: the names of these speakers.
        first, second: [T], places of utterances.
    """

    held_out: frozenset[str]
    first: Indices
    second: Indices


def held_out_groups(names: Iterable[str], heard: Iterable[str], rounds: int) -> list[frozenset[str]]:
    """Groups of speakers, such that what is trained without a group's speech can be asked about all of the group.

    They are shared out at random among `FOLDS` groups, fewer where there are less than two for each, as many times as
    there are rounds. Where none of them was heard, they are one group.
    """
    sorted_names = sorted(set(names))
    folds = min(FOLDS, len(sorted_names) // 2) if set(heard) & set(sorted_names) else 1
    if folds < 2:
        return [frozenset(sorted_names)]
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(sorted_names)) for _ in range(rounds)]
    parts = [part for order in orders for part in np.array_split(order, folds)]
    return [frozenset(sorted_names[i] for i in part) for part in parts]


def make_pairs(
    speakers: Sequence[str], sentences: Sequence[str | None], groups: Sequence[frozenset[str]], most: int
) -> list[Pairs]:
    """The trials of a test split: two utterances that say different things, by the same speaker or by two.

    If both said the same, a latent of words alone would call them alike; such pairs are left out unless all are such.
    A pair is asked within a group only, so that targets and others have one scorer, whose scale they share.

    Args:
        speakers: of each test utterance.
        sentences: what it says, folded; None where it is not known.
        groups: of speakers, who are held out together.
        most: of targets and of the others, over all groups; as many are drawn if there are more.
    """
    rng = np.random.default_rng(0)
    codes = np.unique(np.array([s or f"?{i}" for i, s in enumerate(sentences)]), return_inverse=True)[1]
    who = np.unique(np.array(speakers), return_inverse=True)[1]
    ask_same = len(set(codes)) == 1
    pairs = []
    for group in groups:
        members = np.flatnonzero([speaker in group for speaker in speakers])
        if len(members) > MOST_UTTERANCES:
            members = np.sort(rng.choice(members, MOST_UTTERANCES, replace=False))
        first, second = (members[side] for side in np.triu_indices(len(members), 1))
        asked = (codes[first] != codes[second]) | ask_same
        alike = who[first] == who[second]
        kept = [_draw(rng, np.flatnonzero(asked & (alike == target)), most // len(groups)) for target in (True, False)]
        places = np.sort(np.concatenate(kept))
        pairs.append(Pairs(group, first[places], second[places]))
    return pairs


def ask(pairs: Sequence[Pairs], scorers: Iterator[Scorer], vectors: Floats, speakers: Indices) -> Trials:
    """Score the pairs of every group with the scorer of the group.

    Args:
        vectors: [U, d] of the test utterances.
        speakers: [U], numbers from 0.
    """
    first = np.concatenate([p.first for p in pairs])
    second = np.concatenate([p.second for p in pairs])
    scores = []
    for group, scorer in zip(pairs, scorers, strict=True):
        members, places = np.unique(np.concatenate([group.first, group.second]), return_inverse=True)
        of_all = scorer(vectors[members])
        scores.append(of_all[places[: len(group.first)], places[len(group.first) :]])
    same = speakers[first] == speakers[second]
    return Trials(np.concatenate(scores), same, speakers[first], speakers[second])


def cosine(background: Floats) -> Scorer:
    """Cosine of the angle between two vectors, after each dimension was given mean 0 and deviation 1.

    Args:
        background: [U, d], other speech, of which mean and deviation are taken; nobody need know who speaks.
    """
    standardize = _standardizer(background)

    def score(vectors: Floats) -> Floats:
        directions = standardize(vectors)
        directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
        products: Floats = directions @ directions.T
        return products

    return score


def trainable(speakers: Sequence[str]) -> bool:
    """Whether `plda` can be trained: there are two speakers, and one of them speaks twice."""
    return len(speakers) > len(set(speakers)) > 1


def plda(vectors: Floats, speakers: Sequence[str]) -> Scorer:
    """Probabilistic linear discriminant analysis: log p(a, b | one speaker) - log p(a, b | two).

    A vector is its speaker's mean, Gaussian with covariance B, plus the rest, Gaussian with covariance W (Ioffe,
    Probabilistic linear discriminant analysis, 2006; the two-covariance model of Brummer and de Villiers, 2010). W is
    shrunk as in `shrink`. Where W is the identity and B is diagonal with psi, the score is the sum over dimensions of

        log(1 + psi) - log(1 + 2 psi) / 2 + psi a b / (1 + 2 psi) - psi^2 (a^2 + b^2) / (2 (1 + psi) (1 + 2 psi))

    When not to trust it: of S training speakers it sees at most S - 1 directions in which speakers differ.

    Args:
        vectors: [U, d].
        speakers: of each; see `trainable`.
    """
    standardize = _standardizer(vectors)
    inputs = standardize(vectors)
    names, whose = np.unique(np.array(speakers), return_inverse=True)
    counts = np.bincount(whose)
    means = np.stack([inputs[whose == i].mean(axis=0) for i in range(len(names))])
    rest = inputs - means[whose]
    freedom = len(inputs) - len(names)
    values, axes = np.linalg.eigh(shrink(rest.T @ rest / freedom, freedom))
    whiten = axes / np.sqrt(values)
    centre = means.mean(axis=0)
    # A mean of n utterances differs from its speaker's by W / n, which here is 1 / n in every direction.
    whitened = (means - centre) @ whiten
    _, deviations, turn = np.linalg.svd(whitened / np.sqrt(len(names) - 1), full_matrices=False)
    psi = np.maximum(deviations**2 - np.mean(1 / counts), 0.0)
    project = whiten @ turn.T

    def score(asked: Floats) -> Floats:
        x = (standardize(asked) - centre) @ project
        constant = np.sum(np.log1p(psi) - 0.5 * np.log1p(2 * psi))
        own = (x**2) @ (psi**2 / (2 * (1 + psi) * (1 + 2 * psi)))
        scores: Floats = constant + (x * (psi / (1 + 2 * psi))) @ x.T - own[:, None] - own[None, :]
        return scores

    return score


def _draw(rng: np.random.Generator, places: Indices, most: int) -> Indices:
    return rng.choice(places, most, replace=False) if len(places) > most else places


def _standardizer(background: Floats) -> Callable[[Floats], Floats]:
    mean, deviation = background.mean(axis=0), background.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, 1.0)
    return lambda vectors: (vectors - mean) / scale
