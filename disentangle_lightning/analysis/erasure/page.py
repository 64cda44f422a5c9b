"""The table, the drawing and the notes of the analysis of erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from disentangle_lightning.analysis.latents import SplitLatents
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
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Figures = Mapping[str, Measurement]

_HEADINGS = {"nothing": "hidden states, averaged", "all_labels": "without any of them"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_TRANSCRIBED = 0.5
"""The word error rate of hidden states, nothing erased, from which on their probe is called too little trained."""
_ACROSS = 3
"""Panels side by side."""


def trade_off_table(figures: Figures, compared: Sequence[str], labels: Sequence[str]) -> Table:
    """Rows: what is erased, and z_textual. Columns: WER, and the leakage of each label to both attackers."""
    table = Table(
        "What erasing leaves and costs",
        "WER of a linear CTC probe. Of each label, the leakage to a linear attacker, who reads the means of "
        "utterances, and to an MLP, who reads means and deviations (0 is always giving the commonest answer, 1 always "
        "right), with intervals over speakers.",
        ["released", "WER", *labels],
    )
    for name in compared:
        wer = figures.get(f"erasure.{name}.wer")
        cells = [Cell(percent_with_spread(wer), interval(wer, scale=100, digits=1))]
        for label in labels:
            by_linear, by_mlp = (figures.get(f"erasure.{name}.{label}.{kind}.leakage") for kind in ("linear", "mlp"))
            detail = f"linear {interval(by_linear)}\nMLP {number_with_spread(by_mlp)} {interval(by_mlp)}"
            cells.append(Cell(number_with_spread(by_linear), detail, emphasis=name == label))
        table.rows.append((_heading(name), cells))
    return table


def trade_off_drawing(figures: Figures, compared: Sequence[str], labels: Sequence[str]) -> Drawing | None:
    """For each label, words wrong against leakage; None where nothing can be transcribed."""
    if not all(f"erasure.{name}.wer" in figures for name in compared):
        return None
    rows = -(-len(labels) // _ACROSS)

    def draw(figure: Figure) -> None:
        panels = list(figure.subplots(rows, min(_ACROSS, len(labels)), squeeze=False, sharey=True).flat)
        for axes, label in zip(panels, labels, strict=False):
            _panel(axes, figures, compared, label)
        for axes in panels[len(labels) :]:
            axes.set_visible(False)
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right center", fontsize=8.5)

    caption = (
        "Words wrong (across) and leakage of a label (up), a panel a label: the dot is the linear attacker, the end of "
        "its line the MLP. Erasing brings the dot down; how far the line still reaches up is what only a non-linear "
        "attacker finds."
    )
    return render_drawing("erasure-trade-off", (2.7 * min(_ACROSS, len(labels)) + 2.2, 2.9 * rows), draw, caption)


def notes_on_erasure(figures: Figures, probe: SplitLatents, labels: Sequence[str], epochs: int | None) -> list[str]:
    """What limits the figures, for this run.

    Args:
        epochs: of the probes that read words; None where there are no words.
    """
    dim = probe.frames["hidden"].shape[1]
    ranks = {label: len(probe.label_names[label]) - 1 for label in labels}
    taken = listing([f"{rank} for {label}" for label, rank in ranks.items()])
    notes = [
        "Erasing is exact only for linear readers of the speech that it was fitted on, the utterances' means of the "
        "split probe; the figures are of the test split. It needs to know what is to be hidden; z_textual was never "
        "told.",
        "Erased are the hidden states averaged over layers with the same weight for each. Of their "
        f"{dim} dimensions, erasing takes away {taken}.",
        "Attackers and eraser have heard the same speakers; the analysis privacy says whether those of the test are "
        "among them.",
    ]
    if sum(ranks.values()) >= dim:
        notes.append("There are more classes than dimensions: erasing all labels leaves nothing.")
    if epochs is None:
        notes.append("Without transcriptions there is no WER: what erasing costs in words is not known.")
    else:
        notes.append(
            "z_textual had the split train to learn words from; a reader of erased states has the split probe alone, "
            "so part of the distance in WER is one of training speech."
        )
        notes.append(
            f"Every probe read words after {epochs} epochs: compare their WER with each other, not with the run's."
        )
        control = figures["erasure.nothing.wer"].value
        if control > _TRANSCRIBED:
            notes.append(
                f"The control failed: of the hidden states, nothing erased, {percent(control)} of the words are wrong. "
                "Their probes were trained too little for the WER to say anything; try --share_of_epochs 1."
            )
    return notes


def _panel(axes: Axes, figures: Figures, compared: Sequence[str], label: str) -> None:
    shown = [name for name in compared if name in ("nothing", label, "all_labels", "textual")]
    for name, colour in zip(("nothing", label, "all_labels", "textual"), _COLOURS, strict=False):
        if name not in shown:
            continue
        wer = 100 * figures[f"erasure.{name}.wer"].value
        ends = [figures[f"erasure.{name}.{label}.{kind}.leakage"].value for kind in ("linear", "mlp")]
        axes.plot([wer, wer], ends, color=colour, lw=1.5)
        heading = "without the label" if name == label else _heading(name)
        axes.plot(wer, ends[0], "*" if name == "textual" else "o", ms=7, color=colour, label=heading)
        axes.plot(wer, ends[1], "_", ms=8, color=colour)
    axes.axhline(0, color="#9a9a9a", lw=0.8, ls="--")
    axes.set(title=label, xlabel="WER (%)")
    axes.margins(x=0.25)
    axes.grid(axis="y", color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
    if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
        axes.set_ylabel("leakage")


def _heading(name: str) -> str:
    if name in _HEADINGS:
        return _HEADINGS[name]
    return representation_name(name) if name == "textual" else f"without {name}"
