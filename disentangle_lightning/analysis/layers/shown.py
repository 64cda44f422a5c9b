"""Tables and curves of the layers, of one run or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from disentangle_lightning.report.figures import Drawing, render_drawing
from disentangle_lightning.report.run_directory import Measurement
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import interval, number_with_spread, percent, percent_with_spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Runs = Mapping[str, Mapping[str, Measurement]]
"""The figures of each run by its path; the first is the one that is analysed."""

_COLOURS = {"textual": "#0b5394", "acoustic": "#c8661a", "joint": "#8e4b9e", "wer": "#3a8a5c"}
_DASHES = ("-", "--", ":", "-.")
_SHARES = ("accuracy", "WER")
"""How titles of panels begin that have percent on their axis."""


def layer_tables(runs: Runs, layers: Sequence[int], tasks: Sequence[str]) -> list[Table]:
    """Of each task the three forms by layer, and where there are several runs, the paper's form of all of them."""
    figures = next(iter(runs.values()))
    tables = [_words(figures, layers)] if f"layers.{layers[0]}.stage1.wer" in figures else []
    for task in tasks:
        table = Table(
            f"Contributions to {task} by layer",
            "Accuracy of a probe on z_textual or z_acoustic alone (the paper's form); what each adds to the accuracy "
            "of the other (conditional) and its Shapley share of what both have above chance, by readers in closed "
            "form, whose accuracy from both is the last column.",
            [
                "layer", "textual alone", "acoustic alone", "textual adds", "acoustic adds", "textual Shapley",
                "acoustic Shapley", "both",
            ],
        )  # fmt: skip
        for layer in layers:
            name = f"layers.{layer}.{task}"
            accuracies = [figures[f"{name}.{latent}.accuracy"] for latent in ("textual", "acoustic", "joint")]
            points = [figures[f"{name}.{latent}.{form}"] for form in ("conditional", "shapley") for latent in _LATENTS]
            cells = [*map(_percent, accuracies[:2]), *map(_points, points), _percent(accuracies[2])]
            table.rows.append((str(layer), cells))
        table.rows.append(("chance", [Cell(percent(figures[f"layers.{layers[0]}.{task}.chance"].value))]))
        tables.append(table)
    if len(runs) > 1:
        tables += [_side_by_side(runs, task) for task in tasks]
    return tables


def layer_curves(runs: Runs, tasks: Sequence[str]) -> list[Drawing]:
    """For each task its contributions by layer, and before them how well each layer is transcribed."""
    forms = [("accuracy of a probe", "accuracy"), ("conditional", "conditional"), ("Shapley", "shapley")]
    names = {"WER of Stage 1": {"wer": "stage1.wer"}}
    drawings = [_curves(runs, names, "layers-words", "How well a Stage 1 of each layer transcribes.")]
    for i, task in enumerate(tasks):
        panels = {title: {latent: f"{task}.{latent}.{form}" for latent in _LATENTS} for title, form in forms}
        caption = (
            f"{task}: what z_textual (blue) and z_acoustic (orange) contribute to it by layer of the encoder; bands "
            "are 95 % intervals over test utterances, the grey line is chance, and no contribution."
        )
        drawings.append(_curves(runs, panels, f"layers-{i}", caption, f"{task}.chance"))
    return [drawing for drawing in drawings if drawing is not None]


_LATENTS = ("textual", "acoustic")


def _words(figures: Mapping[str, Measurement], layers: Sequence[int]) -> Table:
    table = Table(
        "Words by layer",
        "Word error rate and rate of the Stage 1 of each layer by itself.",
        ["layer", "WER", "rate (bits/s)"],
    )
    for layer in layers:
        wer, rate = (figures[f"layers.{layer}.stage1.{kind}"] for kind in ("wer", "rate_bits_per_second"))
        table.rows.append((str(layer), [_percent(wer), Cell(number_with_spread(rate, 1))]))
    return table


def _side_by_side(runs: Runs, task: str) -> Table:
    table = Table(
        f"Contributions to {task}, run by run",
        "Accuracy of a probe on each latent, by layer. Layers of encoders that differ in depth have no common number.",
        ["layer", *(f"{latent}, {path}" for path in runs for latent in ("z_textual", "z_acoustic"))],
    )
    for layer in sorted({layer for figures in runs.values() for layer in _layers_of(figures, f"{task}.textual")}):
        names = [f"layers.{layer}.{task}.{latent}.accuracy" for latent in _LATENTS]
        found = [figures.get(name) for figures in runs.values() for name in names]
        table.rows.append((str(layer), [Cell(percent_with_spread(m), interval(m, 100, 1)) for m in found]))
    return table


def _curves(
    runs: Runs, panels: Mapping[str, Mapping[str, str]], prefix: str, caption: str, chance: str | None = None
) -> Drawing | None:
    """A panel for each title, in it a line for each name and run; the colour is the latent's, the dashes the run's."""
    first = [name for lines in panels.values() for name in lines.values()]
    if not any(_layers_of(figures, name) for figures in runs.values() for name in first):
        return None

    def draw(figure: Figure) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.ticker import PercentFormatter

        for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            for figures, dash in zip(runs.values(), _DASHES * len(runs), strict=False):
                for latent, name in lines.items():
                    _line(axes, figures, name, _COLOURS[latent], dash)
            share = title.startswith(_SHARES)
            if chance is not None:
                axes.axhline(_chance(runs, chance) if share else 0.0, color="#9a9a9a", lw=0.8, zorder=0)
            if share:
                axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
                axes.set_ylim(bottom=0)
            axes.set(title=title, xlabel="layer of the encoder (1 = first)")
            axes.grid(axis="y", color="#e6e6e6", lw=0.6)
            axes.set_axisbelow(True)
            axes.xaxis.get_major_locator().set_params(integer=True)
        if len(runs) > 1:
            dashes = zip(runs, _DASHES * len(runs), strict=False)
            handles = [Line2D([], [], color="#555555", lw=1.4, ls=dash, label=path) for path, dash in dashes]
            figure.legend(handles=handles, loc="outside lower left", fontsize=8.5, handlelength=3.5)

    height = 2.7 + (0.1 + 0.2 * len(runs) if len(runs) > 1 else 0)
    return render_drawing(prefix, (3.6 * len(panels), height), draw, caption)


def _line(axes: Axes, figures: Mapping[str, Measurement], name: str, colour: str, dash: str) -> None:
    layers = _layers_of(figures, name)
    if not layers:
        return
    found = [figures[f"layers.{layer}.{name}"] for layer in layers]
    axes.plot(layers, [m.value for m in found], dash, color=colour, lw=1.4, marker=".")
    low = [m.value if m.ci_low is None else m.ci_low for m in found]
    high = [m.value if m.ci_high is None else m.ci_high for m in found]
    axes.fill_between(layers, low, high, color=colour, alpha=0.12, lw=0)


def _chance(runs: Runs, name: str) -> float:
    figures = next(iter(runs.values()))
    return figures[f"layers.{_layers_of(figures, name)[0]}.{name}"].value


def _layers_of(figures: Mapping[str, Measurement], name: str) -> list[int]:
    """The layers that have a figure whose name, after the layer's number, begins so."""
    found = {int(parts[1]) for full in figures if (parts := full.split(".", 2))[2].startswith(name)}
    return sorted(found)


def _percent(m: Measurement) -> Cell:
    return Cell(percent_with_spread(m), interval(m, 100, 1))


def _points(m: Measurement) -> Cell:
    return Cell(number_with_spread(m), interval(m))
