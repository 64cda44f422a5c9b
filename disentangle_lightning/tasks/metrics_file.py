"""metrics.csv: every logged figure of a run, on disk as soon as it is logged."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from disentangle_lightning.atomic import write_text


class MetricsFile(Logger):
    """One row per call of `log`, with columns step, epoch and the figures, sorted; a cell is empty if not logged.

    Rows that are there already are kept up to the step that is logged first: those that a run which is resumed had
    logged before its checkpoint. (Lightning's CSVLogger throws them away, and writes its settings beside config.yaml.)

    Args:
        file: where the rows go.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self._file.parent)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int) -> None:  # type: ignore[override]
        row = metrics | {"step": step}
        if self._rows is None:
            self._rows = [earlier for earlier in _read(self._file) if int(earlier["step"]) < step]
        self._rows.append(row)
        if row.keys() <= set(self._columns):
            with self._file.open("a", encoding="utf-8") as file:
                self._writer(file).writerow(row)
        else:
            self._columns = sorted({name for row in self._rows for name in row})
            self._write_all()

    def _write_all(self) -> None:
        content = io.StringIO()
        self._writer(content).writeheader()
        self._writer(content).writerows(self._rows or [])
        write_text(self._file, content.getvalue())

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Nothing: config.yaml has them."""

    def _writer(self, file: Any) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self._columns, lineterminator="\n")


def _read(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))  # the last may have been cut off
