"""One self-contained HTML page: no script, nothing loaded from anywhere, everything escaped."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disentangle_lightning.errors import UserError
from disentangle_lightning.report import figures, tables
from disentangle_lightning.report.analysis_result import ANALYSES, read_results
from disentangle_lightning.report.findings import find
from disentangle_lightning.report.run_directory import Measurement, RunDirectory, Transcript, read_run
from disentangle_lightning.report.transcripts import MarkedTranscript, spread
from disentangle_lightning.report.verdict import verdict
from disentangle_lightning.report.wording import (
    interval,
    number,
    percent,
    representation_name,
)

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).parent / "templates"
_STAGE1_TRANSCRIPTS = 12
_PROBE_TRANSCRIPTS = 4


@dataclass(frozen=True)
class KeyFigure:
    """A figure in large type, what it is, and what one would want it to be."""

    heading: str
    text: str
    detail: str
    explanation: str


@dataclass(frozen=True)
class TranscriptTable:
    """A few test utterances as one CTC head read them."""

    heading: str
    total: int
    rows: list[MarkedTranscript]


def write_report(run_dir: str | Path) -> Path:
    """Write RUN_DIR/report.html, whole or not at all, and return its path. The same run gives the same bytes.

    Raises:
        UserError: as `read_run`, or the page cannot be written.
    """
    run = read_run(run_dir)
    return write_page(run.path / "report.html", render(run))


def write_page(target: Path, text: str) -> Path:
    """Write a page, whole or not at all, and return its path.

    Raises:
        UserError: it cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".report.", delete=False) as file:
            temporary = Path(file.name)
            file.write(text.encode("utf-8", errors="replace"))
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise UserError(f"report {target} cannot be written: {error.strerror}") from None
    return target


def template(name: str) -> jinja2.Template:
    """A template of a page, in which everything is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number)
    return environment.get_template(name)


def render(run: RunDirectory) -> str:
    """The page as HTML text."""
    findings = find(run)
    analyses = read_results(run.path)
    measurements = run.measurements | {n: m for result in analyses.values() for n, m in result.measurements.items()}
    return template("report.html.j2").render(
        run=run,
        verdict=verdict(run, findings),
        findings=findings,
        key_figures=_key_figures(run),
        cross_probe=tables.cross_probe_table(run),
        heat_map=figures.leakage_heat_map(run),
        transcription=tables.transcription_table(run),
        rate=tables.rate_table(run),
        layer_weights=figures.layer_weights(run),
        curves=figures.curves(run),
        latent_maps=figures.latent_maps(run),
        transcripts=_transcripts(run),
        analyses=analyses,
        folder_of_analyses=ANALYSES,
        provenance=_flatten({k: v for k, v in run.provenance.items() if k != "command"}),
        commands=_commands(run),
        measurements={name: measurements[name] for name in sorted(measurements)},
    )


def _key_figures(run: RunDirectory) -> list[KeyFigure]:
    found = []
    if wer := run.measurements.get("stage1.wer"):
        found.append(
            _percent_figure("Words wrong in z_textual", wer, "Word error rate (WER) of Stage 1. Lower is better.")
        )
    leaks = {t: m for t in run.targets if (m := run.measurements.get(f"probe.textual.{t}.leakage"))}
    if leaks:
        worst, m = max(leaks.items(), key=lambda item: item[1].value)
        spread_over_seeds = "" if m.std is None else f"± {number(m.std)}"
        found.append(
            KeyFigure(
                f"Largest leakage of z_textual: {worst}",
                number(m.value),
                f"{spread_over_seeds} {interval(m)}".strip(),
                "What z_textual tells that it should not: 0 is guessing, 1 is always right. Near 0 is better.",
            )
        )
    for task in run.tasks:
        name = f"probe.acoustic_{task}"
        if accuracy := run.measurements.get(f"{name}.{task}.accuracy"):
            why = f"Accuracy; guessing gives {percent(run.chance(task))}. Higher is better."
            found.append(_percent_figure(f"{task}, read from z_acoustic", accuracy, why))
        if wer := run.measurements.get(f"{name}.ctc.wer"):
            why = "Word error rate of a probe. Near 100% means no words are left in it."
            found.append(_percent_figure(f"Words wrong in z_acoustic ({task})", wer, why))
    return found


def _percent_figure(heading: str, m: Measurement, explanation: str) -> KeyFigure:
    spread_over_seeds = "" if m.std is None else f"± {number(100 * m.std, 1)}"
    detail = f"{spread_over_seeds} {interval(m, scale=100, digits=1)}".strip()
    return KeyFigure(heading, percent(m.value), detail, explanation)


def _transcripts(run: RunDirectory) -> list[TranscriptTable]:
    """The first seed's: Stage 1 in full, then a few of each CTC probe."""
    steps = run.seeds[0].steps
    wanted = ["stage1", *(f"probe_{r}" for r in run.representations)]
    found: list[tuple[str, list[Transcript]]] = [(s, steps[s].transcripts) for s in wanted if s in steps]
    return [
        TranscriptTable(
            "z_textual, by Stage 1" if step == "stage1" else representation_name(step.removeprefix("probe_")),
            len(transcripts),
            spread(transcripts, _STAGE1_TRANSCRIPTS if step == "stage1" else _PROBE_TRANSCRIPTS),
        )
        for step, transcripts in found
        if transcripts
    ]


def _commands(run: RunDirectory) -> list[tuple[str, str]]:
    made = run.provenance.get("command")
    commands = [("This run was made with", " ".join(made) if isinstance(made, list) else str(made))] if made else []
    if run.config is not None:
        commands.append(("Go on with it", run.rerun_command))
        commands.append(("Make it again, elsewhere", f"{run.rerun_command} --run_dir {run.path}_again"))
    commands.append(("Write this page again", f"python -m disentangle_lightning report {run.path}"))
    return commands


def _flatten(data: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, value)."""
    rows: list[tuple[str, str]] = []
    for name, value in data.items():
        if isinstance(value, dict):
            rows += _flatten(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", number(value) if isinstance(value, float) else str(value)))
    return rows
