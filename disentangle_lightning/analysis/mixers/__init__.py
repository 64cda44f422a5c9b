"""What learning the layer weights is worth, and whether they can be trusted."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from disentangle_lightning.analysis.mixers.agreement import distance, mean_over_pairs, rank_agreement
from disentangle_lightning.analysis.mixers.shown import weight_curves, weight_table, worth_table
from disentangle_lightning.analysis.settings import MixersSettings
from disentangle_lightning.analysis.trained_run import DoesNotApply, TrainedRun
from disentangle_lightning.features.targets import CTC_TARGET
from disentangle_lightning.report.analysis_result import AnalysisResult
from disentangle_lightning.summary import aggregate

MODES = ("learned", "random_start", "uniform", "random", "single")
LEARNED = MODES[:2]


@dataclass
class SeedResult:
    """What the trainings of one seed gave.

    Attributes:
        figures: by their names.
        weights: {reader: {learned mode: [L]}}; readers are `stage1`, `stage2_TASK` and `probe_TARGET`.
        best: {target: the number of the layer by which it is read best}.
    """

    figures: dict[str, float] = field(default_factory=dict)
    weights: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    best: dict[str, int] = field(default_factory=dict)


def analyze(run: TrainedRun, settings: MixersSettings, folder: Path) -> AnalysisResult:
    """See `AnalysisResult.explanation`."""
    layers: list[int] = run.stage1(run.seeds[0]).inputs["feature_header"]["layers"]
    if len(layers) < 2:
        raise DoesNotApply(f"{run.path} reads one layer, so that there are no weights to learn")
    transcribed = {u.split for u in run.utterances.values() if u.transcription}
    words = [CTC_TARGET] if {"train", "probe", "dev", "test"} <= transcribed else []
    if not words and not run.tasks:
        raise DoesNotApply(f"{run.path} has no transcriptions and no task")
    seeds = [_of_seed(run, settings, folder / f"seed{seed}", seed, layers, words) for seed in run.seeds]
    figures = aggregate([seed.figures for seed in seeds])
    if len(seeds) > 1:
        for reader in seeds[0].weights:
            agreement, apart = mean_over_pairs([seed.weights[reader]["learned"] for seed in seeds])
            figures |= {f"mixers.{reader}.seeds.rank_agreement": agreement, f"mixers.{reader}.seeds.distance": apart}
    result = AnalysisResult("Layer weights", _QUESTION, figures)
    readers = list(seeds[0].weights)
    best = {target: sorted({seed.best[target] for seed in seeds}) for target in seeds[0].best}
    tables = [
        worth_table(result.measurements, readers, best),
        weight_table(result.measurements, readers, layers, len(seeds) > 1),
    ]
    curves = weight_curves([seed.weights for seed in seeds], layers)
    return AnalysisResult(result.title, _QUESTION, figures, tables, [curves], _notes(run, settings, layers, words))


def _of_seed(
    run: TrainedRun, settings: MixersSettings, folder: Path, seed: int, layers: Sequence[int], words: Sequence[str]
) -> SeedResult:
    found = SeedResult()
    targets = [*words, *run.tasks]

    def fit(name: str, kind: str, labels: Sequence[str], **model: Any) -> dict[str, float]:
        fields = {f"model.init_args.{key}": value for key, value in model.items()}
        fields |= {
            "data.layers": list(layers), "trainer.max_epochs": run.epochs(kind, settings.share_of_epochs),
        }  # fmt: skip
        return run.fit(folder / name, seed, kind, labels, fields)[1]

    def probe(name: str, mode: str, place: int | None) -> dict[str, float]:
        return fit(name, "probe", run.tasks, representation="hidden", targets=targets, mixer=mode, layer=place)

    singles = [probe(f"probe_layer{layer}", "single", place) for place, layer in enumerate(layers)]
    scores = [_dev_scores(folder / f"probe_layer{layer}" / "metrics.csv", targets) for layer in layers]
    places = {target: max(range(len(layers)), key=lambda i: scores[i][target]) for target in targets}
    found.best = {target: layers[place] for target, place in places.items()}
    stages = {**({"stage1": CTC_TARGET} if _trains_stage1(run, words) else {}), **{f"stage2_{t}": t for t in run.tasks}}
    for mode in MODES:
        probed = {} if mode == "single" else probe(f"probe_{mode}", mode, None)
        for target in targets:
            own = singles[places[target]] if mode == "single" else probed
            _take(found, f"probe_{target}", mode, own, f"probe.hidden.{target}.", folder / f"probe_{mode}")
        for stage, target in stages.items():
            place = places[target] if mode == "single" else None
            model: dict[str, Any] = {"mixer": mode, "layer": place}
            if stage != "stage1":
                model |= {"task": target, "stage1": str(run.checkpoint(seed, "stage1"))}
            name = f"{stage}_{mode}"
            figures = fit(name, stage.split("_")[0], [target] if stage != "stage1" else [], **model)
            _take(found, stage, mode, figures, f"{stage}.", folder / name)
    _add_agreements(found, stages, layers)
    return found


def _trains_stage1(run: TrainedRun, words: Sequence[str]) -> bool:
    return bool(words) and "class_path" in run.settings.stage1.set.get("model", {})


def _take(found: SeedResult, reader: str, mode: str, figures: dict[str, float], beginning: str, trained: Path) -> None:
    """Task figures of a training, and the weights that it learnt."""
    for name, value in figures.items():
        if name.startswith((f"{beginning}wer", f"{beginning}accuracy")):
            found.figures[f"mixers.{reader}.{mode}.{name.removeprefix(beginning)}"] = value
    if mode in LEARNED:
        written = json.loads((trained / "layer_weights.json").read_text(encoding="utf-8"))
        own = written if "weights" in written else written[reader.removeprefix("probe_")]
        found.weights.setdefault(reader, {})[mode] = own["weights"]


def _add_agreements(found: SeedResult, stages: dict[str, str], layers: Sequence[int]) -> None:
    for reader, by_mode in found.weights.items():
        for mode, weights in by_mode.items():
            named = zip(layers, weights, strict=True)
            found.figures |= {f"mixers.{reader}.{mode}.weight.{layer}": weight for layer, weight in named}
        pair = by_mode["learned"], by_mode["random_start"]
        found.figures[f"mixers.{reader}.start.rank_agreement"] = rank_agreement(*pair)
        found.figures[f"mixers.{reader}.start.distance"] = distance(*pair)
    for stage, target in stages.items():
        pair = found.weights[stage]["learned"], found.weights[f"probe_{target}"]["learned"]
        found.figures[f"mixers.{stage}.probe.rank_agreement"] = rank_agreement(*pair)
        found.figures[f"mixers.{stage}.probe.distance"] = distance(*pair)


def _dev_scores(metrics: Path, targets: Sequence[str]) -> dict[str, float]:
    """The best dev figure of each target of a probe, larger is better."""
    with metrics.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))

    def best(target: str) -> float:
        column, sign = (f"dev/{target}_wer", -1.0) if target == CTC_TARGET else (f"dev/{target}_accuracy", 1.0)
        return max(sign * float(row[column]) for row in rows if row.get(column))

    return {target: best(target) for target in targets}


_QUESTION = (
    "Each stage and probe weighs the encoder's layers before it reads them. Trained anew with weights that are "
    "learnt, the same for all, random and frozen, or all on the one layer by which a probe does best on dev, the "
    "task's figures say what learning them is worth. Weights that differ with the start or the seed say nothing about "
    "the encoder, however well the task is done; where bottleneck and probe agree, they are of the task and not of the "
    "method."
)


def _notes(run: TrainedRun, settings: MixersSettings, layers: Sequence[int], words: Sequence[str]) -> list[str]:
    notes = [
        f"Of {len(layers)} layers, rank agreement has a standard deviation of {(len(layers) - 1) ** -0.5:.2f} by "
        "chance. The best single layer is the first of those that tie on dev."
    ]
    if settings.share_of_epochs < 1:
        kinds = [kind for kind in ("stage1", "stage2", "probe") if kind != "stage2" or run.tasks]
        kinds = [kind for kind in kinds if kind != "stage1" or _trains_stage1(run, words)]
        epochs = ", ".join(f"{kind} {run.epochs(kind, settings.share_of_epochs)}" for kind in kinds)
        notes.append(
            f"Trainings are shorter than the run's own ({epochs} epochs): weights have moved less from their start "
            "than those of the run, so starts look more decisive than they are. --share_of_epochs 1 trains as long."
        )
    if run.tasks:
        notes.append("Every Stage 2 here is given the run's own Stage 1.")
    if len(run.seeds) == 1:
        notes.append("One seed: agreement between seeds is not known.")
    return notes
