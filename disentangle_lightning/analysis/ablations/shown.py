"""Table and drawing of the ablations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from disentangle_lightning.report.figures import Drawing, render_drawing
from disentangle_lightning.report.run_directory import Measurement
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import interval, number_with_spread, percent_with_spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = Mapping[str, Measurement]

_COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8e4b9e", "#7a7a7a")
_MARKERS = "*osD^vP<>"


def ablation_table(figures: Figures, headings: Mapping[str, str], task: str, other: str | None) -> Table:
    """A row for each variant."""
    table = Table(
        "The protocol and its variants",
        "WER and accuracy by the stages' own heads, where Stage 2 sees both latents; then what probes read from each "
        f"latent alone. Leakage of {task} in z_textual should be near 0, WER from z_acoustic near 100%.",
        [
            "variant", "WER", f"{task}, both latents", f"{task} leaks in z_textual", f"{task} from z_acoustic",
            "WER from z_acoustic", "z_textual, bits/s", "z_acoustic, bits/s",
        ],
    )  # fmt: skip
    for name, heading in headings.items():

        def found(figure: str, name: str = name) -> Measurement | None:
            return figures.get(f"ablations.{name}.{figure}")

        own = _percent(found(f"acoustic.{task}.accuracy"))
        if other is not None and (accuracy := found(f"acoustic.{other}.accuracy")):
            words = f"{other} {percent_with_spread(accuracy)}"
            own = Cell(own.text, f"{own.detail}\n{words}".strip())
        leakage = found(f"textual.probe.{task}.leakage")
        cells = [
            _percent(found("textual.wer")),
            own,
            Cell(number_with_spread(leakage), interval(leakage)),
            _percent(found(f"acoustic.probe.{task}.accuracy")),
            _percent(found("acoustic.probe.ctc.wer")),
            *(Cell(number_with_spread(found(f"{latent}.rate_bits_per_second"), 1)) for latent in _LATENTS),
        ]
        table.rows.append((heading, cells))
    return table


_LATENTS = ("textual", "acoustic")


def ablation_drawing(figures: Figures, headings: Mapping[str, str], task: str) -> Drawing:
    """Use against leakage of either latent, a point for each variant."""
    probe = f"acoustic.probe.{task}.accuracy"
    panels = [
        ("z_textual", f"leakage of {task}", f"textual.probe.{task}.leakage", "WER", "textual.wer"),
        ("z_acoustic", "WER of a probe", "acoustic.probe.ctc.wer", f"{task}: accuracy of a probe", probe),
    ]

    def draw(figure: Figure) -> None:
        axes_of = figure.subplots(1, 2)
        for axes, (title, x_words, x, y_words, y) in zip(axes_of, panels, strict=True):
            for (name, heading), colour, marker in zip(headings.items(), _COLOURS, _MARKERS, strict=False):
                point = figures.get(f"ablations.{name}.{x}"), figures.get(f"ablations.{name}.{y}")
                if point[0] is not None and point[1] is not None:
                    axes.plot(point[0].value, point[1].value, marker, color=colour, ms=7, alpha=0.8, label=heading)
            axes.set(title=title, xlabel=x_words, ylabel=y_words, ylim=(-0.04, 1.04))
            # Wide enough that what differs by chance alone does not look far apart.
            axes.set_xlim(min(-0.05, axes.get_xlim()[0]), max(0.5, axes.get_xlim()[1] + 0.03))
            axes.grid(color="#e6e6e6", lw=0.6)
            axes.set_axisbelow(True)
        shown: dict[str, Any] = {}
        for axes in axes_of:
            shown |= {str(label): handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        ordered = [heading for heading in headings.values() if heading in shown]
        figure.legend([shown[heading] for heading in ordered], ordered, loc="outside right center", fontsize=8.5)

    caption = (
        f"Left: what z_textual gives away of {task} against the words it loses; best is low on the left. Right: how "
        f"badly words are read from z_acoustic against how well {task} is; best is high on the right."
    )
    return render_drawing("ablations", (10.5, 3.2), draw, caption)


def _percent(m: Measurement | None) -> Cell:
    return Cell(percent_with_spread(m), interval(m, 100, 1))
