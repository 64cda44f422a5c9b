"""The measures on both latents of one seed, as figures."""

from __future__ import annotations

import numpy as np

from disentangle_lightning.analysis.information.blocks import dci
from disentangle_lightning.analysis.information.bounds import club, infonce
from disentangle_lightning.analysis.information.coding import compression
from disentangle_lightning.analysis.information.factors import Factor, texts_recur
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
    probe: SplitLatents, test: SplitLatents, representation: str, factor: Factor, seed: int
) -> dict[str, float]:
    """`information.REP.FACTOR.compression` of a factor in a representation, and of a label `.selectivity.PROBE`."""
    known = [places >= 0 for places in (factor.fitted, factor.tested)]
    if min(map(np.sum, known)) < LEAST:
        return {}
    fitted, measured = (
        (split.means(representation)[has], places[has])
        for split, places, has in zip((probe, test), (factor.fitted, factor.tested), known, strict=True)
    )
    name = f"information.{representation}.{factor.key}"
    figures = compression(fitted, measured, factor.count, seed).figures(name)
    types = utterance_types(probe, test, factor.name) if factor.kind == "label" else None
    if types is not None:
        kept = [kind for kind, has in zip(types, np.concatenate(known), strict=True) if has]
        means, classes = (np.concatenate(parts) for parts in zip(fitted, measured, strict=True))
        for reader, found in selectivity(means, classes, kept, len(fitted[1]), seed).items():
            figures |= found.figures(f"{name}.selectivity.{reader}")
    return figures


def utterance_types(probe: SplitLatents, test: SplitLatents, label: str) -> list[tuple[object, ...]] | None:
    """The type of every utterance of both splits: all its labels, and its text where texts recur.

    None where that is no finer than the label: a control label would be the label under another name.
    """
    recur = texts_recur(probe.transcriptions, test.transcriptions)
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
