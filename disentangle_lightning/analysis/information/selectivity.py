"""Selectivity: does a probe read a label, or could it have learnt any?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from disentangle_lightning.analysis.information.perceptrons import Perceptrons, folds, train
from disentangle_lightning.analysis.information.readers import Classes, Floats, linear_answers
from disentangle_lightning.tasks.metrics import bootstrap_ratio

HIDDEN = 64
CONTROLS = 5
"""Random labellings, over which the accuracy on control labels is averaged."""


@dataclass(frozen=True)
class Selectivity:
    """Accuracy on a label and on control labels, over the same test utterances, and their difference.

    Attributes:
        low, high: a 95 % interval of the difference, over utterances.
    """

    accuracy: float
    control: float
    low: float
    high: float

    def figures(self, name: str) -> dict[str, float]:
        """`NAME`, the difference, with its interval, `NAME.accuracy` and `NAME.control`."""
        return {
            name: self.accuracy - self.control,
            f"{name}.ci_low": self.low,
            f"{name}.ci_high": self.high,
            f"{name}.accuracy": self.accuracy,
            f"{name}.control": self.control,
        }


def control_labels(types: Sequence[object], classes: Classes, fitted: int, seed: int) -> Classes:
    """Every type of utterance gets a class at random, at the frequencies of the true label: [U].

    Args:
        types: of each utterance; those of one type get one class, wherever they stand.
        classes: the true label, [U], all known.
        fitted: so many utterances come first that are learnt from; their frequencies are taken.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    drawn = {kind: rng.choice(classes[:fitted]) for kind in dict.fromkeys(types)}
    return np.array([drawn[kind] for kind in types])


def selectivity(
    means: Floats, classes: Classes, types: Sequence[object], fitted: int, seed: int = 0
) -> dict[str, Selectivity]:
    """Accuracy minus accuracy on control labels (arXiv 1909.03368), of a `linear` and an `mlp` probe.

    A control label is a random function of the utterance's type, see `control_labels`. Only a probe that tells types
    apart and learns each by heart gets it right; a probe that is no better on the label itself has not shown that the
    representation holds the label in a form of its own. What a type is decides what is asked: the finer, the less a
    control can be learnt, and types that do not come back cannot be learnt at all. Test utterances whose type was never
    seen are left out. Both probes read the mean over the utterance: linear discriminant analysis, and one hidden layer
    of `HIDDEN` units. The interval is over test utterances, the probes being what they are.

    Args:
        means: [U, d], the utterances that are learnt from before those that are tested.
        classes: [U], all known.
        types: of each utterance.
        fitted: how many utterances are learnt from.
        seed: of networks and control labels.

    Returns:
        by probe; nothing if no test utterance is of a type that was seen.
    """
    known = set(types[:fitted])
    tested = np.array([i for i in range(fitted, len(types)) if types[i] in known], dtype=np.int64)
    if not len(tested):
        return {}
    controls = [control_labels(types, classes, fitted, seed + draw) for draw in range(CONTROLS)]
    labellings = np.stack([classes, *controls])
    count = int(labellings.max()) + 1
    learnt, unseen = means[:fitted], means[tested]
    answers = {
        "linear": np.stack([linear_answers(learnt, each[:fitted], count, unseen) for each in labellings]),
        "mlp": mlp_answers(learnt, labellings[:, :fitted], count, unseen, seed),
    }
    found = {}
    for probe, answered in answers.items():
        correct = (answered == labellings[:, tested]).astype(float)
        difference = correct[0] - correct[1:].mean(0)
        low, high = bootstrap_ratio(difference, np.ones_like(difference))
        found[probe] = Selectivity(float(correct[0].mean()), float(correct[1:].mean()), low, high)
    return found


def mlp_answers(means: Floats, classes: Classes, count: int, asked: Floats, seed: int) -> Classes:
    """The classes that networks with one hidden layer answer, one network for each of T labellings: [T, U'].

    Args:
        means: [U, d], to learn from, a fifth of them only to choose the step.
        classes: [T, U].
        count: classes of the labelling that has most.
        asked: [U', d].
        seed: of the networks.
    """
    mean, scale = means.mean(0), means.std(0)
    scale[scale == 0] = np.inf
    x, x_asked = (torch.from_numpy((part - mean) / scale).float() for part in (means, asked))
    targets = torch.from_numpy(classes)
    networks = Perceptrons(len(classes), means.shape[1], HIDDEN, count, seed)

    def losses(rows: Tensor) -> Tensor:
        logits = networks(x[rows]).transpose(1, 2)
        return F.cross_entropy(logits, targets.gather(1, rows), reduction="none").mean(1)

    learnt, held_out = (rows[:1].expand(len(classes), -1) for rows in folds(len(means), seed))
    train([networks], losses, learnt, held_out, seed)
    with torch.no_grad():
        answers: Classes = networks(x_asked).argmax(2).numpy()
    return answers
