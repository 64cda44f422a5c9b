"""A sweep in the terminal and on a page: its runs, the frontier of rate, error and leakage, and the run to take."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disentangle_lightning.report.figures import INK, Drawing, render_drawing
from disentangle_lightning.report.page import template, write_page
from disentangle_lightning.report.sweep_directory import SweepDirectory, SweepRun, read_sweep_directory
from disentangle_lightning.report.tables import Cell, Table, to_rich
from disentangle_lightning.report.wording import listing, number, percent, step_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console

_LOGARITHMIC_FROM = 20.0
"""Rates further apart than this factor are drawn on a logarithmic axis."""


def write_sweep_report(path: str | Path) -> Path:
    """Write PATH/report.html and return its path. The same runs give the same bytes.

    Raises:
        UserError: as `read_sweep_directory`, or the page cannot be written.
    """
    sweep = read_sweep_directory(path)
    page = template("sweep.html.j2").render(
        sweep=sweep,
        verdict=verdict(sweep),
        formula=formula(sweep),
        frontier=frontier_drawing(sweep),
        runs=runs_table(sweep),
        chosen=chosen_table(sweep),
        failed=[run for run in sweep.runs if run.error],
        unfinished=[run.name for run in sweep.runs if run.state == "not finished"],
        diverged=[run.name for run in sweep.runs if run.state == "diverged"],
        commands=_commands(sweep),
    )
    return write_page(sweep.path / "report.html", page)


def print_sweep(path: str | Path, console: Console) -> None:
    """Print the runs, what became of those that are not among them, and the run to take.

    Raises:
        UserError: as `read_sweep_directory`.
    """
    from rich.text import Text

    sweep = read_sweep_directory(path)
    for table in (runs_table(sweep), chosen_table(sweep)):
        if table.rows:
            console.print(to_rich(table))
    for run in sweep.runs:
        if run.state != "finished":
            why = f": {run.error}" if run.error else ""
            console.print(Text(f"{run.name} {run.state}{why}", style="bold red" if run.error else "yellow"))
    console.print(Text(verdict(sweep)))


def verdict(sweep: SweepDirectory) -> str:
    """How many runs there are, and which one to take."""
    states = [run.state for run in sweep.runs]
    counts = {state: states.count(state) for state in ("finished", "diverged", "failed", "not finished")}
    sentence = f"Of {len(states)} runs, {listing([f'{n} {state}' for state, n in counts.items() if n])}."
    if sweep.chosen is None or sweep.chosen.test is None:
        return f"{sentence} None of them can be compared."
    dev, test = sweep.points[0][1], sweep.chosen.test
    return (
        f"{sentence} The lowest trade-off on dev, {number(dev.tradeoff)}, is that of {_name(sweep, sweep.chosen)}. "
        f"On test, which chose nothing, it has a {error_name(sweep)} of {percent(test.error)} at a leakage of "
        f"{number(test.leakage)} and {number(test.rate, 1)} bits per second."
    )


def error_name(sweep: SweepDirectory) -> str:
    """What `Point.error` is, in words."""
    return "word error rate" if sweep.stage == "stage1" else "classification error"


def _error_heading(sweep: SweepDirectory) -> str:
    return "WER" if sweep.stage == "stage1" else "1 - accuracy"


def formula(sweep: SweepDirectory) -> str:
    """What the trade-off of this sweep is made of."""
    labels = list(sweep.points[0][1].leakages) if sweep.points else []
    of = f" of {listing(labels)}" if labels else ""
    weight = "" if sweep.weight == 1 else f"{sweep.weight:g} times "
    return f"trade-off = {error_name(sweep)} + {weight}mean leakage{of}, none counted below 0"


def runs_table(sweep: SweepDirectory) -> Table:
    """Rows: runs, the best first. Columns: what they differ in, and what they do on dev."""
    table = Table(
        f"{step_name(sweep.stage)}: the runs on dev, the lowest trade-off first",
        f"Of each run, the epoch with its lowest trade-off: {formula(sweep)}. Leakage is what a linear classifier "
        "reads from utterance means, 0 is chance and 1 is everything: a lower bound. The chosen run is bold.",
        ["run", *sweep.parameters.values(), "rate (bits/s)", _error_heading(sweep), "leakage", "trade-off"],
    )
    for run, point in sweep.points:
        is_chosen = run is sweep.chosen
        leakages = "\n".join(f"{label} {number(value)}" for label, value in point.leakages.items())
        cells = [Cell(_value(run.settings.get(name)), emphasis=is_chosen) for name in sweep.parameters]
        cells += [
            Cell(number(point.rate, 1), emphasis=is_chosen),
            Cell(percent(point.error), emphasis=is_chosen),
            Cell(number(point.leakage), leakages if len(point.leakages) > 1 else "", is_chosen),
            Cell(number(point.tradeoff, 3), emphasis=is_chosen),
        ]
        table.rows.append((f"{run.name} (chosen)" if is_chosen else run.name, cells))
    return table


def chosen_table(sweep: SweepDirectory) -> Table:
    """Rows: dev and test. Columns: what the chosen run does there."""
    table = Table(
        "The chosen run on dev and on test",
        "The lowest of many figures on dev is lower than the truth; those on test had no part in the choice. Publish "
        "the latter, and leakage as trained probes find it.",
        ["split", "rate (bits/s)", _error_heading(sweep), "leakage", "trade-off"],
    )
    if sweep.chosen is not None:
        for split, point in (("dev", sweep.chosen.dev), ("test", sweep.chosen.test)):
            if point is not None:
                texts = (
                    number(point.rate, 1), percent(point.error), number(point.leakage), number(point.tradeoff, 3),
                )  # fmt: skip
                table.rows.append((split, [Cell(text) for text in texts]))
    return table


def frontier_drawing(sweep: SweepDirectory) -> Drawing | None:
    """Rate against error, leakage as colour; runs that no other beats in both are joined."""
    points = sweep.points
    if not points or sweep.chosen is None:
        return None
    rates = [point.rate for _, point in points] + ([sweep.chosen.test.rate] if sweep.chosen.test else [])
    is_logarithmic = min(rates) > 0 and max(rates) / min(rates) > _LOGARITHMIC_FROM

    def draw(figure: Figure) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.add_subplot()
        if is_logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:,g}")
            axes.xaxis.set_minor_formatter(lambda *_: "")
        joined = [point for _, point in sweep.frontier]
        axes.plot([p.rate for p in joined], [100 * p.error for p in joined], color="#9a9a9a", lw=1.2, zorder=1)
        paint = LinearSegmentedColormap.from_list("leakage", ["#cfe1f2", "#5b9bd0", "#c8661a", "#7d1a0e"])
        most = max(0.05, *(point.leakage for _, point in points))
        scatter: dict[str, Any] = {"cmap": paint, "vmin": 0.0, "vmax": most, "edgecolors": INK, "linewidths": 0.5}
        everyone = [point for _, point in points]
        dots = axes.scatter(
            [p.rate for p in everyone], [100 * p.error for p in everyone], c=[p.leakage for p in everyone],
            s=46, zorder=2, label="a run on dev", **scatter,
        )  # fmt: skip
        _mark_chosen(axes, sweep, scatter)
        axes.set(xlabel="rate (bits per second)", ylabel=f"{error_name(sweep)} (%)")
        axes.grid(color="#e6e6e6", lw=0.6)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=3, fontsize=8.5)
        bar = figure.colorbar(dots, ax=axes, fraction=0.05, pad=0.02, label="leakage")
        bar.outline.set_visible(False)

    caption = (
        "Each point is a run on dev: what its bottleneck lets through, how much of its task is lost "
        f"({error_name(sweep)}), and, as colour, how much leaks. The line joins the runs than which none has both less "
        f"rate and less error. The ring marks the run with the lowest trade-off, {_name(sweep, sweep.chosen)}; the "
        "diamond is the same run on test."
    )
    return render_drawing("frontier", (8.2, 4.6), draw, caption)


def _mark_chosen(axes: Axes, sweep: SweepDirectory, scatter: dict[str, Any]) -> None:
    assert sweep.chosen is not None
    dev, test = sweep.chosen.dev, sweep.chosen.test
    assert dev is not None
    axes.scatter([dev.rate], [100 * dev.error], s=190, facecolors="none", edgecolors=INK, linewidths=1.3, zorder=3,
                 label="chosen on dev")  # fmt: skip
    if test is not None:
        axes.scatter([test.rate], [100 * test.error], c=[test.leakage], s=64, marker="D", zorder=3,
                     label="chosen, on test", **scatter)  # fmt: skip
        axes.annotate(
            f"test: {percent(test.error)}, leakage {number(test.leakage)}",
            (test.rate, 100 * test.error), textcoords="offset points", xytext=(9, 7), fontsize=8.5,
        )  # fmt: skip


def _name(sweep: SweepDirectory, run: SweepRun) -> str:
    values = [f"{short} {_value(run.settings.get(name))}" for name, short in sweep.parameters.items()]
    return f"{run.name} ({', '.join(values)})" if values else run.name


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _commands(sweep: SweepDirectory) -> list[tuple[str, str]]:
    commands = [("Write this page again", ["report", str(sweep.path)])]
    if sweep.chosen is not None:
        config = sweep.path / sweep.chosen.name / "config.yaml"
        commands.insert(0, ("Train the chosen run again", ["fit", "--config", str(config), "--run_dir", "runs/chosen"]))
    return [(heading, shlex.join(["python", "-m", "disentangle_lightning", *words])) for heading, words in commands]
