"""`analyze`: analyses of a run, each made once, and the report page that shows them."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.text import Text

from disentangle_lightning.analysis.processes import LOG, in_processes
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


def run_analyses(
    name: str, run_dir: Path, configs: Sequence[str] | None, overrides: Sequence[str], jobs: int = 1
) -> Path:
    """Make one analysis of a run, or all of them, and write its report page anew; returns the page.

    What is done already is kept, so that the same command goes on after an interruption. Of all, those that the run
    has nothing for are left out and listed.

    Args:
        name: of the analysis, or `all`.
        run_dir: of a finished run of the pipeline.
        configs: settings files, later ones on top; of `all`, with a section for each analysis.
        overrides: `--FIELD VALUE`, or of `all` `--NAME.FIELD VALUE`.
        jobs: how many of all are made at a time, each in a process with its own memory; `cost` is made last and alone.

    Raises:
        UserError: there is no such analysis, the run is not finished or has nothing that it could be made of, a setting
            is bad, or it was made with other settings before.
        LostProcess: see `in_processes`.
    """
    if jobs < 1 or (jobs > 1 and name != ALL):
        raise UserError(f"--jobs is {jobs}; it is how many of `analyze {ALL}` are made at a time, 1 or more")
    settings = analysis_settings(name, configs, overrides)
    run = TrainedRun(run_dir)
    wanted = {each: getattr(settings, each) for each in ANALYSES} if name == ALL else {name: settings}
    left_out: dict[str, str] = {}
    for each, made in _made(run, wanted, jobs):
        try:
            _print(made())
        except DoesNotApply as error:
            if name != ALL:
                raise
            left_out[each] = str(error)
    for each, reason in left_out.items():
        console.print(Text(f"{each}: left out: {reason}", style="yellow"))
    return write_report(run_dir)


def _made(run: TrainedRun, wanted: Mapping[str, Any], jobs: int) -> Iterator[tuple[str, Callable[[], AnalysisResult]]]:
    """Each analysis, and a function that returns its result or raises what stood in its way."""
    alone = dict(wanted)
    if jobs > 1:
        together = {name: alone.pop(name) for name in wanted if name not in ALONE}
        console.print(f"{jobs} at a time; what each prints is in {run.path / FOLDER}/NAME/{LOG}")
        for name, future in in_processes(functools.partial(_make_of, run.path), together, run.path / FOLDER, jobs):
            console.print(f"{name}: done")
            yield name, future.result
    for name, settings in alone.items():
        yield name, functools.partial(_make, name, run, settings)


ALONE = ("cost",)
"""Analyses that measure time, which others would take from them."""


_run = functools.cache(TrainedRun)
"""In a process that makes several analyses: what one has read of the run, the next one has."""


def _make_of(path: Path, name: str, settings: Any) -> AnalysisResult:
    return _make(name, _run(path), settings)


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
