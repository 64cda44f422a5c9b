"""What words and voice contribute to each task, layer by layer of the encoder (arXiv 2410.03037, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from disentangle_lightning.analysis.latents import collect
from disentangle_lightning.analysis.layers.contribution import contributions, read_answers
from disentangle_lightning.analysis.layers.shown import layer_curves, layer_tables
from disentangle_lightning.analysis.settings import LayersSettings
from disentangle_lightning.analysis.trained_run import DoesNotApply, TrainedRun
from disentangle_lightning.errors import UserError
from disentangle_lightning.report.analysis_result import ANALYSES, AnalysisResult, read_results
from disentangle_lightning.report.run_directory import Measurement
from disentangle_lightning.summary import aggregate
from disentangle_lightning.tasks.base import freeze, load_task
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.tasks.stage_training import hidden_labels


def analyze(run: TrainedRun, settings: LayersSettings, folder: Path) -> AnalysisResult:
    """See `AnalysisResult.explanation`."""
    layers = _layers(run, settings.layers)
    beside = {path: _figures_of(Path(path)) for path in settings.beside}
    if run.settings.stage1.checkpoint is not None and settings.stage1_run is None:
        raise DoesNotApply(
            f"the Stage 1 of {run.path} was trained elsewhere, on all layers together; name a run on that corpus whose "
            "analysis layers is done as --stage1_run"
        )
    figures = aggregate([_seed_figures(run, settings, folder, seed, layers) for seed in run.seeds])
    title, question = "Layer by layer", _QUESTION if run.tasks else _QUESTION_OF_STAGE_1
    runs = {str(run.path): AnalysisResult(title, question, figures).measurements} | beside
    tables = layer_tables(runs, layers, run.tasks)
    return AnalysisResult(title, question, figures, tables, layer_curves(runs, run.tasks), _notes(run, settings))


def _layers(run: TrainedRun, wanted: Sequence[int] | None) -> list[int]:
    stored: list[int] = run.header["layers"]
    if unknown := set(wanted or []) - set(stored):
        raise UserError(f"field 'layers' has {min(unknown)}; {run.store} holds layers {', '.join(map(str, stored))}")
    return list(stored if wanted is None else wanted)


def _figures_of(path: Path) -> dict[str, Measurement]:
    result = read_results(path).get("layers")
    if result is None:
        raise UserError(
            f"field 'beside' has {path}, whose analysis layers is not done; "
            f"run `python -m disentangle_lightning analyze layers {path}` first"
        )
    return result.measurements


def _seed_figures(
    run: TrainedRun, settings: LayersSettings, folder: Path, seed: int, layers: Sequence[int]
) -> dict[str, float]:
    figures: dict[str, float] = {}
    for layer in layers:
        of_layer = _layer_figures(run, settings, folder / f"seed{seed}" / f"layer{layer}", seed, layer)
        figures |= {f"layers.{layer}.{name}": value for name, value in of_layer.items()}
    return figures


def _layer_figures(run: TrainedRun, settings: LayersSettings, folder: Path, seed: int, layer: int) -> dict[str, float]:
    """Train both stages and the probes on one layer; without the name's beginning."""

    def fit(name: str, kind: str, labels: Sequence[str], **model: Any) -> tuple[Path, dict[str, float]]:
        fields = {f"model.init_args.{key}": value for key, value in model.items()}
        fields |= {"data.layers": [layer], "trainer.max_epochs": run.epochs(kind, settings.share_of_epochs)}
        fields |= {"model.init_args.mixer": "uniform", "model.init_args.layer": None}  # of the one layer there is
        return run.fit(folder / name, seed, kind, labels, fields)

    figures: dict[str, float] = {}
    if settings.stage1_run is None:
        stage1, of_stage1 = fit("stage1", "stage1", [])
        figures = {k: v for k, v in of_stage1.items() if k.startswith(("stage1.wer", "stage1.rate_bits"))}
    else:
        stage1 = Path(settings.stage1_run, ANALYSES, "layers", *folder.parts[-2:], "stage1", "checkpoints", "best.ckpt")
    if not run.tasks:
        return figures
    _, of_textual = fit(
        "probe_textual", "probe", run.tasks, targets=run.tasks, representation="textual", source=str(stage1)
    )
    for task in run.tasks:
        stage2, of_stage2 = fit(f"stage2_{task}", "stage2", [task], task=task, stage1=str(stage1))
        _, of_acoustic = fit(
            f"probe_acoustic_{task}", "probe", [task], targets=[task], representation="acoustic", source=str(stage2)
        )
        figures |= {k: v for k, v in of_stage2.items() if k.startswith(f"stage2_{task}.rate_bits")}
        figures |= _renamed(of_textual, f"probe.textual.{task}.", f"{task}.textual.")
        figures |= _renamed(of_acoustic, f"probe.acoustic_{task}.{task}.", f"{task}.acoustic.")
        figures[f"{task}.chance"] = figures.pop(f"{task}.textual.chance")
        del figures[f"{task}.acoustic.chance"]
        shared = _shared_out(run, layer, task, stage1, stage2)
        figures |= {f"{task}.{name}": value for name, value in shared.items()}
    return figures


def _renamed(figures: dict[str, float], before: str, after: str) -> dict[str, float]:
    """Accuracy and chance of a probe under another beginning."""
    kept = {name.removeprefix(before): value for name, value in figures.items() if name.startswith(before)}
    return {after + name: value for name, value in kept.items() if name.startswith(("accuracy", "chance"))}


def _shared_out(run: TrainedRun, layer: int, task: str, stage1: Path, stage2: Path) -> dict[str, float]:
    """Conditional and Shapley contributions, by closed-form readers."""
    data = run.data([task], layers=[layer])
    stages = load_task(stage1, Stage1VIB), load_task(stage2, Stage2ConditionalVIB)
    for stage in stages:
        freeze(stage)
    fitted, measured = (collect(data, split, stages[0], {task: stages[1]}) for split in ("probe", "test"))
    return contributions(
        read_answers(
            (fitted.means("textual"), measured.means("textual")),
            (fitted.means(f"acoustic_{task}"), measured.means(f"acoustic_{task}")),
            (fitted.labels[task], measured.labels[task]),
            len(fitted.label_names[task]),
        )
    )


_QUESTION = (
    "Both stages and probes are trained anew on each layer of the encoder by itself. The accuracy of a trained probe "
    "on z_textual beside that of one on z_acoustic is what words and voice contribute to the task, as the paper has "
    "it. Either may know what the other knows, so two more forms stand beside: conditional, what a latent adds to the "
    "accuracy of the other alone; and Shapley, its mean over both orders, so that the two add up to what both "
    "together have above chance. These two are of closed-form linear readers of each latent's mean over the utterance."
)
_QUESTION_OF_STAGE_1 = (
    "Stage 1 is trained anew on each layer of the encoder by itself: how well each layer can be transcribed."
)


def _notes(run: TrainedRun, settings: LayersSettings) -> list[str]:
    notes = []
    if settings.share_of_epochs < 1:
        kinds = [*(["stage1"] if settings.stage1_run is None else []), *(["stage2", "probe"] if run.tasks else [])]
        epochs = ", ".join(f"{kind} {run.epochs(kind, settings.share_of_epochs)}" for kind in kinds)
        notes.append(
            f"Trainings are shorter than the run's own ({epochs} epochs), so accuracies are below and WERs above what "
            "a layer can reach; compare layers with each other, not with the run. --share_of_epochs 1 trains as long "
            "as the run."
        )
    if hidden := [task for task in run.tasks if task in hidden_labels(run.settings.stage1.set)]:
        notes.append(
            f"Stage 1 is trained to hide {' and '.join(hidden)}: what z_textual contributes there is what hiding left. "
            "To ask what words alone tell of it, train it with experiments/stage1/unlabelled.yaml."
        )
    if settings.stage1_run is not None:
        notes.append(f"The Stage 1 of each layer is that of {settings.stage1_run}.")
    if len(run.seeds) == 1:
        notes.append(
            "One seed: intervals are over test utterances and say nothing about other trainings, whose differences may "
            "be larger than those between neighbouring layers."
        )
    return notes
