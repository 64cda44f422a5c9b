"""What an analysis of a run has found, as it stands in RUN_DIR/analysis/NAME/result.json and on the report page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from disentangle_lightning.atomic import write_text
from disentangle_lightning.report.figures import Drawing
from disentangle_lightning.report.run_directory import Measurement, read_json, to_measurements
from disentangle_lightning.report.tables import Cell, Table

ANALYSES = "analysis"
"""The folder of a run directory in which each analysis has one of its own."""

RESULT = "result.json"
"""The file that says that an analysis is done."""


@dataclass(frozen=True)
class AnalysisResult:
    """The figures of one analysis, and how to show them.

    Attributes:
        title: the heading of its section.
        explanation: the question, how it is answered and how to read the answer, in a few sentences.
        figures: every figure by its dotted name, which begins with the name of the analysis; `NAME.ci_low` and
            `NAME.ci_high` are a 95 % interval, `NAME.std` the standard deviation over seeds.
        tables, drawings: what the page shows; tables are printed in the terminal, too.
        notes: what limits the figures: what was left out and why, what was not tested, when not to trust them.
        pages: {file of the analysis's folder: what it is}, such as pages of their own.
    """

    title: str
    explanation: str
    figures: dict[str, float]
    tables: Sequence[Table] = ()
    drawings: Sequence[Drawing] = ()
    notes: Sequence[str] = ()
    pages: dict[str, str] = field(default_factory=dict)

    @property
    def measurements(self) -> dict[str, Measurement]:
        """The figures with their spread and interval."""
        return to_measurements(self.figures)


def write_result(folder: Path, result: AnalysisResult) -> None:
    """Write FOLDER/result.json, whole or not at all."""
    write_text(folder / RESULT, json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n")


def read_result(folder: Path) -> AnalysisResult:
    """What `write_result` wrote.

    Raises:
        UserError: the file is damaged.
    """
    return read_json(folder / RESULT, _result)


def read_results(run_dir: Path) -> dict[str, AnalysisResult]:
    """Every finished analysis of a run directory by its name, in alphabetical order.

    Raises:
        UserError: a file is damaged.
    """
    folders = sorted(file.parent for file in (run_dir / ANALYSES).glob(f"*/{RESULT}"))
    return {folder.name: read_result(folder) for folder in folders}


def _result(data: Any) -> AnalysisResult:
    tables = [
        Table(t["title"], t["explanation"], t["columns"], [(name, [Cell(**c) for c in row]) for name, row in t["rows"]])
        for t in data["tables"]
    ]
    drawings = [Drawing(**d) for d in data["drawings"]]
    return AnalysisResult(**data | {"tables": tables, "drawings": drawings})
