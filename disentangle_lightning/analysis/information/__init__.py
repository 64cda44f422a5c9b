"""How much either latent carries, and how much the two share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from disentangle_lightning.analysis.information import tables
from disentangle_lightning.analysis.information.factors import Factor, all_factors
from disentangle_lightning.analysis.information.measures import (
    LEAST,
    factor_figures,
    readability,
    shared,
    utterance_types,
)
from disentangle_lightning.analysis.information.rate import rates
from disentangle_lightning.analysis.progress import track
from disentangle_lightning.analysis.settings import InformationSettings
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.report.analysis_result import AnalysisResult
from disentangle_lightning.report.wording import listing
from disentangle_lightning.summary import aggregate

EXPLANATION = (
    "How much passes each bottleneck, how much z_textual and z_acoustic have in common, how readily labels are read "
    "from either, and which of the two holds what. Whatever is fitted is fitted on utterances that no stage has seen, "
    "and measured on test utterances."
)

Measure = Callable[[], dict[str, float]]


def analyze(run: TrainedRun, settings: InformationSettings, folder: Path) -> AnalysisResult:
    """See `EXPLANATION`."""
    probe, test = (run.latents(run.seeds[0], split) for split in ("probe", "test"))
    acoustic = [f"acoustic_{task}" for task in run.tasks]
    factors = all_factors(probe, test)
    measures = [(seed, measure) for seed in run.seeds for measure in _measures(run, settings, seed, factors)]
    of_seeds: dict[int, dict[str, float]] = {seed: {} for seed in run.seeds}
    for seed, measure in track(measures, "information"):
        of_seeds[seed] |= measure()
    result = AnalysisResult("Information in the latents", EXPLANATION, aggregate(list(of_seeds.values())))

    figures, representations = result.measurements, ["hidden", "textual", *acoustic]
    shown = [
        tables.rate_table(figures, list(probe.kl)),
        tables.shared_table(figures, acoustic),
        tables.compression_table(figures, representations, factors),
        tables.selectivity_table(figures, representations, run.labels),
        tables.factor_table(figures, acoustic),
    ]
    return AnalysisResult(
        result.title,
        result.explanation,
        result.figures,
        [table for table in shown if table.rows],
        tables.factor_drawings(figures, acoustic, factors),
        _notes(run, factors),
    )


def _measures(run: TrainedRun, settings: InformationSettings, seed: int, factors: list[Factor]) -> list[Measure]:
    probe, test = run.latents(seed, "probe"), run.latents(seed, "test")
    acoustic = [f"acoustic_{task}" for task in run.tasks]
    measures: list[Measure] = [partial(rates, test, run.frame_rate)]
    if min(len(probe), len(test)) < LEAST:
        return measures
    measures += [partial(shared, probe, test, name, settings, seed) for name in acoustic]
    measures += [
        partial(readability, probe, test, representation, factor, seed)
        for representation in ("hidden", "textual", *acoustic)
        for factor in factors
    ]
    if _has_both_kinds(factors):
        measures += [partial(factor_figures, probe, test, name, factors) for name in acoustic]
    return measures


def _has_both_kinds(factors: list[Factor]) -> bool:
    return len({factor.kind for factor in factors}) == 2


def _notes(run: TrainedRun, factors: list[Factor]) -> list[str]:
    """What was left out and why, and what limits the figures."""
    probe, test = (run.latents(run.seeds[0], split) for split in ("probe", "test"))
    rates_note = (
        "Rates are of the noisy code that the stages were trained with; everything else is of the posterior means, "
        "which are what is released, and can tell more."
    )
    if min(len(probe), len(test)) < LEAST:
        return [rates_note, f"Nothing else was measured: probe or test has less than {LEAST} utterances."]
    notes = [
        rates_note,
        "Intervals are over test utterances as if each were drawn by itself, whatever was fitted being what it is: "
        "they are too narrow where few sentences or few speakers make many utterances.",
    ]
    if run.tasks:
        notes += [
            "InfoNCE cannot exceed the logarithm of the number of pairs measured, and is below the truth by what its "
            "networks could not learn; below 0 it says nothing, though p still does. CLUB is above the truth only "
            "where its network predicts well, and far above it where one latent is all but a function of the other.",
            "Pairing utterances at random breaks every tie between them, be it a label that leaks or the mere length "
            "of a clip; a small p does not say which.",
        ]
    else:
        notes.append("The run has no Stage 2, so there is nothing that z_textual could share, and no second block.")
    if run.tasks and not _has_both_kinds(factors):
        notes.append(
            "Disentanglement and modularity were left out: they need labels, and transcriptions with letters that some "
            "utterances have more of than others."
        )
    elif run.tasks:
        letters = [factor.name.removeprefix("letter ") for factor in factors if factor.name.startswith("letter ")]
        notes.append(
            f"A letter stands for whether an utterance has more of it than most ({listing(letters)}). It is read from "
            "the mean over the utterance, and so may be found in a latent whose frames cannot be transcribed. No label "
            "counts as text: one that follows from the words, such as an intent, lowers disentanglement without fault."
        )
    bare = [label for label in run.labels if utterance_types(probe, test, label) is None]
    if bare:
        notes.append(
            f"Selectivity of {listing(bare)} was left out: no other label and no recurring text makes finer types of "
            "utterances, so that a control label would be the label under another name."
        )
    if factors:
        notes.append(
            "Compression and importance are by linear discriminant analysis of means over utterances: another reader "
            "may find more."
        )
    return notes
