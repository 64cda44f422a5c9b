"""The runs of a sweep as typed objects: those that finished, those that failed, and the best trade-offs among them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from disentangle_lightning.errors import UserError
from disentangle_lightning.report.run_directory import numbers, read_curves, read_json, read_optional_json

_TRADEOFF = "dev/tradeoff"
_MONITOR = "LeakageMonitor"
_NO_PARAMETERS = ("run_dir", "ckpt_path", "trainer.logger", "trainer.enable_progress_bar")
"""Settings in which runs may differ without being other runs."""


@dataclass(frozen=True)
class Point:
    """What a run's kept checkpoint does on one split; less is better in everything.

    Attributes:
        rate: bits per second that pass the bottleneck.
        error: word error rate of Stage 1, 1 - accuracy of Stage 2.
        leakages: of each label, from 0 (chance) to 1; below chance by accident.
        tradeoff: error + weight * mean of leakages, none of them counted below 0.
    """

    rate: float
    error: float
    leakages: dict[str, float]
    tradeoff: float

    @property
    def leakage(self) -> float:
        """The mean over labels, none of them counted below 0."""
        return _leakage(self.leakages)


@dataclass(frozen=True)
class SweepRun:
    """One run.

    Attributes:
        name: of its folder.
        settings: flat, {dotted name: value}; empty where it failed before they were written.
        dev, test: None where it has not finished, or diverged.
        is_finished: whether it came to its end.
        error: why it failed, in one line; empty where it did not.
        arguments: of a run that failed, the settings of its command line.
    """

    name: str
    settings: dict[str, Any]
    dev: Point | None
    test: Point | None
    is_finished: bool
    error: str
    arguments: str

    @property
    def state(self) -> str:
        """In a word or two."""
        if self.is_finished:
            return "finished" if self.dev else "diverged"
        return "failed" if self.error else "not finished"


@dataclass(frozen=True)
class SweepDirectory:
    """All runs of a sweep.

    Attributes:
        weight: of leakage in the trade-off.
        stage: `stage1`, or `stage2_TASK`.
    """

    path: Path
    runs: list[SweepRun]
    weight: float
    stage: str

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def points(self) -> list[tuple[SweepRun, Point]]:
        """The runs that can be compared, and what they do on dev, the best trade-off first."""
        found = [(run, run.dev) for run in self.runs if run.dev is not None]
        return sorted(found, key=lambda pair: pair[1].tradeoff)

    @property
    def chosen(self) -> SweepRun | None:
        """The run of the lowest trade-off on dev, which its test figures have no part in."""
        return self.points[0][0] if self.points else None

    @property
    def frontier(self) -> list[tuple[SweepRun, Point]]:
        """The runs than which none has both less rate and less error on dev, by rate."""
        found: list[tuple[SweepRun, Point]] = []
        for run, point in sorted(self.points, key=lambda pair: (pair[1].rate, pair[1].error)):
            if not found or point.error < found[-1][1].error:
                found.append((run, point))
        return found

    @property
    def parameters(self) -> dict[str, str]:
        """The settings in which runs differ, and a short heading for each."""
        known = [run.settings for run in self.runs if run.settings]
        names = dict.fromkeys(name for settings in known for name in settings)
        differ = [name for name in names if len({repr(settings.get(name)) for settings in known}) > 1]
        lasts = [name.rpartition(".")[2] for name in differ]
        return {
            name: last if lasts.count(last) == 1 else name.replace("init_args.", "")
            for name, last in zip(differ, lasts, strict=True)
        }


def is_sweep(path: Path) -> bool:
    """Whether a folder holds the runs of a sweep, by `sweep` or by W&B agents, rather than one run of the pipeline."""
    if not path.is_dir() or any(path.glob("seed*")):
        return False
    if (path / "sweep.json").is_file() or any(path.glob("*/failure.json")):
        return True
    return any(_MONITOR in file.read_text(encoding="utf-8", errors="replace") for file in path.glob("*/config.yaml"))


def read_sweep_directory(path: str | Path) -> SweepDirectory:
    """Read every run of a sweep, whoever started it.

    Raises:
        UserError: no run has finished with a trade-off, two of them weigh leakage differently, or a file is damaged.
    """
    path = Path(path)
    folders = sorted(p for p in path.iterdir() if any((p / f).is_file() for f in ("config.yaml", "failure.json")))
    runs = [_read_run(folder) for folder in folders]
    weights = {run.name: weight for run in runs if (weight := _weight(run.settings)) is not None}
    if len(set(weights.values())) > 1:
        (one, first), (other, second) = _first_two_that_differ(weights)
        raise UserError(
            f"{path / one} weighs leakage with {first} and {path / other} with {second}, so their trade-offs cannot be "
            "compared; move one of them to another folder"
        )
    stages = {stage for folder in folders if (stage := _stage(folder)) is not None}
    if len(stages) > 1:
        raise UserError(f"{path} holds runs of {' and '.join(sorted(stages))}; a sweep is of one of them")
    if not stages:
        failed = [run for run in runs if run.error]
        why = f"; {failed[0].name} failed with: {failed[0].error}" if failed else ""
        raise UserError(f"no run in {path} has finished{why}")
    return SweepDirectory(path, runs, next(iter(weights.values()), 1.0), stages.pop())


def _read_run(folder: Path) -> SweepRun:
    settings = _settings(folder / "config.yaml")
    failure = read_optional_json(folder / "failure.json", dict) or {}
    is_finished = (folder / "summary.json").is_file()
    dev = test = None
    if is_finished:
        weight = _weight(settings)
        if weight is None or settings.get("checkpoint.monitor") != _TRADEOFF:
            raise UserError(
                f"{folder} was trained without {_MONITOR}, or kept its best epoch by another figure than {_TRADEOFF}; "
                "experiments/sweeps/stage1_monitor.yaml has both settings"
            )
        dev, test = _dev(folder), _test(folder, weight)
    words = [str(word) for word in failure.get("arguments", [])]
    return SweepRun(
        folder.name,
        settings,
        dev,
        test,
        is_finished,
        "" if is_finished else str(failure.get("error", "")),
        " ".join(word for word in words if re.match(r"--(?!config|run_dir)[\w.]+=", word)),
    )


def _settings(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        flat = dict(_flat(tree))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError):
        raise UserError(f"{file} is damaged: it is no YAML mapping; delete {file.parent} and run it again") from None
    return {name: value for name, value in flat.items() if not name.startswith(_NO_PARAMETERS)}


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + str(name), value


def _weight(settings: dict[str, Any]) -> float | None:
    for callback in settings.get("trainer.callbacks") or []:
        if isinstance(callback, dict) and str(callback.get("class_path")).endswith(_MONITOR):
            return float(callback["init_args"]["weight"])
    return None


def _stage(folder: Path) -> str | None:
    names = read_optional_json(folder / "summary.json", numbers) or {}
    return next((name.split(".")[0] for name in names if name.startswith("stage")), None)


def _dev(folder: Path) -> Point | None:
    """At the epoch that was kept: the first of the lowest trade-off. None where no epoch has a finite one."""
    curves = read_curves(folder / "metrics.csv")
    epochs = [(value, step) for step, value in curves.get(_TRADEOFF, []) if math.isfinite(value)]
    if not epochs:
        return None
    tradeoff, step = min(epochs)
    at = {name: dict(curve)[step] for name, curve in curves.items() if step in dict(curve)}
    leakages = {name.removeprefix("dev/leakage_"): v for name, v in at.items() if name.startswith("dev/leakage_")}
    error = at["dev/wer"] if "dev/wer" in at else 1 - at["dev/accuracy"]
    return Point(at["dev/rate_bits_per_second"], error, leakages, tradeoff)


def _test(folder: Path, weight: float) -> Point:
    figures = read_json(folder / "summary.json", numbers)
    leakages = read_json(folder / "leakage.json", lambda data: numbers(data["test"]))
    stage = _stage(folder)
    error = figures["stage1.wer"] if stage == "stage1" else 1 - figures[f"{stage}.accuracy"]
    return Point(figures[f"{stage}.rate_bits_per_second"], error, leakages, error + weight * _leakage(leakages))


def _leakage(leakages: dict[str, float]) -> float:
    return sum(value if math.isnan(value) else max(0.0, value) for value in leakages.values()) / max(1, len(leakages))


def _first_two_that_differ(weights: dict[str, float]) -> list[tuple[str, float]]:
    first = next(iter(weights.items()))
    return [first, next(pair for pair in weights.items() if pair[1] != first[1])]
