"""How a clip sounds, read from either latent: Praat's measures in quartiles, and the factors of synthetic voices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from disentangle_lightning.analysis.duration import duration_figures
from disentangle_lightning.analysis.progress import track
from disentangle_lightning.analysis.settings import AcousticsSettings
from disentangle_lightning.analysis.trained_run import DoesNotApply, TrainedRun
from disentangle_lightning.corpus.manifest import Utterance, write_manifest
from disentangle_lightning.corpus.praat import MEASURES, measure_corpus
from disentangle_lightning.corpus.quartiles import quartile_edges, with_quartiles
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.report.analysis_result import AnalysisResult
from disentangle_lightning.report.figures import Drawing, heat_map, render_drawing
from disentangle_lightning.report.run_directory import Measurement
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import (
    interval,
    listing,
    number,
    number_with_spread,
    percent,
    percent_with_spread,
    representation_name,
)
from disentangle_lightning.summary import aggregate

SPLITS = ("probe", "dev", "test")
"""Where probes are trained, selected and tested."""

Measures = Mapping[str, Mapping[str, float]]


def analyze(run: TrainedRun, settings: AcousticsSettings, folder: Path) -> AnalysisResult:
    """See `AnalysisResult.explanation`."""
    encoded = set(FeatureStore.open(run.store, verify=False).ids)
    asked = [u for u in run.utterances.values() if u.split in SPLITS and u.id in encoded]
    measures = measure_corpus(asked, folder / "praat.jsonl", partial(track, description="Measuring with Praat"))
    edges = {name: quartile_edges([measures[u.id][name] for u in asked if u.split == "probe"]) for name in MEASURES}
    # Beside the run's own manifest: a store knows its audio by paths relative to the manifest.
    manifest = run.path / "manifest_acoustics.jsonl"
    labelled = with_quartiles(list(run.utterances.values()), measures, {n: cuts for n, cuts in edges.items() if cuts})
    write_manifest(manifest, labelled)
    left_out = {t: why for t in [*MEASURES, *settings.factors] if (why := unreadable(labelled, encoded, t))}
    targets = [t for t in [*MEASURES, *settings.factors] if t not in left_out]
    if not targets:
        raise DoesNotApply("no acoustic measure can be cut into classes")

    epochs = run.epochs("probe", settings.share_of_epochs)
    of_seeds = [_probe(run, folder, seed, manifest, targets, epochs) for seed in run.seeds]
    timing = duration_figures(run.data(targets, manifest=str(manifest)))
    figures = {_renamed(name): value for name, value in (aggregate(of_seeds) | timing).items()}
    result = AnalysisResult(
        "How it sounds, read from either latent",
        "Mean pitch, intensity, local jitter, local shimmer and duration of every clip, measured by Praat and cut into "
        "quartiles on the split that trains the probes, are read by linear probes as in arXiv 2410.03037. What sounds "
        "should show in z_acoustic, if its task needs it, and not in z_textual.",
        figures,
    )
    representations = [*run.probed(run.seeds[0]), "duration"]
    tables = [
        _table(result.measurements, targets, representations),
        _cuts(asked, measures, edges),
    ]
    notes = [f"Not read: {name} ({why})." for name, why in left_out.items()]
    notes.append(
        f"Each probe was trained for {epochs} epochs. Measures go together, so what is read may be another one that "
        "goes with it; and the quartiles are of the recordings of this corpus, loudness and noise included."
    )
    drawing = _drawing(result.measurements, targets, representations)
    return AnalysisResult(result.title, result.explanation, figures, tables, [drawing], notes)


def unreadable(utterances: Sequence[Utterance], encoded: set[str], target: str) -> str | None:
    """Why no probe can be made of a label; None where one can."""
    classes = {
        split: {u.label(target) for u in utterances if u.split == split and u.id in encoded} - {None}
        for split in SPLITS
    }
    if not any(classes.values()):
        return "no clip has it"
    if len(classes["probe"]) < 2:
        return "it is the same in all clips that train probes"
    missing = [split for split, found in classes.items() if not found]
    return f"no clip of split {listing(missing)} has it" if missing else None


def _probe(
    run: TrainedRun, folder: Path, seed: int, manifest: Path, targets: Sequence[str], epochs: int
) -> dict[str, float]:
    """The figures of the probes of every representation."""
    figures: dict[str, float] = {}
    for name, source in run.probed(seed).items():
        model: dict[str, Any] = {"targets": list(targets), **source}
        fields = {f"model.init_args.{field}": value for field, value in model.items()}
        fields |= {"data.manifest": str(manifest), "trainer.max_epochs": epochs}
        figures |= run.fit(folder / f"seed{seed}" / f"probe_{name}", seed, "probe", targets, fields)[1]
    return figures


def _renamed(name: str) -> str:
    return f"acoustics.{name.removeprefix('probe.')}"


def _table(found: Mapping[str, Measurement], targets: Sequence[str], representations: Sequence[str]) -> Table:
    table = Table(
        "What of the sound can be read from what",
        "How often a probe names the quartile, on test utterances that trained nothing; below it leakage, 0 at chance "
        "and 1 where it is always right, with its 95 % interval over test utterances.",
        ["measure", "chance", *(representation_name(r) for r in representations)],
    )
    for target in targets:
        row = [Cell(percent(found[f"acoustics.hidden.{target}.chance"].value))]
        for representation in representations:
            name = f"acoustics.{representation}.{target}"
            leakage = found.get(f"{name}.leakage")
            detail = f"leakage {number_with_spread(leakage)}\n{interval(leakage)}"
            row.append(Cell(percent_with_spread(found.get(f"{name}.accuracy")), detail))
        table.rows.append((MEASURES.get(target, target), row))
    return table


def _cuts(utterances: Sequence[Utterance], measures: Measures, edges: Mapping[str, Sequence[float]]) -> Table:
    table = Table(
        "Where the quartiles were cut",
        "Each quartile ends with its upper bound; where many clips measure the same there are fewer than four. Test "
        "clips outside the range of those that the bounds were cut on count to the lowest or the highest quartile. "
        "Where a measure is not defined, as pitch without voice, the clip is left out of it.",
        ["measure", "upper bounds", "test clips outside the range", *(f"undefined in {s}" for s in SPLITS)],
    )
    for name, heading in MEASURES.items():
        values = {split: [measures[u.id][name] for u in utterances if u.split == split] for split in SPLITS}
        known = [v for v in values["probe"] if not math.isnan(v)]
        outside = sum(v < min(known) or v > max(known) for v in values["test"]) if known else 0
        digits = 4 if name in ("jitter", "shimmer") else 2
        row = [Cell(" | ".join(number(edge, digits) for edge in edges[name]) or "none"), Cell(str(outside))]
        row += [Cell(f"{sum(map(math.isnan, v))} of {len(v)}") for v in values.values()]
        table.rows.append((heading, row))
    return table


def _drawing(found: Mapping[str, Measurement], targets: Sequence[str], representations: Sequence[str]) -> Drawing:
    rows = [
        [m.value if (m := found.get(f"acoustics.{r}.{t}.leakage")) else None for r in representations] for t in targets
    ]
    names = [MEASURES.get(target, target) for target in targets]

    def draw(figure: Any) -> None:
        heat_map(figure.add_subplot(), rows, names, [representation_name(r) for r in representations], 1.0, "leakage")

    size = (3.2 + 1.6 * len(representations), 0.7 + 0.42 * len(targets))
    return render_drawing(
        "acoustics",
        size,
        draw,
        "Leakage of each measure's quartile from each representation: 0 is chance, 1 is always right.",
    )
