"""The tables, the drawing and the notes of the analysis of privacy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from disentangle_lightning.analysis.privacy.exposure import Exposure
from disentangle_lightning.report.figures import Drawing, render_drawing
from disentangle_lightning.report.run_directory import Measurement
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import (
    interval,
    number_with_spread,
    percent,
    percent_with_spread,
    representation_name,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = Mapping[str, Measurement]

_SCORERS = {
    "cosine": "cosine",
    "plda_new": "PLDA, speakers new to it",
    "plda": "PLDA",
}
_ATTACKERS = {
    "linear": "linear",
    "linear_new": "linear, never heard the speaker",
    "mlp": "MLP",
    "mlp_new": "MLP, never heard the speaker",
}
_COLOURS = {"cosine": "#56b4e9", "plda_new": "#0b5394", "plda": "#d55e00"}
_FEW_SPEAKERS = 10
_WEAK = 0.4
"""The equal error rate on hidden states from which on the attackers are called too weak."""


def speaker_table(figures: Figures, representations: Sequence[str], tasks: Sequence[str]) -> Table:
    """Rows: representations. Columns: what they are good for, and what verification finds in them."""
    scorers = [s for s in _SCORERS if any(f"privacy.{r}.verification.{s}.eer" in figures for r in representations)]
    good_for = ["wer", *tasks]
    table = Table(
        "Who speaks, beside what the representation is good for",
        "EER of speaker verification: high hides the speaker. PLDA is a scorer trained to tell speakers apart; cosine "
        "is not trained. WER and accuracy are those of the run's own probes.",
        ["released", "WER", *(f"{task} accuracy" for task in tasks), *(f"EER, {_SCORERS[s]}" for s in scorers)],
    )
    for representation in representations:
        utility = [figures.get(f"privacy.{representation}.utility.{kind}") for kind in good_for]
        cells = [Cell(percent_with_spread(m), interval(m, scale=100, digits=1)) for m in utility]
        for scorer in scorers:
            name = f"privacy.{representation}.verification.{scorer}"
            eer, found = figures.get(f"{name}.eer"), figures.get(f"{name}.tpr_at_1_fpr")
            detail = f"{interval(eer, scale=100, digits=1)}\nTPR {percent_with_spread(found)}"
            cells.append(Cell(percent_with_spread(eer), detail))
        table.rows.append((representation_name(representation), cells))
    return table


def label_tables(figures: Figures, representations: Sequence[str], labels: Sequence[str]) -> list[Table]:
    """Of each label, rows: attackers; columns: representations."""
    tables = []
    for label in labels:
        attackers = [a for a in _ATTACKERS if f"privacy.{representations[0]}.{label}.{a}.accuracy" in figures]
        if not attackers:
            continue
        chance = figures[f"privacy.{representations[0]}.{label}.{attackers[0]}.chance"].value
        table = Table(
            f"What attackers learn: {label}",
            f"Leakage with its interval (0 is always giving the commonest answer, which is right {percent(chance)} of "
            "the time; 1 is always right), accuracy, and TPR at 1% false positives, averaged over classes.",
            ["attacker", *(representation_name(r) for r in representations)],
        )
        for attacker in attackers:
            cells = []
            for representation in representations:
                name = f"privacy.{representation}.{label}.{attacker}"
                leakage, found = figures.get(f"{name}.leakage"), figures.get(f"{name}.tpr_at_1_fpr")
                accuracy = percent_with_spread(figures.get(f"{name}.accuracy"))
                detail = f"{interval(leakage)}\naccuracy {accuracy}\nTPR {percent_with_spread(found)}"
                cells.append(Cell(number_with_spread(leakage) if leakage else accuracy, detail))
            table.rows.append((_ATTACKERS[attacker], cells))
        tables.append(table)
    return tables


def eer_drawing(figures: Figures, representations: Sequence[str]) -> Drawing | None:
    """The equal error rate of every scorer on every representation, with its interval."""
    scorers = [s for s in _SCORERS if f"privacy.{representations[0]}.verification.{s}.eer" in figures]
    if not scorers:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axvline(50, color="#9a9a9a", lw=1, ls="--")
        axes.annotate("a guess", (50, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8.5)
        for place, scorer in enumerate(scorers):
            for row, representation in enumerate(representations):
                m = figures[f"privacy.{representation}.verification.{scorer}.eer"]
                y = row + 0.22 * (place - (len(scorers) - 1) / 2)
                ends = [100 * (m.value if end is None else end) for end in (m.ci_low, m.ci_high)]
                axes.plot(ends, [y, y], color=_COLOURS[scorer], lw=2)
                label = _SCORERS[scorer] if row == 0 else None
                axes.plot(100 * m.value, y, "o", ms=5, color=_COLOURS[scorer], label=label)
        axes.set_yticks(range(len(representations)), [representation_name(r) for r in representations])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("equal error rate of speaker verification (%)")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8.5)

    caption = (
        "Equal error rate of telling whether two utterances are by one speaker, with 95% intervals over speakers. "
        "Near the dashed line the representation gave these attackers next to nothing."
    )
    return render_drawing("privacy-eer", (8.5, 0.9 + 0.6 * len(representations)), draw, caption)


def notes_on_figures(figures: Figures, speakers: Exposure, trials: int) -> list[str]:
    """What limits the figures, for this run."""
    notes = [
        "Attackers read the mean and deviation of every dimension over an utterance. An attacker with more speech, "
        "with the order of the frames, or with both latents at once may find more; none was tried.",
    ]
    if speakers.by_attackers:
        notes.append(
            "PLDA, linear and MLP are trained on speech of the test's own speakers, like someone who has recordings of "
            "them. "
            + (
                "Those who never heard the speaker learn from the other speakers alone, so from fewer."
                if any("_new." in name for name in figures)
                else "The speakers are too few to train others without those who are asked about."
            )
        )
    if speakers.tested > 1:
        notes.append(
            f"At most {trials:,} pairs of one speaker and as many of two are asked, the same for every representation; "
            "both utterances of a pair say different things, unless all say the same."
        )
    if 0 < speakers.tested < _FEW_SPEAKERS:
        notes.append(f"With {speakers.tested} speakers the intervals are too narrow: such a sample says little.")
    control = figures.get("privacy.hidden.verification.plda.eer")
    if control is not None and control.value > _WEAK:
        notes.append(
            f"The control failed: even in the hidden states PLDA has an EER of {percent(control.value)}. These "
            "attackers are too weak for a high EER to mean that a latent hides anything."
        )
    return notes
