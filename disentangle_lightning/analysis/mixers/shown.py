"""Tables and curves of layer weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from disentangle_lightning.features.targets import CTC_TARGET
from disentangle_lightning.report.figures import Drawing, render_drawing
from disentangle_lightning.report.run_directory import Measurement
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import interval, number_with_spread, percent_with_spread, step_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = Mapping[str, Measurement]
Weights = Mapping[str, Mapping[str, Sequence[float]]]

_HEADINGS = {
    "learned": "learnt",
    "random_start": "learnt, random start",
    "uniform": "uniform",
    "random": "random, frozen",
    "single": "best single layer",
}


def worth_table(figures: Figures, readers: Sequence[str], best: Mapping[str, Sequence[int]]) -> Table:
    """Rows: stages and probes. Columns: kinds of weights. Cells: WER or accuracy."""
    table = Table(
        "What weights are worth",
        "Word error rate or accuracy on test of each stage and probe, by how the layers are weighed.",
        ["reader", *_HEADINGS.values()],
    )
    for reader in readers:
        measure = "wer" if _target(reader) == CTC_TARGET else "accuracy"
        cells = []
        for mode in _HEADINGS:
            figure = figures[f"mixers.{reader}.{mode}.{measure}"]
            detail = interval(figure, 100, 1)
            if mode == "single":
                detail += f"\nlayer {', '.join(map(str, best[_target(reader)]))}"
            cells.append(Cell(percent_with_spread(figure), detail))
        table.rows.append((_name(reader), cells))
    return table


def weight_table(figures: Figures, readers: Sequence[str], layers: Sequence[int], several_seeds: bool) -> Table:
    """Rows: stages and probes. Columns: the learnt weight of each layer, and how far trainings agree."""
    compared = {"start": "random start", "probe": "probe", **({"seeds": "other seeds"} if several_seeds else {})}
    table = Table(
        "Learnt weights",
        "The share of each layer, learnt from a uniform start; then how far the weights agree with those learnt from "
        "a random start, with the probe's, and over seeds: rank correlation, and beneath it the weight that would have "
        "to be moved (0 the same, 1 nothing in common).",
        ["reader", *(f"layer {layer}" for layer in layers), *compared.values()],
    )
    for reader in readers:
        cells = [Cell(number_with_spread(figures[f"mixers.{reader}.learned.weight.{layer}"])) for layer in layers]
        for other in compared:
            agreement, apart = (figures.get(f"mixers.{reader}.{other}.{k}") for k in ("rank_agreement", "distance"))
            cells.append(Cell(number_with_spread(agreement), number_with_spread(apart) if apart else ""))
        table.rows.append((_name(reader), cells))
    return table


def weight_curves(seeds: Sequence[Weights], layers: Sequence[int]) -> Drawing:
    """A panel for each reader: its weights by layer, a line for each seed and start."""
    readers = list(seeds[0])

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(readers), squeeze=False, sharey=True)[0]
        for axes, reader in zip(panels, readers, strict=True):
            for seed in seeds:
                for mode, dash, colour in (("learned", "-", "#0b5394"), ("random_start", "--", "#c8661a")):
                    axes.plot(layers, seed[reader][mode], dash, color=colour, lw=1.2, marker=".", alpha=0.85)
            axes.axhline(1 / len(layers), color="#9a9a9a", lw=0.8, zorder=0)
            axes.set(title=_name(reader), xlabel="layer (1 = first)")
            axes.set_ylim(bottom=0)
            axes.xaxis.get_major_locator().set_params(integer=True)

    caption = (
        "Learnt layer weights from a uniform start (blue) and from a random one (orange, dashed); one line a seed. The "
        "grey line is the same weight for all."
    )
    return render_drawing("mixers", (min(2.7 * len(readers), 11.5), 2.5), draw, caption)


def _target(reader: str) -> str:
    return CTC_TARGET if reader == "stage1" else reader.partition("_")[2]


def _name(reader: str) -> str:
    if reader.startswith("probe_"):
        target = _target(reader)
        return f"probe ({'words' if target == CTC_TARGET else target})"
    return step_name(reader)
