"""The tables of a run, built once as plain text for the terminal and the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from disentangle_lightning.report.findings import find
from disentangle_lightning.report.run_directory import RunDirectory, read_run
from disentangle_lightning.report.verdict import verdict
from disentangle_lightning.report.wording import (
    interval,
    number_with_spread,
    percent,
    percent_with_spread,
    representation_name,
    step_name,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Cell:
    """A figure and, smaller beneath it, what qualifies it (a line or two)."""

    text: str
    detail: str = ""
    emphasis: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column holds the headings of its rows.

    Attributes:
        explanation: what the figures mean, in a sentence or two.
    """

    title: str
    explanation: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)


def cross_probe_table(run: RunDirectory) -> Table:
    """Rows: labels. Columns: representations. Cells: accuracy, and leakage with its interval."""
    compared = [*run.representations, *(["duration"] if _has_duration(run) else [])]
    table = Table(
        "What can be recognised from what",
        "Small classifiers (probes) try to read each label from each representation, on test utterances that "
        "trained nothing. Accuracy is how often they are right. Leakage puts it on a scale from 0, no better "
        "than chance (always giving the commonest answer), to 1, always right. It should be near 0 for "
        "z_textual and high for the z_acoustic that was made for the label (bold); the hidden states show "
        f"what the encoder knew.{_what_is_hidden(run)}",
        ["label", "chance", *(representation_name(r) for r in compared)],
    )
    for target in run.targets:
        cells = [Cell(percent(run.chance(target)))]
        for representation in compared:
            name = f"probe.{representation}.{target}"
            accuracy, leakage = (run.measurements.get(f"{name}.{kind}") for kind in ("accuracy", "leakage"))
            detail = f"leakage {number_with_spread(leakage)}\n{interval(leakage)}".rstrip() if leakage else ""
            cells.append(Cell(percent_with_spread(accuracy), detail, representation == f"acoustic_{target}"))
        table.rows.append((target, cells))
    return table


def _what_is_hidden(run: RunDirectory) -> str:
    hidden = [target for target in run.targets if target in run.hidden]
    if not hidden:
        return ""
    rest = "" if set(hidden) == set(run.targets) else "; anything else is kept out by its bottleneck alone"
    return f" Stage 1 was trained to hide: {', '.join(hidden)}{rest}."


def transcription_table(run: RunDirectory) -> Table:
    """Rows: Stage 1 and the CTC probe on each representation. Columns: WER and CER."""
    table = Table(
        "What can be transcribed from what",
        "WER is the part of the words, CER the part of the letters, that a reader gets wrong on the test "
        "speech (it can pass 100% by adding words). It should be low for z_textual and near 100% for "
        "z_acoustic.",
        ["read from", "WER", "CER"],
    )
    sources = [("stage1", "z_textual, by Stage 1 itself")]
    sources += [(f"probe.{r}.ctc", f"{representation_name(r)}, by a probe") for r in run.representations]
    for name, heading in sources:
        wer, cer = run.measurements.get(f"{name}.wer"), run.measurements.get(f"{name}.cer")
        if wer or cer:
            table.rows.append(
                (
                    heading,
                    [Cell(percent_with_spread(m), interval(m, scale=100, digits=1)) for m in (wer, cer)],
                )
            )
    return table


def rate_table(run: RunDirectory) -> Table:
    """Rows: stages. Columns: rate, KL, active dimensions, and how well the stage does its task."""
    table = Table(
        "How much each bottleneck lets through",
        "Rate is the information that passes a bottleneck, in bits for each second of speech (the KL of its "
        "latent, in nats per frame, in other units). Active dimensions are those of the latent that carry "
        "any of it. A rate near zero with accuracy at chance is a collapsed stage.",
        ["stage", "rate (bits/s)", "KL (nats/frame)", "active dimensions", "own task (test)", "chance"],
    )
    for stage in ["stage1", *(f"stage2_{task}" for task in run.tasks)]:
        figures = [
            run.measurements.get(f"{stage}.{kind}")
            for kind in ("rate_bits_per_second", "kl_nats_per_frame", "active_dimensions")
        ]
        if not any(figures):
            continue
        rate, kl, active = figures
        accuracy = run.measurements.get(f"{stage}.accuracy")
        own = (
            f"WER {percent_with_spread(run.measurements.get('stage1.wer'))}"
            if stage == "stage1"
            else f"accuracy {percent_with_spread(accuracy)}"
        )
        table.rows.append(
            (
                step_name(stage),
                [
                    Cell(number_with_spread(rate, 1)),
                    Cell(number_with_spread(kl, 3)),
                    Cell(number_with_spread(active, 0 if active is None or active.std is None else 1)),
                    Cell(own),
                    Cell(percent(run.value(f"{stage}.chance"))),
                ],
            )
        )
    return table


def print_report(run_dir: str | Path, console: Console) -> None:
    """Print verdict, findings and tables.

    Raises:
        UserError: as `read_run`.
    """
    from rich.panel import Panel
    from rich.text import Text

    run = read_run(run_dir)
    findings = find(run)
    console.print(Panel(Text(verdict(run, findings)), title=Text(run.name), title_align="left"))
    for finding in findings:
        label = Text(f"{finding.severity.name}: {finding.title}", style=_STYLES[finding.severity.name])
        console.print(label, Text(finding.evidence), Text(f"Try: {finding.advice}", style="italic"), "", sep="\n")
    for table in (cross_probe_table(run), transcription_table(run), rate_table(run)):
        if table.rows:
            console.print(to_rich(table))


def to_rich(table: Table) -> RichTable:
    """For the terminal. Texts are never read as rich's markup."""
    from rich.table import Table as RichTable
    from rich.text import Text

    rich = RichTable(title=Text(table.title, style="bold"), title_justify="left")
    for i, column in enumerate(table.columns):
        rich.add_column(Text(column), justify="right" if i else "left")
    for heading, cells in table.rows:
        texts: list[RenderableType] = [Text(heading)]
        for cell in cells:
            text = Text(cell.text, style="bold" if cell.emphasis else "")
            if cell.detail:
                text.append(f"\n{cell.detail}", style="dim not bold")
            texts.append(text)
        rich.add_row(*texts)
    return rich


_STYLES = {"ALARM": "bold red", "WARNING": "bold yellow", "NOTE": "bold cyan"}


def _has_duration(run: RunDirectory) -> bool:
    return any(name.startswith("probe.duration.") for name in run.measurements)
