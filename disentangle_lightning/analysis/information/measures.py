"""The measures on both latents of one seed, as figures."""

from __future__ import annotations

import numpy as np

from disentangle_lightning.analysis.information.blocks import dci
from disentangle_lightning.analysis.information.bounds import club, infonce
from disentangle_lightning.analysis.information.coding import compression
from disentangle_lightning.analysis.information.factors import Factor
from disentangle_lightning.analysis.information.kernels import alignment
from disentangle_lightning.analysis.information.modularity import modularity
from disentangle_lightning.analysis.information.pairs import frame_pairs, utterance_pairs
from disentangle_lightning.analysis.information.selectivity import selectivity
from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.analysis.settings import InformationSettings

LEAST = 8
"""With fewer utterances in either split, nothing but rates is measured."""

LEVELS = {"utterance": "means over utterances", "frame": "frames"}


def shared(
    probe: SplitLatents, test: SplitLatents, acoustic: str, settings: InformationSettings, seed: int
) -> dict[str, float]:
    """`information.shared.ACOUSTIC.LEVEL.MEASURE` of z_textual and one z_acoustic: `infonce` and `club` in bits, `hsic`
    and `cka`; each with `.null`, the 95 % quantile at random, and `.p`.

    What predicts is z_acoustic, what is predicted z_textual: the dimensions of the latter have less in common, and CLUB
    counts what several dimensions say once for each.
    """
    figures: dict[str, float] = {}
    for level in LEVELS:
        if level == "utterance":
            fitted, measured = (utterance_pairs(split, acoustic, "textual") for split in (probe, test))
        else:
            fitted, measured = (frame_pairs(split, acoustic, "textual", settings.frames) for split in (probe, test))
        fitted, measured = fitted.some(settings.utterances), measured.some(settings.utterances)
        found = {
            "infonce": infonce(fitted, measured, settings.permutations, seed),
            "club": club(fitted, measured, settings.permutations, seed),
            "hsic": alignment(measured, "gaussian", settings.permutations),
            "cka": alignment(measured, "linear", settings.permutations),
        }
        for measure, dependence in found.items():
            figures |= dependence.figures(f"information.shared.{acoustic}.{level}.{measure}")
    return figures


def readability(
    probe: SplitLatents, test: SplitLatents, representation: str, label: str, seed: int
) -> dict[str, float]:
    """`information.REP.LABEL.compression` and `.selectivity.PROBE` of a label in a representation."""
    sides = [(split.means(representation), split.labels[label]) for split in (probe, test)]
    known = [classes >= 0 for _, classes in sides]
    fitted, measured = ((means[has], classes[has]) for (means, classes), has in zip(sides, known, strict=True))
    count = len(probe.label_names[label])
    if count < 2 or min(len(fitted[1]), len(measured[1])) < LEAST:
        return {}
    name = f"information.{representation}.{label}"
    figures = compression(fitted, measured, count, seed).figures(name)
    types = utterance_types(probe, test, label)
    if types is not None:
        kept = [kind for kind, has in zip(types, np.concatenate(known), strict=True) if has]
        means, classes = (np.concatenate(parts) for parts in zip(fitted, measured, strict=True))
        for reader, found in selectivity(means, classes, kept, len(fitted[1]), seed).items():
            figures |= found.figures(f"{name}.selectivity.{reader}")
    return figures


def utterance_types(probe: SplitLatents, test: SplitLatents, label: str) -> list[tuple[object, ...]] | None:
    """The type of every utterance of both splits: all its labels, and its text where half of those of the test split
    stand in the other, too. None where that is no finer than the label: a control label would be the label renamed."""
    texts = set(probe.transcriptions)
    recur = np.mean([text in texts for text in test.transcriptions]) >= 0.5 and None not in texts
    types: list[tuple[object, ...]] = [
        (*(int(values[i]) for values in split.labels.values()), split.transcriptions[i] if recur else None)
        for split in (probe, test)
        for i in range(len(split))
    ]
    of_label = np.concatenate([probe.labels[label], test.labels[label]])
    return types if len(set(types)) > len(set(of_label.tolist())) else None


def factor_figures(probe: SplitLatents, test: SplitLatents, acoustic: str, factors: list[Factor]) -> dict[str, float]:
    """`information.factors.ACOUSTIC.*` of z_textual and one z_acoustic as two blocks, and `information.REP.modularity`
    of either."""
    textual, other = ((probe.means(name), test.means(name)) for name in ("textual", acoustic))
    found = dci(textual, other, factors)
    figures = {f"information.factors.{acoustic}.{name}": value for name, value in found.items()}
    for name, sides in (("textual", textual), (acoustic, other)):
        figures |= {f"information.{name}.{what}": value for what, value in modularity(*sides, factors).items()}
    return figures
