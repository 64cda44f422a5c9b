"""What either latent contributes to a task: alone, given the other, and shared out by Shapley's rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from disentangle_lightning.analysis.latents import Classes, Floats
from disentangle_lightning.tasks.linear_reader import fit_classes, moments
from disentangle_lightning.tasks.metrics import bootstrap_ratio


@dataclass(frozen=True)
class Answers:
    """Which of U test utterances are answered right from each set of latents; each [U], 1 or 0.

    Attributes:
        nothing: from none: the class that is most frequent where readers are fitted.
        textual, acoustic: from one latent alone.
        joint: from both side by side.
    """

    nothing: Floats
    textual: Floats
    acoustic: Floats
    joint: Floats


def read_answers(
    textual: tuple[Floats, Floats], acoustic: tuple[Floats, Floats], targets: tuple[Classes, Classes], classes: int
) -> Answers:
    """Read a label by linear discriminant analysis (`fit_classes`), which has no setting and no seed.

    Args:
        textual, acoustic: the means over utterances of each latent, [U, d]: those to fit on, those to measure on.
        targets: the class of each utterance, likewise; utterances with -1 are left out.
        classes: how many there are.
    """
    fitted, measured = (known >= 0 for known in targets)
    fit_targets, test_targets = targets[0][fitted], targets[1][measured]
    one_hot = np.eye(classes)[fit_targets]

    def correct(parts: tuple[Floats, Floats]) -> Floats:
        fit_means, test_means = parts[0][fitted], parts[1][measured]
        read = fit_classes(moments(fit_means, one_hot), fit_means.shape[1])
        right: Floats = (read(test_means).argmax(axis=1) == test_targets).astype(float)
        return right

    commonest = int(one_hot.sum(axis=0).argmax())
    joint = tuple(np.concatenate(pair, axis=1) for pair in zip(textual, acoustic, strict=True))
    return Answers(
        (test_targets == commonest).astype(float), correct(textual), correct(acoustic), correct((joint[0], joint[1]))
    )


def contributions(answers: Answers) -> dict[str, float]:
    """Figures of accuracies v, in points of accuracy from 0 to 1, with their intervals over test utterances.

    - `joint.accuracy`: v(textual, acoustic).
    - `textual.conditional`: v(textual, acoustic) - v(acoustic), what it adds to the other (arXiv 2109.09234);
      `acoustic.conditional` likewise.
    - `textual.shapley`: half of v(textual) - v(nothing) + v(textual, acoustic) - v(acoustic), the mean of what it adds
      over both orders; `acoustic.shapley` likewise. The two add up to v(textual, acoustic) - v(nothing).

    When not to trust them: readers see the mean over an utterance and are linear, so what lies in the order of frames,
    or is only read by a non-linear reader, counts for nothing. A latent that says what the other says has no
    conditional contribution, though the task may depend on it alone; Shapley's rule gives each half. Where few
    utterances are fitted on, the joint reader, which has the most weights, may be worse than one alone, and
    contributions fall below zero.
    """
    parts = {
        "joint.accuracy": answers.joint,
        "textual.conditional": answers.joint - answers.acoustic,
        "acoustic.conditional": answers.joint - answers.textual,
        "textual.shapley": (answers.textual - answers.nothing + answers.joint - answers.acoustic) / 2,
        "acoustic.shapley": (answers.acoustic - answers.nothing + answers.joint - answers.textual) / 2,
    }
    return with_intervals(parts)


def with_intervals(per_utterance: Mapping[str, Floats]) -> dict[str, float]:
    """The mean over utterances of each figure, and its 95 % bootstrap interval."""
    figures: dict[str, float] = {}
    for name, values in per_utterance.items():
        low, high = bootstrap_ratio(values, np.ones_like(values))
        figures |= {name: float(values.mean()), f"{name}.ci_low": low, f"{name}.ci_high": high}
    return figures
