"""The drawings of the page, as SVG text that is the same for the same run."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from disentangle_lightning.report.run_directory import LatentMap, RunDirectory
from disentangle_lightning.report.wording import number, representation_name, step_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDEST = 11.5
"""Inches: the width of the page's column. Wider drawings are scaled down, their text with them."""

INK = "#222222"
_SERIES = ("#0b5394", "#c8661a", "#3a8a5c", "#8e4b9e")
# Okabe-Ito without yellow, then again with another marker: legible to the colour-blind and in print.
_CLASS_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_CLASS_MARKERS = ("o", "^")
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "disentangle_lightning",  # stable ids
    "svg.fonttype": "none",  # text stays text: searchable, and in the reader's own script
    "text.parse_math": False,  # a label may hold dollar signs
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.edgecolor": "#9a9a9a",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#9a9a9a",
    "ytick.color": "#9a9a9a",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Drawing:
    """An SVG with the words that stand beside it and in its place.

    Attributes:
        svg: markup to be placed in the page as it is; every text in it is escaped.
        caption: what it shows and how to read it.
    """

    svg: str
    caption: str


def leakage_heat_map(run: RunDirectory) -> Drawing | None:
    """Leakage of each label (rows) from each representation (columns)."""
    rows = [[run.value(f"probe.{r}.{t}.leakage") for r in run.representations] for t in run.targets]
    if not any(value is not None for row in rows for value in row):
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        heat_map(axes, rows, run.targets, [representation_name(r) for r in run.representations], 1.0, "leakage")

    size = (min(2.4 + 1.5 * len(run.representations), _WIDEST), 0.7 + 0.42 * len(run.targets))
    caption = (
        "Leakage of each label from each representation: 0 is chance, 1 is always right. The column of "
        "z_textual should be pale; a z_acoustic should be dark in the row of its own label."
    )
    return render_drawing("leakage", size, draw, caption)


def layer_weights(run: RunDirectory) -> Drawing | None:
    """Which encoder layers each stage and each probe listens to, averaged over seeds."""
    collected: dict[str, list[dict[int, float]]] = {}
    for seed in run.seeds:
        for step in seed.steps.values():
            for target, weights in step.layer_weights.items():
                heading = step_name(step.name) + (f": {target}" if target else "")
                collected.setdefault(heading, []).append(weights)
    if not collected:
        return None
    layers = sorted({layer for many in collected.values() for weights in many for layer in weights})
    rows = [[sum(w.get(layer, 0.0) for w in many) / len(many) for layer in layers] for many in collected.values()]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        largest = max(max(row) for row in rows)
        heat_map(axes, rows, list(collected), [str(layer) for layer in layers], largest, "weight")
        axes.set_xlabel("layer of the encoder (1 = first)")

    caption = (
        "Share of each encoder layer in the average that a stage or probe reads (each row sums to 1; even "
        f"use would be {number(1 / len(layers))})."
    )
    return render_drawing("layers", (min(4.0 + 0.5 * len(layers), _WIDEST), 1.3 + 0.36 * len(rows)), draw, caption)


def curves(run: RunDirectory) -> list[Drawing]:
    """For each stage: loss, KL and beta over training, and what was measured on dev; one line a seed."""
    stages = ["stage1", *(f"stage2_{task}" for task in run.tasks)]
    return [d for i, stage in enumerate(stages) if (d := _curves(run, stage, f"curves{i}"))]


def latent_maps(run: RunDirectory) -> list[Drawing]:
    """For each label, both latents of the first seed's test utterances, coloured by that label."""
    latent_map = next((seed.latent_map for seed in run.seeds if seed.latent_map), None)
    if latent_map is None:
        return []
    known = [label for label, classes in latent_map.labels.items() if any(classes)]
    return [_latent_map(latent_map, label, f"map{i}") for i, label in enumerate(known)]


def _curves(run: RunDirectory, stage: str, prefix: str) -> Drawing | None:
    logs = [seed.steps[stage].curves for seed in run.seeds if stage in seed.steps]
    names = {name for log in logs for name in log}
    information = ("KL (nats per frame)", ["train/kl_nats_per_frame", "dev/kl_nats_per_frame"])
    if aimed := "train/aim_bits_per_second" in names:
        rates = ["train/rate_bits_per_second", "dev/rate_bits_per_second", "train/aim_bits_per_second"]
        information = ("rate (bits per second)", rates)
    losses, measured = ["train/loss", "train/task", "dev/objective", "dev/task"], ["dev/wer", "dev/cer", "dev/accuracy"]
    own = ("own task on dev", measured)
    if bounded := "dev/allowed_error" in names:
        information = ("rate (bits per second)", ["train/rate_bits_per_second", "dev/rate_bits_per_second"])
        own = ("error on dev", ["dev/error", "dev/allowed_error"])
        losses.remove("dev/objective")  # there it is mostly the error, and a thousand times as large
    panels = [("loss (nats)", losses), information, ("beta", ["train/beta"]), own]
    panels = [(title, [n for n in wanted if n in names]) for title, wanted in panels]
    panels = [(title, wanted) for title, wanted in panels if wanted]
    if not panels:
        return None

    def draw(figure: Figure) -> None:
        for axes, (title, wanted) in zip(_axes(figure, len(panels)), panels, strict=True):
            for name, colour in zip(wanted, _SERIES, strict=False):
                for i, log in enumerate(log for log in logs if name in log):
                    x, y = zip(*log[name], strict=True)
                    marker = "." if len(x) < 20 else ""
                    axes.plot(x, y, color=colour, lw=1.2, marker=marker, alpha=0.85, label=name if i == 0 else None)
            axes.set(title=title, xlabel="training step")
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
            if "dev/allowed_error" in wanted:
                ends = [log["dev/allowed_error"][-1][1] for log in logs if "dev/allowed_error" in log]
                axes.set_ylim(top=min(1.0, 5 * max(ends)))
            axes.grid(axis="y", color="#e6e6e6", lw=0.6)
            axes.set_axisbelow(True)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.26), ncols=1, fontsize=8.5)

    seeds = "" if len(logs) == 1 else " One line a seed."
    aim = " Beta was moved in training so that the rate follows its aim." if aimed else ""
    if bounded:
        aim = (
            " Beta was moved in training so that the error on dev stays just below the allowed one, which is that of "
            "the same stage without a bottleneck and the chosen distance; the panel of errors is cut off above."
        )
    caption = (
        f"{step_name(stage)}: the loss is the task's own plus beta times the KL, the information that the "
        f"bottleneck lets through.{aim}{seeds}"
    )
    return render_drawing(prefix, (2.9 * len(panels), 2.9), draw, caption)


def _latent_map(latent_map: LatentMap, label: str, prefix: str) -> Drawing:
    classes = latent_map.labels[label]
    counts = Counter(c for c in classes if c is not None)
    room = len(_CLASS_COLOURS) * len(_CLASS_MARKERS)
    shown = sorted(c for c, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:room])
    representations = list(latent_map.points)

    def draw(figure: Figure) -> None:
        panels = _axes(figure, len(representations))
        for axes, representation in zip(panels, representations, strict=True):
            points = latent_map.points[representation]
            groups: dict[str | None, list[tuple[float, float]]] = {None: [], **{name: [] for name in shown}}
            for point, name in zip(points, classes, strict=True):
                groups[name if name in groups else None].append(point)
            for name, members in groups.items():
                if members:
                    x, y = zip(*members, strict=True)
                    # Rasterised: thousands of points stay a small page.
                    axes.scatter(x, y, s=11, linewidths=0, rasterized=True, **_look(name, shown))
            axes.set(title=representation_name(representation), xticks=[], yticks=[])
            axes.set_aspect("equal", adjustable="datalim")
            axes.spines[["top", "right"]].set_visible(True)
        _class_legend(figure, shown, has_others=len(counts) > len(shown) or None in classes)

    caption = (
        f"{label}: each point is a test utterance ({latent_map.method}; axes have no unit). A representation "
        f"that hides the {label} mixes the colours; one that keeps it shows islands of one colour."
    )
    panel = min(2.6, (_WIDEST - 1.7) / len(representations))
    return render_drawing(prefix, (panel * len(representations) + 1.7, panel + 0.3), draw, caption)


def _look(name: str | None, shown: list[str]) -> dict[str, Any]:
    if name is None:
        return {"color": "#c9c9c9", "marker": "o"}
    i = shown.index(name)
    return {
        "color": _CLASS_COLOURS[i % len(_CLASS_COLOURS)],
        "marker": _CLASS_MARKERS[i // len(_CLASS_COLOURS)],
    }


def _class_legend(figure: Figure, shown: list[str], has_others: bool) -> None:
    from matplotlib.lines import Line2D

    # A label that starts with an underscore would be left out of a legend: a zero-width space goes before it.
    names: list[tuple[str | None, str]] = [(n, "\u200b" * n.startswith("_") + _short(n)) for n in shown]
    names += [(None, "other or unknown")] if has_others else []
    handles = [Line2D([], [], ls="", ms=4.5, mew=0, label=text, **_look(name, shown)) for name, text in names]
    figure.legend(handles=handles, loc="outside right center", fontsize=8.5, handletextpad=0.2)


def heat_map(
    axes: Axes,
    rows: Sequence[Sequence[float | None]],
    row_names: list[str],
    columns: list[str],
    largest: float,
    unit: str,
) -> None:
    """Numbered cells, the darker the larger; a figure that is missing is grey.

    Args:
        axes: where to draw.
        rows: the figures, row by row.
        row_names, columns: what stands beside and below them.
        largest: the figure that is darkest.
        unit: of the figures, beside the colour bar.
    """
    from matplotlib.colors import LinearSegmentedColormap

    ink = LinearSegmentedColormap.from_list("ink", ["#ffffff", "#8fb8de", "#0b3d6b"])
    paint = ink.with_extremes(bad="#eeeeee")
    values = [[float("nan") if v is None else v for v in row] for row in rows]
    image = axes.pcolormesh(values, cmap=paint, vmin=0.0, vmax=largest or 1.0, edgecolors="#ffffff", linewidth=1.5)
    axes.invert_yaxis()
    axes.set_xticks([i + 0.5 for i in range(len(columns))], [_short(c) for c in columns])
    axes.set_yticks([i + 0.5 for i in range(len(row_names))], [_short(r, 40) for r in row_names])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            dark = value is not None and value > 0.55 * largest
            text = number(value).removeprefix("0" if len(columns) > 12 else "")
            axes.text(
                x + 0.5,
                y + 0.5,
                text,
                ha="center",
                va="center",
                color="white" if dark else INK,
                fontsize=8.5,
            )
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, label=unit)
    bar.outline.set_visible(False)


def _axes(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def render_drawing(prefix: str, inches: tuple[float, float], draw: Callable[[Figure], None], caption: str) -> Drawing:
    """Draw off screen, without pyplot's global state, and make the SVG fit to stand in a page.

    Ids are unique in one drawing only: `prefix` keeps them apart in a page of several.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Only the width is estimated without the glyph: the browser has the reader's fonts.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        figure.draw_without_rendering()  # axes of another height may have other, wider ticks, for which this makes room
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", dpi=200, metadata=nothing, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # matplotlib's style element would reach every element of the page.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", tag[0]), svg)
    return Drawing(svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(caption)}" ', 1), caption)
