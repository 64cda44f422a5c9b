"""The protocol beside what its parts are compared with: which of them make what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from disentangle_lightning.analysis.ablations.shown import ablation_drawing, ablation_table
from disentangle_lightning.analysis.ablations.variants import NEEDS_ANOTHER_LABEL, VARIANTS, Trainings
from disentangle_lightning.analysis.settings import AblationsSettings
from disentangle_lightning.analysis.trained_run import DoesNotApply, TrainedRun
from disentangle_lightning.errors import UserError
from disentangle_lightning.report.analysis_result import AnalysisResult
from disentangle_lightning.summary import aggregate


def analyze(run: TrainedRun, settings: AblationsSettings, folder: Path) -> AnalysisResult:
    """See `AnalysisResult.explanation`."""
    if not run.tasks:
        raise DoesNotApply(f"{run.path} has no Stage 2, whose parts could be left out")
    if "class_path" not in run.settings.stage1.set.get("model", {}):
        raise DoesNotApply(f"{run.path} has no settings to train a Stage 1 with; add stage1.config to the run")
    if not {"train", "probe", "dev", "test"} <= {u.split for u in run.utterances.values() if u.transcription}:
        raise DoesNotApply(f"{run.path} has splits without transcriptions, from which every Stage 1 here is trained")
    task = run.tasks[0]
    other = _other_label(run, settings.other, task)
    names = _names(settings.variants, other)
    figures = aggregate(
        [_figures(Trainings(run, settings, folder / f"seed{seed}", seed, task, other), names) for seed in run.seeds]
    )
    headings = {
        name: VARIANTS[name][0]
        .replace("TASK", task)
        .replace("OTHER", str(other))
        .replace("DIM", str(settings.latent_dim))
        .replace("FACTOR", f"{settings.beta_factor:g}")
        for name in names
    }
    result = AnalysisResult("Ablations", _QUESTION, figures)
    table = ablation_table(result.measurements, headings, task, other)
    drawing = ablation_drawing(result.measurements, headings, task)
    return AnalysisResult(result.title, _QUESTION, figures, [table], [drawing], _notes(run, settings, task, other))


def _other_label(run: TrainedRun, wanted: str | None, task: str) -> str | None:
    others = [label for label in run.labels if label != task]
    if wanted is not None and wanted not in others:
        raise UserError(f"field 'other' is '{wanted}'; expected one of the run's labels {', '.join(others)}")
    return wanted or next(reversed(others), None)


def _names(wanted: Sequence[str] | None, other: str | None) -> list[str]:
    if unknown := set(wanted or []) - set(VARIANTS):
        raise UserError(f"field 'variants' has '{min(unknown)}'; expected some of {', '.join(VARIANTS)}")
    chosen = list(VARIANTS) if wanted is None else list(dict.fromkeys(["full", *wanted]))
    return [name for name in chosen if other is not None or name not in NEEDS_ANOTHER_LABEL]


def _figures(trainings: Trainings, names: Sequence[str]) -> dict[str, float]:
    """`ablations.VARIANT.LATENT.FIGURE` of what its own stage reads from it, and `.probe.` of what probes read."""
    figures: dict[str, float] = {}
    for name in names:
        variant = VARIANTS[name][1](trainings)
        for latent, stage in (("textual", variant.textual), ("acoustic", variant.acoustic)):
            if stage is None:
                continue
            probed = trainings.probe(f"probe_{stage.checkpoint.parent.parent.name}", stage)
            own = {k: v for k, v in stage.figures.items() if k.endswith(_KEPT)}
            figures |= {f"ablations.{name}.{latent}.{k}": v for k, v in own.items()}
            figures |= {f"ablations.{name}.{latent}.probe.{k}": v for k, v in probed.items()}
    return figures


_KEPT = tuple(
    f"{figure}{suffix}"
    for figure in ("wer", "accuracy", "rate_bits_per_second", "active_dimensions")
    for suffix in ("", ".ci_low", ".ci_high")
)

_QUESTION = (
    "The protocol is trained anew beside variants that lack or change a part of it, all equally long, with the "
    "settings of the run and on its own data. The same probes then read both latents of each. A part earns its place "
    "where the variant without it has more of the task left in z_textual, more words left in z_acoustic, or loses "
    "words or task."
)


def _notes(run: TrainedRun, settings: AblationsSettings, task: str, other: str | None) -> list[str]:
    notes = [
        "A condition that knows nothing is the z_textual of first weights. One stage alone is also what z_acoustic by "
        "itself is: Stage 2's classifier without a condition.",
    ]
    if settings.share_of_epochs < 1:
        epochs = ", ".join(
            f"{kind} {run.epochs(kind, settings.share_of_epochs)}" for kind in ("stage1", "stage2", "probe")
        )
        notes.append(
            f"Trainings are shorter than the run's own ({epochs} epochs): compare rows with the first one, not with "
            "the run, and small differences not at all. --share_of_epochs 1 trains as long as the run."
        )
    if len(run.seeds) == 1:
        notes.append("One seed: how much two trainings of the same variant differ is not known.")
    if len(run.tasks) > 1:
        notes.append(f"Of the run's tasks, {task} alone.")
    if other is None:
        notes.append("The run has one label, so several tasks in one Stage 2 and a third stage are left out.")
    if run.settings.stage1.checkpoint is not None:
        notes.append("Every Stage 1 is trained on this corpus, not on the one that the run's own came from.")
    return notes
