"""What the page shows of the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from disentangle_lightning.analysis.information.factors import Factor
from disentangle_lightning.analysis.information.measures import LEVELS
from disentangle_lightning.report.figures import Drawing, render_drawing
from disentangle_lightning.report.run_directory import Measurement
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import interval, number, number_with_spread, representation_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = Mapping[str, Measurement]

_COLOURS = {"textual": "#0b5394", "acoustic": "#c8661a"}


def rate_table(figures: Figures, latents: Sequence[str]) -> Table:
    """Rows: latents."""
    table = Table(
        "Rates",
        "Rate is what passes a bottleneck, in bits for each second of test speech. Active dimensions are those that "
        "carry any of it.",
        ["latent", "rate (bits/s)", "active dimensions"],
    )
    for name in latents:
        rate = figures[f"information.{name}.rate"]
        active = figures[f"information.{name}.active_dimensions"]
        row = [
            Cell(number_with_spread(rate, 1), interval(rate, digits=1)),
            Cell(number_with_spread(active, 0 if active.std is None else 1)),
        ]
        table.rows.append((representation_name(name), row))
    return table


def shared_table(figures: Figures, acoustic: Sequence[str]) -> Table:
    """Rows: measures on either level. Columns: z_textual beside each z_acoustic."""
    table = Table(
        "What z_textual and z_acoustic share",
        "InfoNCE and CLUB are bounds, in bits, from below and from above, of the mutual information of one utterance's "
        "(one frame's) two latents, from networks fitted on other utterances. HSIC and CKA compare the similarities "
        "between utterances that either latent sees, from 0 to 1, without training. p is how often utterances paired "
        "at random look as dependent as the true pairs; random is the 95% quantile of such pairs. Bold: p below 0.05.",
        ["z_textual and", *(representation_name(name) for name in acoustic)],
    )
    measures = {"infonce": ("InfoNCE (bits)", 2), "club": ("CLUB (bits)", 1), "hsic": ("HSIC", 3), "cka": ("CKA", 3)}
    for level, level_words in LEVELS.items():
        for measure, (words, digits) in measures.items():
            row = []
            for name in acoustic:
                base = f"information.shared.{name}.{level}.{measure}"
                value = figures.get(base)
                if value is not None:
                    null, p = (figures[f"{base}.{kind}"].value for kind in ("null", "p"))
                    detail = f"{interval(value, digits=digits)}\nrandom {number(null, digits)}, p {number(p, 3)}"
                    row.append(Cell(number_with_spread(value, digits), detail, emphasis=p < 0.05))
            if row:
                table.rows.append((f"{words}, {level_words}", row))
    return table


def compression_table(figures: Figures, representations: Sequence[str], factors: Sequence[Factor]) -> Table:
    """Rows: factors. Columns: representations."""
    table = Table(
        "How many bits a representation saves",
        "Compression is the length of a label's uniform code over its length for someone who has the representation "
        "and pays for learning to read it: 1 is no help, 2 halves the bits. Shuffled is that of the label in random "
        "order. Text and letters should be cheap with z_textual and cost all their bits with z_acoustic.",
        ["label", *(representation_name(name) for name in representations)],
    )
    for factor in factors:
        row = []
        for name in representations:
            value = figures.get(f"information.{name}.{factor.key}.compression")
            control = figures.get(f"information.{name}.{factor.key}.compression.control")
            detail = f"{interval(value)}\nshuffled {number(control.value)}" if control else ""
            row.append(Cell(number_with_spread(value), detail))
        if any(cell.detail for cell in row):
            table.rows.append((factor.name, row))
    return table


def selectivity_table(figures: Figures, representations: Sequence[str], labels: Sequence[str]) -> Table:
    """Rows: labels and probes. Columns: representations."""
    table = Table(
        "Selectivity of probes",
        "Accuracy on the label minus accuracy on control labels, which give each type of utterance (all its labels "
        "together, and its text where texts recur) a class at random. Near 0, the probe is no better at the label than "
        "at what can only be learnt by heart.",
        ["label, probe", *(representation_name(name) for name in representations)],
    )
    for label in labels:
        for probe, words in (("linear", "linear"), ("mlp", "MLP")):
            row = []
            for name in representations:
                base = f"information.{name}.{label}.selectivity.{probe}"
                value, accuracy, control = (figures.get(f"{base}{kind}") for kind in ("", ".accuracy", ".control"))
                detail = ""
                if accuracy and control:
                    detail = f"{interval(value)}\n{number(accuracy.value)} against {number(control.value)}"
                row.append(Cell(number_with_spread(value), detail))
            if any(cell.detail for cell in row):
                table.rows.append((f"{label}, {words}", row))
    return table


def factor_table(figures: Figures, acoustic: Sequence[str]) -> Table:
    """Rows: DCI and modularity. Columns: z_textual beside each z_acoustic."""
    table = Table(
        "Two latents as two blocks",
        "Disentanglement: does a block hold letters alone, or labels alone? Completeness: is a factor in one block "
        "alone? Informativeness: how well both blocks together tell the factors. Modularity: does each dimension tell "
        "of letters alone, or of labels alone? All are 1 at best; the first two are 0 where both blocks hold "
        "everything alike.",
        ["z_textual and", *(representation_name(name) for name in acoustic)],
    )
    for words, name in {
        "disentanglement": "factors.{}.disentanglement",
        "of z_textual": "factors.{}.disentanglement.textual",
        "of z_acoustic": "factors.{}.disentanglement.acoustic",
        "completeness": "factors.{}.completeness",
        "informativeness": "factors.{}.informativeness",
        "modularity of z_textual": "textual.modularity",
        "modularity of z_acoustic": "{}.modularity",
    }.items():
        found = [figures.get(f"information.{name.format(latent)}") for latent in acoustic]
        if any(found):
            table.rows.append((words, [Cell(number_with_spread(m), interval(m)) for m in found]))
    return table


def factor_drawings(figures: Figures, acoustic: Sequence[str], factors: Sequence[Factor]) -> list[Drawing]:
    """For each z_acoustic: how much either block knows of each factor."""
    return [drawing for name in acoustic if (drawing := _factor_drawing(figures, name, factors))]


def _factor_drawing(figures: Figures, acoustic: str, factors: Sequence[Factor]) -> Drawing | None:
    base = f"information.factors.{acoustic}.importance"
    bars = {block: [figures.get(f"{base}.{factor.key}.{block}") for factor in factors] for block in _COLOURS}
    if not all(all(of_block) for of_block in bars.values()):
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for shift, (block, colour) in zip((-0.2, 0.2), _COLOURS.items(), strict=True):
            values = [m.value for m in bars[block] if m]
            reach = [
                [max(0.0, m.value - (m.ci_low or 0.0)) for m in bars[block] if m],
                [max(0.0, (m.ci_high or 0.0) - m.value) for m in bars[block] if m],
            ]
            places = [i + shift for i in range(len(factors))]
            name = representation_name("textual" if block == "textual" else acoustic)
            axes.bar(places, values, 0.38, color=colour, label=name)
            axes.errorbar(places, values, reach, fmt="none", ecolor="#222222", elinewidth=0.8)
        axes.set_xticks(range(len(factors)), [factor.name for factor in factors])
        axes.set_ylabel("importance")
        axes.set_ylim(bottom=0.0)
        figure.legend(loc="outside upper right", ncols=2, fontsize=8.5)

    caption = (
        "Importance of either latent for each factor: its share of what both together tell of it, on a scale from 0, "
        "no better than a guess, to 1, always right, with 95% intervals. Text and letters should be z_textual's, and "
        "labels z_acoustic's."
    )
    return render_drawing(f"information-{acoustic}", (min(11.5, 2.0 + 0.8 * len(factors)), 2.9), draw, caption)
