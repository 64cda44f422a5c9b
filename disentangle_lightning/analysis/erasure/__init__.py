"""Linear erasure of labels from hidden states, the closed-form baseline of z_textual: what it leaves, what it costs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from disentangle_lightning.analysis.erasure.leace import Eraser, eraser_of
from disentangle_lightning.analysis.erasure.page import notes_on_erasure, trade_off_drawing, trade_off_table
from disentangle_lightning.analysis.erasure.store import write_erased
from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.analysis.privacy.detection import Floats, Indices
from disentangle_lightning.analysis.privacy.labels import attack_figures, linear, mlp, statistics
from disentangle_lightning.analysis.progress import track
from disentangle_lightning.analysis.settings import ErasureSettings
from disentangle_lightning.analysis.trained_run import DoesNotApply, TrainedRun
from disentangle_lightning.features.targets import CTC_TARGET
from disentangle_lightning.report.analysis_result import AnalysisResult
from disentangle_lightning.summary import aggregate
from disentangle_lightning.tasks.linear_reader import Reader

NOTHING, EVERYTHING = "nothing", "all_labels"
"""What is erased, beside single labels."""


def analyze(run: TrainedRun, settings: ErasureSettings, folder: Path) -> AnalysisResult:
    """See `AnalysisResult.explanation`."""
    if not run.labels:
        raise DoesNotApply("the run has no label that could be erased; name some in its field `labels`")
    probe, test = (run.latents(run.seeds[0], split) for split in ("probe", "test"))
    erased: dict[str, list[str]] = {NOTHING: []} | {label: [label] for label in run.labels}
    if len(run.labels) > 1:
        erased[EVERYTHING] = run.labels
    erasers = {name: eraser_of(probe, labels) if labels else _keep for name, labels in erased.items()}

    numbers = _speaker_numbers(run, test)
    common: dict[str, float] = {}
    for name, eraser in track(list(erasers.items()), "erasure"):
        common |= leakage(f"erasure.{name}", _with(probe, eraser), _with(test, eraser), "hidden", numbers)
    own = [
        leakage("erasure.textual", run.latents(seed, "probe"), run.latents(seed, "test"), "textual", numbers)
        for seed in run.seeds
    ]
    transcribed = all(any(run.latents(run.seeds[0], split).transcriptions) for split in ("probe", "dev", "test"))
    epochs = run.epochs("probe", settings.share_of_epochs)
    if transcribed:
        manifest, store = write_erased(run, erasers, folder)
        data: dict[str, Any] = {"data.manifest": str(manifest), "data.store": str(store)}
        for seed, of_seed in zip(run.seeds, own, strict=True):
            of_seed |= _words_wrong(run, data, folder / f"seed{seed}", seed, list(erasers), epochs)
        shutil.rmtree(store)  # gigabytes of a large corpus, made again in a moment
    figures = aggregate([common | of_seed for of_seed in own])

    result = AnalysisResult(
        "Linear erasure beside z_textual",
        "LEACE changes the averaged hidden states as little as it can so that no linear reader finds a label in "
        "them: in closed form, without training, one label or all at once. What does it leave to attackers, and what "
        "does it cost in words, beside z_textual? Best is the lower left: few words wrong, nothing given away.",
        figures,
    )
    compared = [*erased, "textual"]
    drawing = trade_off_drawing(result.measurements, compared, run.labels)
    return AnalysisResult(
        result.title,
        result.explanation,
        figures,
        [trade_off_table(result.measurements, compared, run.labels)],
        [drawing] if drawing else [],
        notes_on_erasure(result.measurements, probe, run.labels, epochs if transcribed else None),
    )


def leakage(
    name: str, probe: SplitLatents, test: SplitLatents, representation: str, numbers: Indices
) -> dict[str, float]:
    """What attackers trained on probe read of each label on test, with intervals over speakers.

    `NAME.LABEL.linear.accuracy`, `.leakage` and `.chance` of linear discriminant analysis on the means of utterances,
    `NAME.LABEL.fit.leakage` of the same on its own utterances, and `NAME.LABEL.mlp.*` of a network on means and
    deviations.

    Args:
        numbers: [U], the speakers of test.
    """
    figures: dict[str, float] = {}
    means, moving = ([f(s, representation) for s in (probe, test)] for f in (SplitLatents.means, statistics))
    for label, names in test.label_names.items():
        known, asked = (np.flatnonzero(s.labels[label] >= 0) for s in (probe, test))
        learnt, right = probe.labels[label][known], test.labels[label][asked]
        counts = np.bincount(learnt, minlength=len(names))
        of_label = f"{name}.{label}"
        reader: Reader = linear(means[0][known], learnt, len(names))
        figures |= _attack(f"{of_label}.linear", reader(means[1][asked]), right, numbers[asked], counts)
        alone = np.arange(len(known))
        fit = _attack(f"{of_label}.fit", reader(means[0][known]), learnt, alone, counts)
        figures |= {k: v for k, v in fit.items() if ".leakage" in k}
        reader = mlp(moving[0][known], learnt, len(names))
        figures |= _attack(f"{of_label}.mlp", reader(moving[1][asked]), right, numbers[asked], counts)
    return figures


def _attack(name: str, scores: Floats, classes: Indices, numbers: Indices, counts: Indices) -> dict[str, float]:
    """Without detection rates, which are the analysis of privacy's."""
    numbers = np.unique(numbers, return_inverse=True)[1]
    figures = attack_figures(name, scores, classes, numbers, counts)
    return {k: v for k, v in figures.items() if "tpr" not in k}


def _keep(frames: Tensor) -> Tensor:
    return frames


def _with(latents: SplitLatents, eraser: Eraser) -> SplitLatents:
    return replace(latents, frames={"hidden": eraser(latents.frames["hidden"])})


def _speaker_numbers(run: TrainedRun, latents: SplitLatents) -> Indices:
    """[U]; an utterance whose speaker is not known is a speaker of its own."""
    names = [run.utterances[id].speaker or f"utterance {id}" for id in latents.ids]
    numbers: Indices = np.unique(np.array(names), return_inverse=True)[1]
    return numbers


def _words_wrong(
    run: TrainedRun, data: dict[str, Any], folder: Path, seed: int, erased: Sequence[str], epochs: int
) -> dict[str, float]:
    """`erasure.WHAT.wer` of a linear CTC probe like the run's own, on z_textual and on each layer of the erased store.

    Args:
        data: the fields that name the erased store and its manifest.
    """
    common: dict[str, Any] = {
        "model.init_args.targets": [CTC_TARGET],
        "model.init_args.head": "linear",
        "trainer.max_epochs": epochs,
    }
    fields = common | {f"model.init_args.{name}": value for name, value in run.probed(seed)["textual"].items()}
    figures = _wer("textual", "textual", run.fit(folder / "textual", seed, "probe", [], fields)[1])
    for layer, name in enumerate(erased, start=1):
        hidden = {"model.init_args.representation": "hidden", "model.init_args.layer": None, "data.layers": [layer]}
        figures |= _wer(name, "hidden", run.fit(folder / name, seed, "probe", [], common | data | hidden)[1])
    return figures


def _wer(name: str, representation: str, figures: Mapping[str, float]) -> dict[str, float]:
    known = f"probe.{representation}.ctc.wer"
    return {f"erasure.{name}.wer{k.removeprefix(known)}": v for k, v in figures.items() if k.startswith(known)}
