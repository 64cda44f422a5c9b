"""The tables and the curves of a task, as the report shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from disentangle_lightning.analysis.attribution.explanation import METHODS
from disentangle_lightning.analysis.attribution.faithfulness import SHARES, Curves
from disentangle_lightning.analysis.attribution.findings import RANDOM
from disentangle_lightning.report.figures import Drawing, render_drawing
from disentangle_lightning.report.run_directory import Measurement
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import interval, number, number_with_spread, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Measurements = Mapping[str, Measurement]

COLOURS = {
    "attention_textual": "#8fb8de",
    "attention_acoustic": "#0b5394",
    "ig_textual": "#e5b184",
    "ig_acoustic": "#c8661a",
    "ig": "#8e4b9e",
    RANDOM: "#9a9a9a",
}


def faithfulness_table(task: str, measurements: Measurements) -> Table:
    """Rows: attributions and random order. Columns: areas under the curves, sufficiency, comprehensiveness."""
    name = f"attribution.{task}"
    table = Table(
        f"Are the frames that matter ranked first? ({task})",
        "Frames are taken away in the order of an attribution, and put in, while the probability of the class is "
        "watched. Deletion: the area under the curve while they go; the smaller, the more faithful. Insertion: while "
        "they come; the larger, the more faithful. Gains are over random order, positive where better; bold where the "
        "whole 95% interval is above zero. Comprehensiveness: the probability lost with the first 1 to 50% of the "
        "frames; sufficiency: what those frames alone lack.",
        ["order of", "deletion", "its gain", "insertion", "its gain", "comprehensiveness", "sufficiency"],
    )
    for method, heading in {**METHODS, RANDOM: "random order"}.items():
        cells = []
        for measure in (
            "deletion",
            "deletion_gain",
            "insertion",
            "insertion_gain",
            "comprehensiveness",
            "sufficiency",
        ):
            m = measurements.get(f"{name}.{method}.{measure}")
            cells.append(_cell(m, emphasis=measure.endswith("_gain") and _is_positive(m)))
        table.rows.append((heading, cells))
    return table


def comparison_table(task: str, measurements: Measurements) -> Table:
    """Every attribution (row) against every other (column): how much smaller its area under the deletion curve is."""
    table = Table(
        f"Attributions against each other ({task})",
        "By how much the deletion area of the row is smaller than that of the column, utterance by utterance. "
        "Positive: the row is more faithful; bold where the whole 95% interval is above zero.",
        ["order of", *METHODS.values()],
    )
    for first, heading in METHODS.items():
        cells = []
        for second in METHODS:
            m = measurements.get(f"attribution.{task}.{first}_over_{second}.deletion")
            reverse = measurements.get(f"attribution.{task}.{second}_over_{first}.deletion")
            m = _reversed(reverse) if m is None and reverse is not None else m
            cells.append(_cell(m, emphasis=_is_positive(m)))
        table.rows.append((heading, cells))
    return table


def similarity_table(task: str, measurements: Measurements) -> Table:
    """Rows: attributions. Columns: evenness, rank correlation with what was measured, and between seeds."""
    columns = {
        "evenness": "evenness",
        "pitch": "pitch",
        "intensity": "intensity",
        "words": "word scores",
        "between_seeds": "between seeds",
    }
    known = [c for c in columns if any(f"attribution.{task}.{m}.{c}" in measurements for m in METHODS)]
    table = Table(
        f"How the attributions look ({task})",
        "Spearman's rank correlation over the frames of an utterance (pitch: its voiced frames; word scores: its "
        "words), from -1 to 1, averaged over utterances. 0 is no relation. It shows what goes together, not what "
        "causes a prediction. Evenness is of attention alone: 1 looks at all frames alike, so that its order means "
        "little.",
        ["attribution", *(columns[c] for c in known)],
    )
    for method, heading in METHODS.items():
        cells = [_cell(measurements.get(f"attribution.{task}.{method}.{c}")) for c in known]
        table.rows.append((heading, cells))
    return table


def evidence_table(tasks: Sequence[str], measurements: Measurements) -> Table:
    """Rows: tasks. Columns: where the log-odds of the predicted class come from."""
    table = Table(
        "What a prediction is made of",
        "The log-odds of the predicted class, in nats, and what they would be if no frame said anything; Integrated "
        "Gradients divide the difference among the frames of both streams. Missed is the part of it that they miss, "
        "for latents and for the waveforms of a few utterances: they are not to be trusted where it is more than a few "
        "per cent.",
        [
            "task",
            "log-odds",
            "of nothing",
            "from z_textual",
            "from z_acoustic",
            "missed",
            "missed, waveform",
        ],
    )
    kinds = ("log_odds", "from_nothing", "ig_textual.evidence", "ig_acoustic.evidence")
    for task in tasks:
        cells = [_cell(measurements.get(f"attribution.{task}.{kind}")) for kind in kinds]
        for kind in ("ig", "waveform"):
            missed = measurements.get(f"attribution.{task}.{kind}.completeness_error")
            share = None if missed is None else missed.value
            cells.append(Cell("under 0.1%" if share is not None and share < 0.001 else percent(share)))
        table.rows.append((task, cells))
    return table


def alignment_table(measurements: Measurements) -> Table:
    """How many transcriptions were aligned with the frames, and how sure of that Stage 1 is."""
    table = Table(
        "Where the words are",
        "Transcriptions laid over the frames as Stage 1's own CTC has it most probably. They are infeasible where they "
        "have more letters than their clip has frames. Probability: what Stage 1 gives to their letters; where it is "
        "low, words are where they happened to fit.",
        ["", "aligned", "infeasible", "probability"],
    )
    aligned, infeasible, probability = (
        measurements.get(f"attribution.alignment.{kind}") for kind in ("aligned", "infeasible", "probability")
    )
    if aligned and infeasible:
        counts = [Cell(number(m.value, 0)) for m in (aligned, infeasible)]
        table.rows.append(("test utterances", [*counts, _cell(probability)]))
    return table


def curves_drawing(task: str, traces: Mapping[str, Sequence[Curves]], prefix: str) -> Drawing:
    """The mean deletion and insertion curves of every order."""
    means = {
        kind: {method: np.mean([getattr(c, kind) for c in curves], axis=0) for method, curves in traces.items()}
        for kind in ("deletion", "insertion")
    }
    names = {**METHODS, RANDOM: "random order"}

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (kind, of_methods) in zip(panels, means.items(), strict=True):
            for method, values in of_methods.items():
                style = "--" if method == RANDOM else "-"
                axes.plot(SHARES, values, style, color=COLOURS[method], lw=1.5, label=names[method])
            gone = "taken away" if kind == "deletion" else "put in"
            axes.set(title=kind.capitalize(), xlabel=f"share of frames {gone}", xlim=(0, 1), ylim=(0, 1.02))
            axes.grid(axis="y", color="#e6e6e6", lw=0.6)
        panels[0].set_ylabel("probability of the class")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8.5)

    caption = (
        f"{task}: the probability of the predicted class, averaged over test utterances of the first seed, while "
        "frames are taken away (left: a faithful order falls fast) or put in (right: it rises fast)."
    )
    return render_drawing(prefix, (8.6, 2.9), draw, caption)


def _cell(m: Measurement | None, emphasis: bool = False) -> Cell:
    return Cell(number_with_spread(m), interval(m), emphasis)


def _is_positive(m: Measurement | None) -> bool:
    return m is not None and m.ci_low is not None and m.ci_low > 0


def _reversed(m: Measurement) -> Measurement:
    low, high = (None if end is None else -end for end in (m.ci_high, m.ci_low))
    return Measurement(-m.value, m.std, low, high)
