"""A run directory as typed objects: what is not there yet is listed, what is damaged is refused."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from disentangle_lightning.errors import UserError
from disentangle_lightning.report.corpus_facts import CorpusFacts
from disentangle_lightning.summary import aggregate

_T = TypeVar("_T")
_SUFFIXES = ("std", "ci_low", "ci_high")
_STEP_DIRECTORY = re.compile(r"stage1|stage2_.+|probe_.+")


@dataclass(frozen=True)
class Measurement:
    """One figure of `summary.json`: the mean over seeds, and where known their spread and 95 % interval."""

    value: float
    std: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None


@dataclass(frozen=True)
class Transcript:
    """One test utterance: what was said, and what a CTC head read."""

    id: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class LatentMap:
    """Both latents in two dimensions, one point an utterance.

    Attributes:
        points: (x, y) by representation ('textual', 'acoustic_TASK'), in the order of `ids`.
        labels: the class of each utterance, by label name; None where it is missing.
        method: how the map was made, in words.
    """

    ids: list[str]
    points: dict[str, list[tuple[float, float]]]
    labels: dict[str, list[str | None]]
    method: str


@dataclass(frozen=True)
class Step:
    """One trained stage or set of probes.

    Attributes:
        curves: (step, value) by column of metrics.csv.
        layer_weights: {layer: weight} by probe target; a stage has one entry, under the empty name.
        taken_from: of a Stage 1 that was trained before, as on another corpus, and only tested here: its checkpoint,
            and whether it is known (`trained_on_known`) that it has heard nothing of what it is tested on.
    """

    name: str
    values: dict[str, float]
    curves: dict[str, list[tuple[float, float]]]
    layer_weights: dict[str, dict[int, float]]
    transcripts: list[Transcript]
    taken_from: dict[str, Any] | None = None


@dataclass(frozen=True)
class Seed:
    """Everything that was trained from one seed. Only finished steps are in `steps`."""

    name: str
    steps: dict[str, Step]
    latent_map: LatentMap | None

    @property
    def values(self) -> dict[str, float]:
        """The figures of every finished step."""
        return {name: value for step in self.steps.values() for name, value in step.values.items()}


@dataclass(frozen=True)
class RunDirectory:
    """A run as far as it got.

    Attributes:
        measurements: every figure by its dotted name, averaged over seeds.
        missing: what the report has to do without, one phrase each.
    """

    path: Path
    measurements: dict[str, Measurement]
    seeds: list[Seed]
    corpus: CorpusFacts | None
    provenance: dict[str, Any]
    config: str | None
    missing: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def rerun_command(self) -> str:
        """What starts the run again; finished steps are kept."""
        return f"python -m disentangle_lightning pipeline --config {self.path / 'config.yaml'}"

    @property
    def stage1_alone(self) -> bool:
        """Whether the run was asked for no Stage 2."""
        if self.tasks or self.config is None:
            return False
        return re.search(r"^tasks: \[\]$", self.config, re.MULTILINE) is not None

    @property
    def tasks(self) -> list[str]:
        """The labels for which a Stage 2 was trained."""
        return _unique(
            name.split(".")[0].removeprefix("stage2_") for name in self.measurements if name.startswith("stage2_")
        )

    @property
    def hidden(self) -> list[str]:
        """The labels that Stage 1 was told to hide; none that is known where it was trained elsewhere."""
        try:
            stage1 = yaml.safe_load(self.config or "")["stage1"]
            hidden = [] if stage1.get("checkpoint") else stage1["set"]["model"]["init_args"]["hide"]
        except (yaml.YAMLError, KeyError, TypeError):
            return []
        return [str(label) for label in hidden]

    @property
    def representations(self) -> list[str]:
        """The probed representations: hidden, textual, then one acoustic latent a task."""
        probed = {representation for representation, _ in self._probes()}
        order = ["hidden", "textual", *(f"acoustic_{task}" for task in self.tasks)]
        return [r for r in order if r in probed] + sorted(probed - {*order, "duration"})

    @property
    def targets(self) -> list[str]:
        """The labels that probes read, `ctc` (transcription) not among them."""
        return _unique(target for _, target in self._probes() if target != "ctc")

    def value(self, name: str) -> float | None:
        """A figure averaged over seeds, or None where the run has none."""
        found = self.measurements.get(name)
        return None if found is None else found.value

    def chance(self, target: str) -> float | None:
        """Test accuracy of always saying the most frequent training class of a label."""
        values = (self.value(f"probe.{r}.{target}.chance") for r in [*self.representations, "duration"])
        return next((v for v in values if v is not None), None)

    def _probes(self) -> list[tuple[str, str]]:
        names = (name.removeprefix("probe.") for name in self.measurements if name.startswith("probe."))
        pairs = (name.rpartition(".")[0].partition(".") for name in names)
        return [(representation, target) for representation, _, target in pairs if target]


def read_run(path: str | Path) -> RunDirectory:
    """Read a run directory, finished or not.

    Raises:
        UserError: there is no such folder, it is no run of the pipeline, no step of it has finished, or a
            file is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"run directory {path} does not exist; `pipeline` makes one, usually under runs/")
    folders = sorted((p for p in path.glob("seed*") if p.is_dir()), key=_natural_order)
    if not folders:
        raise UserError(
            f"{path} has no seed0 folder, so it is no run directory of the pipeline; name a folder that "
            "`pipeline` wrote, or run `pipeline` first"
        )
    seeds = [_read_seed(folder) for folder in folders]
    if not any(seed.steps for seed in seeds):
        raise UserError(
            f"{folders[0] / 'stage1' / 'summary.json'} does not exist, so no step of {path} has finished; "
            f"run `python -m disentangle_lightning pipeline --config {path / 'config.yaml'}` until Stage 1 "
            "is done"
        )
    config = path / "config.yaml"
    averaged = to_measurements(aggregate([seed.values for seed in seeds]))
    measurements = averaged | (read_optional_json(path / "summary.json", to_measurements) or {})
    run = RunDirectory(
        path=path,
        measurements=measurements,
        seeds=seeds,
        corpus=read_optional_json(path / "corpus.json", CorpusFacts.parse),
        provenance=read_optional_json(path / "provenance.json", dict) or {},
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else None,
    )
    run.missing.extend(_missing(run))
    return run


def _read_seed(folder: Path) -> Seed:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and _STEP_DIRECTORY.fullmatch(p.name))
    # stage1 < stage2_* < probe_* is the order in which they run.
    names.sort(key=lambda name: not name.startswith("stage"))
    steps = {name: _read_step(folder / name) for name in names if (folder / name / "summary.json").is_file()}
    return Seed(folder.name, steps, read_optional_json(folder / "latent_map.json", _latent_map))


def _read_step(folder: Path) -> Step:
    return Step(
        name=folder.name,
        values=read_json(folder / "summary.json", numbers),
        curves=read_curves(folder / "metrics.csv"),
        layer_weights=read_optional_json(folder / "layer_weights.json", _layer_weights) or {},
        transcripts=read_optional_json(folder / "transcripts.json", _transcripts) or [],
        taken_from=read_optional_json(folder / "taken_from.json", dict),
    )


def read_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """The columns of Lightning's metrics.csv; cells are empty where a row did not log that column."""
    curves: dict[str, list[tuple[float, float]]] = {}
    if not path.is_file():
        return curves
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            try:
                step = float(row["step"])
                for name, cell in row.items():
                    if name not in ("step", "epoch") and cell:
                        curves.setdefault(name, []).append((step, float(cell)))
            except (KeyError, TypeError, ValueError):
                raise UserError(
                    f"{path} is damaged: a row has no step or a cell is no number; delete {path.parent} and "
                    "run the same command again, which repeats only that step"
                ) from None
    return curves


def _missing(run: RunDirectory) -> list[str]:
    missing = []
    for seed in run.seeds:
        expected = ["stage1", *(f"stage2_{task}" for task in run.tasks), "probe_hidden", "probe_textual"]
        expected += [f"probe_acoustic_{task}" for task in run.tasks]
        missing += [f"{seed.name}/{name} has not finished" for name in expected if name not in seed.steps]
        for step in seed.steps.values():
            if step.name.startswith("stage") and not step.curves and step.taken_from is None:
                missing.append(f"{seed.name}/{step.name}/metrics.csv is missing: no curves")
            if step.name.startswith("stage") and not step.layer_weights:
                missing.append(f"{seed.name}/{step.name}/layer_weights.json is missing: no layer weights")
        if seed.latent_map is None and not run.stage1_alone:
            missing.append(f"{seed.name}/latent_map.json is missing: no map of the latents")
    if not run.tasks and not run.stage1_alone:
        missing.append("no Stage 2 has finished: nothing is known about z_acoustic")
    for name, absent in (
        ("summary.json", not (run.path / "summary.json").is_file()),
        ("corpus.json", run.corpus is None),
        ("provenance.json", not run.provenance),
        ("config.yaml", run.config is None),
    ):
        if absent:
            missing.append(f"{name} is missing")
    return missing


def to_measurements(data: Any) -> dict[str, Measurement]:
    """Figures by name, each with its spread and interval, which stand beside it as NAME.std, .ci_low and .ci_high."""
    values = numbers(data)
    found = {}
    for name, value in values.items():
        base, _, suffix = name.rpartition(".")
        if suffix in _SUFFIXES and base in values:
            continue
        found[name] = Measurement(value, *(values.get(f"{name}.{suffix}") for suffix in _SUFFIXES))
    return found


def numbers(data: Any) -> dict[str, float]:
    """Figures by name."""
    # JSON has no NaN of its own; writers put null in its place.
    return {str(name): math.nan if value is None else float(value) for name, value in data.items()}


def _layer_weights(data: Any) -> dict[str, dict[int, float]]:
    entries = {"": data} if isinstance(data.get("layers"), list) else data
    return {
        str(name): {int(k): float(w) for k, w in zip(entry["layers"], entry["weights"], strict=True)}
        for name, entry in entries.items()
    }


def _transcripts(data: Any) -> list[Transcript]:
    return [Transcript(str(t["id"]), str(t["reference"]), str(t["hypothesis"])) for t in data]


def _latent_map(data: Any) -> LatentMap:
    ids = [str(i) for i in data["ids"]]
    labels = {str(name): [None if v is None else str(v) for v in values] for name, values in data["labels"].items()}
    points = {
        str(name): [(float(x), float(y)) for x, y in value["points"]]
        for name, value in data.items()
        if isinstance(value, Mapping) and "points" in value
    }
    if {len(ids)} != {len(ids), *map(len, labels.values()), *map(len, points.values())}:
        raise ValueError("points, labels and ids differ in number")
    return LatentMap(ids, points, labels, str(data["method"]))


def read_optional_json(path: Path, parse: Callable[[Any], _T]) -> _T | None:
    """As `read_json`; None where there is no such file."""
    return read_json(path, parse) if path.is_file() else None


def read_json(path: Path, parse: Callable[[Any], _T]) -> _T:
    """What `parse` makes of a JSON file.

    Raises:
        UserError: it is no JSON, or not what `parse` expects.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete it and run the same command again, which repeats only the step "
            "that writes it"
        ) from None


def _natural_order(path: Path) -> tuple[int, str]:
    digits = path.name.removeprefix("seed")
    return (int(digits) if digits.isdecimal() else 0, path.name)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
