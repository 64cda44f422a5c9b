"""What a trained run makes of speech that it was not trained on: noise, rooms, another corpus, language or task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disentangle_lightning.analysis.progress import track
from disentangle_lightning.analysis.settings import TransferSettings
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.analysis.transfer.conditions import CLEAN, Condition, conditions
from disentangle_lightning.analysis.transfer.listener import Trained, collapsed, figures_of, listen
from disentangle_lightning.atomic import write_text
from disentangle_lightning.report.analysis_result import AnalysisResult
from disentangle_lightning.report.figures import Drawing, render_drawing
from disentangle_lightning.report.run_directory import Measurement
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import (
    interval,
    listing,
    number_with_spread,
    percent,
    percent_with_spread,
    representation_name,
    step_name,
)
from disentangle_lightning.summary import aggregate

Found = Mapping[str, Measurement]


def analyze(run: TrainedRun, settings: TransferSettings, folder: Path) -> AnalysisResult:
    """See `AnalysisResult.explanation`."""
    asked = conditions(run, settings)
    trained: dict[int, Trained] = {}
    of_conditions = {}
    for condition in track(asked, "Listening"):
        of_conditions[condition.name] = _measured(run, condition, trained, folder / f"{condition.name}.json")
    alarms: dict[str, dict[str, float]] = {}
    for name, of_seeds in of_conditions.items():
        for figures, clean in zip(of_seeds, of_conditions[CLEAN], strict=True):
            fallen = collapsed(figures, clean)
            figures |= {f"{s}.collapsed": float(s in fallen) for s in _stages(run)}
        alarms[name] = aggregate(of_seeds)
    figures = {f"transfer.{c}.{name}": value for c, found in alarms.items() for name, value in found.items()}
    result = AnalysisResult(
        "On other speech",
        "The run's own stages and probes, trained on clean speech, are tested where the waveform is spoilt before it "
        "is encoded, and on the speech of other runs. A transcript that breaks down shows in the word error rate; a "
        "latent that says nothing any more in its rate and variance, beside clean speech.",
        figures,
    )
    tables = [_stage_table(run, asked, result.measurements), *_leakage_tables(asked, result.measurements)]
    notes = [
        f"{c.heading}: {step_name(s)} has collapsed: its rate or variance is under a tenth of that on clean speech."
        for c in asked
        for s in _stages(run)
        if figures[f"transfer.{c.name}.{s}.collapsed"] > 0
    ]
    notes.append(
        f"Own speech: {settings.utterances} utterances of the test split and as many of the probe split at most, so "
        "intervals are wide. Noise and rooms are synthetic, each condition with one draw for each clip; "
        "signal-to-noise ratios are over the whole clip, its pauses included. Babble is made of "
        "training utterances of the corpus."
    )
    return AnalysisResult(
        result.title, result.explanation, figures, tables, [_drawing(run, asked, result.measurements)], notes
    )


def _measured(run: TrainedRun, condition: Condition, trained: dict[int, Trained], file: Path) -> list[dict[str, float]]:
    """The figures of each seed; what an earlier run has measured is read from the file."""
    if file.is_file():
        done: list[dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))
        return done
    for seed in run.seeds:
        trained.setdefault(seed, Trained.of(run, seed))
    probe, test = (listen(condition.batches(split), condition, trained) for split in ("probe", "test"))
    names = condition.label_names
    of_seeds = [figures_of(probe[seed], test[seed], names, trained[seed], run.frame_rate) for seed in run.seeds]
    write_text(file, json.dumps(of_seeds))
    return of_seeds


def _stages(run: TrainedRun) -> list[str]:
    return ["stage1", *(f"stage2_{task}" for task in run.tasks)]


def _stage_table(run: TrainedRun, asked: list[Condition], found: Found) -> Table:
    table = Table(
        "Stages on other speech",
        "Word error rate of Stage 1 and accuracy of Stage 2, with 95 % intervals over utterances; the rate of each "
        "bottleneck in bits per second; beneath it, the variance of its latent as a share of that on clean speech.",
        ["speech", "WER", *(f"{step_name(s)}: rate" for s in _stages(run)), *(f"{t}: accuracy" for t in run.tasks)],
    )
    for condition in asked:
        name = f"transfer.{condition.name}"
        wer = found.get(f"{name}.stage1.wer")
        row = [Cell(percent_with_spread(wer), interval(wer, scale=100, digits=1))]
        for stage in _stages(run):
            share = found[f"{name}.{stage}.variance"].value / found[f"transfer.{CLEAN}.{stage}.variance"].value
            fallen = found[f"{name}.{stage}.collapsed"].value > 0
            rate = number_with_spread(found[f"{name}.{stage}.rate_bits_per_second"], 1)
            row.append(Cell(rate, f"variance {percent(share)}" + "\ncollapsed" * fallen, fallen))
        for task in run.tasks:
            accuracy = found.get(f"{name}.stage2_{task}.accuracy")
            row.append(Cell(percent_with_spread(accuracy), interval(accuracy, scale=100, digits=1)))
        table.rows.append((condition.heading, row))
    return table


def _leakage_tables(asked: list[Condition], found: Found) -> list[Table]:
    """A table for each label of any of the conditions."""
    tables = []
    for label in dict.fromkeys(label for condition in asked for label in condition.label_names):
        readers = {
            (kind, name.split(".")[3]): None
            for kind in ("probe", "reader")
            for name in found
            if name.split(".")[2] == kind and name.endswith(f".{label}.leakage")
        }
        if not readers:
            continue
        table = Table(
            f"What tells the {label} on other speech",
            "Leakage, 0 at chance and 1 where it is always right, with its interval: of the run's own probes, trained "
            "on clean speech, and of linear readers fitted on speech of the same kind.",
            ["speech", *(f"{representation_name(rep)}, {_READERS[kind]}" for kind, rep in readers)],
        )
        for condition in asked:
            cells = [found.get(f"transfer.{condition.name}.{kind}.{rep}.{label}.leakage") for kind, rep in readers]
            if any(cells):
                row = [Cell(number_with_spread(m), interval(m)) for m in cells]
                table.rows.append((condition.heading, row))
        tables.append(table)
    return tables


_READERS = {"probe": "probe", "reader": "refitted"}


def _drawing(run: TrainedRun, asked: list[Condition], found: Found) -> Drawing:
    """Word errors, and what both latents tell of each task, condition by condition."""
    panels = {"stage1.wer": "word error rate"}
    panels |= {f"stage2_{task}.accuracy": f"accuracy of Stage 2 ({task})" for task in run.tasks[:1]}
    panels |= {f"reader.textual.{label}.leakage": f"leakage of {label}, z_textual" for label in run.labels[:1]}

    def draw(figure: Any) -> None:
        for axes, (name, title) in zip(
            figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
        ):
            for y, condition in enumerate(asked):
                m = found.get(f"transfer.{condition.name}.{name}")
                if m is not None:
                    axes.plot([m.value], [y], "o", color="#0b5394", ms=4)
                    if m.ci_low is not None:
                        axes.plot([m.ci_low, m.ci_high], [y, y], color="#0b5394", lw=1.2)
            axes.set(title=title, yticks=range(len(asked)), yticklabels=[c.heading for c in asked])
            axes.set_xlim(min(0.0, axes.get_xlim()[0]), max(1.0, axes.get_xlim()[1]))
            axes.grid(axis="x", color="#e6e6e6", lw=0.6)
        axes.invert_yaxis()

    caption = f"Test figures on {listing([c.heading for c in asked])}; lines are 95 % intervals over utterances."
    return render_drawing("transfer", (2.0 + 2.9 * len(panels), 0.9 + 0.28 * len(asked)), draw, caption)
