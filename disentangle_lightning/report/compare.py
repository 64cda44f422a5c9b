"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from disentangle_lightning.report.run_directory import RunDirectory, read_run
from disentangle_lightning.report.tables import Cell, Table, to_rich
from disentangle_lightning.report.wording import (
    number_with_spread,
    percent_with_spread,
    representation_name,
    step_name,
)

if TYPE_CHECKING:
    from rich.console import Console


def comparison_table(runs: Sequence[RunDirectory]) -> Table:
    """Rows: the figures that decide. Columns: runs. A run without a figure has a dash."""
    tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))
    targets = list(dict.fromkeys(target for run in runs for target in run.targets))
    percents = {"Stage 1 WER": "stage1.wer"}
    numbers = {f"z_textual, leakage of {t}": f"probe.textual.{t}.leakage" for t in targets}
    for task in tasks:
        representation = f"acoustic_{task}"
        name = representation_name(representation)
        percents[f"{name}, accuracy"] = f"probe.{representation}.{task}.accuracy"
        percents[f"{name}, WER"] = f"probe.{representation}.ctc.wer"
    rates = {
        f"{step_name(stage)}, bits/s": f"{stage}.rate_bits_per_second"
        for stage in ["stage1", *(f"stage2_{task}" for task in tasks)]
    }
    table = Table("Runs side by side", "", ["figure", *(str(run.path) for run in runs)])
    for rows, write in (
        (percents, percent_with_spread),
        (numbers, number_with_spread),
        (rates, number_with_spread),
    ):
        for heading, name in rows.items():
            measurements = [run.measurements.get(name) for run in runs]
            if any(measurements):
                table.rows.append((heading, [Cell(write(m)) for m in measurements]))
    return table


def print_comparison(run_dirs: Sequence[str | Path], console: Console) -> None:
    """Print one table with a column for each run.

    Raises:
        UserError: as `read_run`.
    """
    console.print(to_rich(comparison_table([read_run(run_dir) for run_dir in run_dirs])))
