"""What the framework costs beside a plain probe and beside fine-tuning the encoder, on the same data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from disentangle_lightning.analysis.cost.measuring import Measured, measure
from disentangle_lightning.analysis.progress import track
from disentangle_lightning.analysis.settings import CostSettings
from disentangle_lightning.analysis.trained_run import DoesNotApply, TrainedRun
from disentangle_lightning.atomic import write_text
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.report.analysis_result import AnalysisResult
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import number, step_name
from disentangle_lightning.settings import StageSettings
from disentangle_lightning.tasks.metrics import bootstrap_ratio

ENCODING, PLAIN, FINE_TUNING = "encoding", "plain_probe", "fine_tuning"


@dataclass(frozen=True)
class Part:
    """One training, or the encoding, multiplied out.

    Attributes:
        seconds: of each timed step, or clip.
        repeats: how often all of them are made: steps of an epoch times epochs, or clips.
        words: that product.
        parameters: how many are trained.
        megabytes, libraries: see `Measured`.
        device_megabytes: likewise.
    """

    seconds: Sequence[float]
    repeats: int
    words: str
    parameters: int = 0
    megabytes: float = 0.0
    libraries: float = 0.0
    device_megabytes: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of all of it, at the mean of those that were timed."""
        return float(np.mean(self.seconds)) * self.repeats

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of `total`, over resampled steps: it knows nothing of what else the machine did."""
        low, high = bootstrap_ratio(np.array(self.seconds), np.ones(len(self.seconds)))
        return low * self.repeats, high * self.repeats


def analyze(run: TrainedRun, settings: CostSettings, folder: Path) -> AnalysisResult:
    """See `AnalysisResult.explanation`."""
    for kind in ("stage1", "stage2") if run.tasks else ("stage1",):
        if "class_path" not in getattr(run.settings, kind).set.get("model", {}):
            raise DoesNotApply(f"the run has no settings to train {kind} with, so that it cannot be timed")
    if min(settings.steps, settings.fine_tuning_steps) < 2:
        raise DoesNotApply("fields 'steps' and 'fine_tuning_steps' must be 2 or more")
    asked = trainings(run, folder)
    measured = {}
    for name in track(list(asked), "Timing"):
        steps = settings.fine_tuning_steps if name == FINE_TUNING else settings.steps
        measured[name] = _measured(
            asked[name][0], steps, _encoder(run) if name == FINE_TUNING else None, folder / f"{name}.json"
        )
    parts = multiplied(run, {name: (measured[name], asked[name][1]) for name in asked})
    ways = {
        "framework": [name for name in parts if name not in (PLAIN, FINE_TUNING)],
        PLAIN: [ENCODING, PLAIN],
        FINE_TUNING: [FINE_TUNING],
    }
    figures = figures_of(parts, ways)
    return AnalysisResult(
        "What it costs",
        "A few steps of every training, each in a process of its own on this machine, multiplied out to the run's own "
        "epochs; beside them one linear probe on hidden states, and that probe with the encoder trained on. All read "
        "the same utterances, in the same batches; the probe and fine-tuning have the same loss.",
        {f"cost.{name}": value for name, value in figures.items()},
        [_parts_table(parts, _seconds_of_run(run)), _ways_table(figures, ways)],
        notes=[
            "Fine-tuning is multiplied by the epochs of the probe; how many it would need was not tried. It encodes "
            "its clips one by one, in fp32, and trains every block.",
            "Times are of training steps of the first epoch alone. Stage 2 and probes on latents remember frozen "
            "latents and are faster from the second epoch on, so that their products are too large; evaluation on "
            "dev and test and start-up, which the run itself also took, are left out. Other work on the machine makes "
            "steps longer, which the interval over steps does not show. Memory is the resident peak of the process.",
        ],
    )


def trainings(run: TrainedRun, folder: Path) -> dict[str, tuple[dict[str, Any], int]]:
    """{name: settings as for `fit`, and for how many epochs it is trained in the run}."""
    seed, settings = run.seeds[0], run.settings
    probed = run.probed(seed)

    def tree(kind: str, model: Mapping[str, Any], labels: Sequence[str], split: str) -> tuple[dict[str, Any], int]:
        stage: StageSettings = getattr(settings, kind)
        fields = {f"model.init_args.{name}": value for name, value in model.items()}
        fields |= {"data.train_split": split, "data.verify": False}
        made = run.training.settings(folder, seed, stage, labels, fields)
        return made, int(made["trainer"]["max_epochs"])

    stages = {"stage1": tree("stage1", run.control(seed, "stage1"), [], "train")}
    for task in run.tasks:
        model = {"task": task, "stage1": str(run.checkpoint(seed, "stage1"))}
        model |= run.control(seed, f"stage2_{task}")
        stages[f"stage2_{task}"] = tree("stage2", model, [task], "train")
    targets = {"targets": ["ctc", *run.labels]}
    latents = {
        f"probe_{name}": tree("probe", probed[name] | targets, run.labels, "probe")
        for name in probed
        if name != "hidden"
    }
    own = {"targets": ["ctc", *run.tasks], **probed["hidden"]}
    plain = tree("probe", own, run.tasks, "train")
    return stages | latents | {PLAIN: plain, FINE_TUNING: plain}


def multiplied(run: TrainedRun, measured: Mapping[str, tuple[Measured, int]]) -> dict[str, Part]:
    """Every part of the run, and the two ways that it is compared with."""
    clips = len(FeatureStore.open(run.store, verify=False))
    encoded = measured[FINE_TUNING][0].encoding
    parts = {ENCODING: Part(encoded, clips, f"{clips:,} clips x {_span(np.mean(encoded))}")}
    for name, (found, epochs) in measured.items():
        if name == "probe_textual":
            # A step of a probe on hidden states costs the same on either split.
            hidden, of_hidden = measured[PLAIN]
            parts["probe_hidden"] = _part(Measured(**asdict(hidden) | {"steps": found.steps}), of_hidden)
        parts[name] = _part(found, epochs)
    return parts


def figures_of(parts: Mapping[str, Part], ways: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """`PART.seconds`, `.parameters`, `.peak_megabytes`; the same of each way, summed (of memory, the largest); and
    `ratio.WAY.NAME`, as a multiple of the framework's."""
    figures: dict[str, float] = {}
    for name, part in parts.items():
        figures[f"{name}.seconds"] = part.total
        figures[f"{name}.seconds.ci_low"], figures[f"{name}.seconds.ci_high"] = part.interval
        if name != ENCODING:
            figures |= {f"{name}.parameters": float(part.parameters), f"{name}.peak_megabytes": part.megabytes}
            figures[f"{name}.own_megabytes"] = part.megabytes - part.libraries
        if part.device_megabytes:
            figures[f"{name}.device_megabytes"] = part.device_megabytes
    for way, names in ways.items():
        figures[f"{way}.seconds"] = sum(parts[name].total for name in names)
        figures[f"{way}.parameters"] = float(sum(parts[name].parameters for name in names))
        figures[f"{way}.peak_megabytes"] = max(parts[name].megabytes for name in names)
    for way in ways:
        for name in ("seconds", "parameters", "peak_megabytes"):
            figures[f"ratio.{way}.{name}"] = figures[f"{way}.{name}"] / figures[f"framework.{name}"]
    return figures


def _part(found: Measured, epochs: int) -> Part:
    words = f"{found.steps:,} steps x {epochs} epochs x {_span(np.mean(found.seconds))}"
    memory = (found.megabytes, found.libraries, found.device_megabytes)
    return Part(found.seconds, found.steps * epochs, words, found.parameters, *memory)


def _measured(tree: dict[str, Any], steps: int, encoder: dict[str, Any] | None, file: Path) -> Measured:
    """As an earlier run measured it, or now."""
    if not file.is_file():
        write_text(file, json.dumps(asdict(measure(tree, steps, encoder))))
    return Measured(**json.loads(file.read_text(encoding="utf-8")))


def _encoder(run: TrainedRun) -> dict[str, Any]:
    made = run.settings.encode
    return {
        "name": made.encoder,
        "revision": made.revision,
        "precision": made.precision,
        "window_seconds": made.window_seconds,
    }


def _seconds_of_run(run: TrainedRun) -> dict[str, float]:
    """What each step of the pipeline took when the run was made, where that is known."""
    file = run.path / "provenance.json"
    seconds = json.loads(file.read_text(encoding="utf-8")).get("seconds", {}) if file.is_file() else {}
    own = {name.removeprefix(f"seed{run.seeds[0]}/"): float(value) for name, value in seconds.items()}
    return own | ({ENCODING: own["encode"]} if "encode" in own else {})


_NAMES = {
    ENCODING: "encoding, once",
    PLAIN: "plain probe on hidden states",
    FINE_TUNING: "fine-tuning the encoder",
    "framework": "the framework: encoding, stages and the probes that test them",
}


def _parts_table(parts: Mapping[str, Part], of_run: Mapping[str, float]) -> Table:
    table = Table(
        "What was multiplied",
        "Repeats times the mean of the timed steps, with its 95 % interval over steps; trained parameters; and the "
        "peak memory of the process, beneath it the part that is not libraries.",
        ["part", "multiplication", "seconds", "seconds in the run itself", "trained parameters", "peak memory (MB)"],
    )
    for name, part in parts.items():
        low, high = part.interval
        memory = Cell("")
        if part.megabytes:
            device = f"\n{part.device_megabytes:,.0f} on the GPU" if part.device_megabytes else ""
            memory = Cell(f"{part.megabytes:,.0f}", f"own {part.megabytes - part.libraries:,.0f}{device}")
        row = [
            Cell(part.words),
            Cell(number(part.total, 1), f"[{number(low, 1)}, {number(high, 1)}]"),
            Cell(number(of_run.get(name), 1)),
            Cell(f"{part.parameters:,}"),
            memory,
        ]
        table.rows.append((_NAMES.get(name, step_name(name)), row))
    return table


def _ways_table(figures: Mapping[str, float], ways: Mapping[str, Sequence[str]]) -> Table:
    table = Table(
        "The framework beside a probe and beside fine-tuning",
        "Sums of the parts (of memory, the largest), and as a multiple of the framework's; all from one run of this "
        "analysis. A plain probe needs the encoding, too; fine-tuning does not.",
        ["way", "seconds", "trained parameters", "peak memory (MB)"],
    )
    for way in ways:
        row = [
            Cell(text, f"x {number(figures[f'ratio.{way}.{name}'])}")
            for name, text in (
                ("seconds", number(figures[f"{way}.seconds"], 1)),
                ("parameters", f"{figures[f'{way}.parameters']:,.0f}"),
                ("peak_megabytes", f"{figures[f'{way}.peak_megabytes']:,.0f}"),
            )
        ]
        table.rows.append((_NAMES[way], row))
    return table


def _span(seconds: float | np.floating[Any]) -> str:
    """0.0123 -> '12.3 ms', with a space at which no line breaks."""
    return f"{1000 * seconds:.1f}\N{NO-BREAK SPACE}ms" if seconds < 1 else f"{seconds:.2f}\N{NO-BREAK SPACE}s"
