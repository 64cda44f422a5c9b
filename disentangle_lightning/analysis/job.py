"""`analyze`: analyses of a run, each made once, and the report page that shows them."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.text import Text

from disentangle_lightning.analysis.settings import ANALYSES
from disentangle_lightning.analysis.trained_run import DoesNotApply, TrainedRun
from disentangle_lightning.errors import UserError
from disentangle_lightning.report.analysis_result import ANALYSES as FOLDER
from disentangle_lightning.report.analysis_result import RESULT, AnalysisResult, read_result, write_result
from disentangle_lightning.report.page import write_report
from disentangle_lightning.report.tables import to_rich
from disentangle_lightning.settings_files import first_difference, read_settings, read_yaml, write_yaml

ALL = "all"

console = Console(stderr=True)

Analyze = Callable[[TrainedRun, Any, Path], AnalysisResult]
"""(run, settings, the folder of the analysis) -> what was found."""


def run_analyses(name: str, run_dir: Path, configs: Sequence[str] | None, overrides: Sequence[str]) -> Path:
    """Make one analysis of a run, or all of them, and write its report page anew; returns the page.

    What is done already is kept, so that the same command goes on after an interruption. Of all, those that the run
    has nothing for are left out and listed.

    Args:
        name: of the analysis, or `all`.
        run_dir: of a finished run of the pipeline.
        configs: settings files, later ones on top; of `all`, with a section for each analysis.
        overrides: `--FIELD VALUE`, or of `all` `--NAME.FIELD VALUE`.

    Raises:
        UserError: there is no such analysis, the run is not finished or has nothing that it could be made of, a setting
            is bad, or it was made with other settings before.
    """
    settings = analysis_settings(name, configs, overrides)
    names = list(ANALYSES) if name == ALL else [name]
    run = TrainedRun(run_dir)
    left_out: dict[str, str] = {}
    for each in names:
        try:
            result = _make(each, run, getattr(settings, each) if name == ALL else settings)
        except DoesNotApply as error:
            if name != ALL:
                raise
            left_out[each] = str(error)
            continue
        _print(result)
    for each, reason in left_out.items():
        console.print(Text(f"{each}: left out: {reason}", style="yellow"))
    return write_report(run_dir)


def analysis_settings(name: str, configs: Sequence[str] | None, overrides: Sequence[str]) -> Any:
    """The settings of an analysis, or of `all` with a section for each.

    Raises:
        UserError: there is no such analysis, or a setting is unknown or of the wrong type.
    """
    if name != ALL and name not in ANALYSES:
        raise UserError(f"there is no analysis '{name}'; expected {ALL} or one of {', '.join(ANALYSES)}")
    return read_settings(_schema_of_all() if name == ALL else ANALYSES[name], configs, overrides)


def _make(name: str, run: TrainedRun, settings: Any) -> AnalysisResult:
    folder = run.path / FOLDER / name
    made_with = folder / "settings.yaml"
    if made_with.is_file():
        difference = first_difference(OmegaConf.to_container(read_yaml(made_with)), asdict(settings))
        if difference:
            raise UserError(f"{folder} holds this analysis with {difference}; delete it to make it anew")
    if (folder / RESULT).is_file():
        console.print(f"[dim]{name}: done before[/dim]")
        return read_result(folder)
    console.print(f"[bold]{name}[/bold] ...")
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(made_with, asdict(settings))
    analyze: Analyze = importlib.import_module(f"disentangle_lightning.analysis.{name}").analyze
    result = analyze(run, settings, folder)
    write_result(folder, result)
    console.print(f"{name}: {time.monotonic() - begun:.1f} s")
    return result


def _schema_of_all() -> type[Any]:
    """Settings with a section for each analysis."""
    fields = [(name, schema, dataclasses.field(default_factory=schema)) for name, schema in ANALYSES.items()]
    return dataclasses.make_dataclass("AllAnalyses", fields)


def _print(result: AnalysisResult) -> None:
    out = Console()
    for table in result.tables:
        out.print(to_rich(table))
    for note in result.notes:
        out.print(Text(note, style="italic"))
