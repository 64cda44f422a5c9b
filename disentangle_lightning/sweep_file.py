"""A W&B sweep file: which settings are tried, and the command of each run. Plain data that needs no server."""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from disentangle_lightning.errors import UserError

Parameters = dict[str, Any]
"""The settings of one run: {dotted name: value}."""

METRIC = {"name": "dev/tradeoff", "goal": "minimize"}
"""What runs are compared by; see `tasks.leakage_monitor.LeakageMonitor`."""

_SERVER = "`wandb sweep` and `wandb agent` run it, or give method grid or random"


@dataclass(frozen=True)
class SweepFile:
    """What this project runs by itself of W&B's format; the rest of it is refused, or left to W&B where said.

    Attributes:
        path: of the file.
        method: grid (every combination, the last parameter changing fastest) or random.
        command: of every run, with W&B's `${env}`, `${interpreter}`, `${program}` and `${args}` in it.
        parameters: {dotted name: W&B's description of its values}.
        program: for `${program}`.
        run_cap: at most so many runs; None means no limit.
        stops_early: whether W&B would end bad runs before their time, which happens only there.
    """

    path: Path
    method: str
    command: list[str]
    parameters: dict[str, dict[str, Any]]
    program: str | None
    run_cap: int | None
    stops_early: bool

    def runs(self, count: int | None = None) -> list[Parameters]:
        """The settings of each run, in order; of a random sweep the same in every call, whatever the count.

        Args:
            count: how many; None takes `run_cap`, and every combination of a grid that has none.

        Raises:
            UserError: a random sweep of no given length.
        """
        limit = self.run_cap if count is None else count
        if self.method == "random":
            if limit is None:
                raise UserError(f"{self.path}: a random sweep has no end; give --count, or run_cap in the file")
            return [self._drawn(i) for i in range(limit)]
        choices = [_choices(given) for given in self.parameters.values()]
        combinations = (dict(zip(self.parameters, values, strict=True)) for values in itertools.product(*choices))
        return list(itertools.islice(combinations, limit))

    def command_line(self, parameters: Parameters) -> list[str]:
        """The command of a run as `wandb agent` would make it, but with this interpreter."""
        flags = [f"--{name}={value}" for name, value in parameters.items()]
        macros = {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": [sys.executable],
            "${program}": [self.program or ""],
            "${args}": flags,
        }
        return [word for part in self.command for word in macros.get(part, [part])]

    def _drawn(self, number: int) -> Parameters:
        rng = np.random.default_rng([0, number])  # of its own, so that a longer sweep begins with the same runs
        return {name: _draw(given, rng) for name, given in self.parameters.items()}


def read_sweep(path: str | Path) -> SweepFile:
    """Read and check a sweep file.

    Raises:
        UserError: the file is missing or no YAML, or holds what only a W&B server can run.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))  # as wandb reads it: 1e-5 is text in this YAML
    except FileNotFoundError:
        raise UserError(f"sweep file {path} does not exist") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"sweep file {path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return _sweep(path, tree)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _sweep(path: Path, tree: Any) -> SweepFile:
    if not isinstance(tree, dict) or not isinstance(tree.get("parameters"), dict) or not tree["parameters"]:
        raise UserError("field 'parameters' is missing; name the settings that differ between runs")
    method, command, program = tree.get("method"), tree.get("command"), tree.get("program")
    if method not in ("grid", "random"):
        raise UserError(f"method '{method}' needs a server: {_SERVER}")
    if not isinstance(command, list) or "${args}" not in command:
        raise UserError("field 'command' is missing, or has no ${args}; experiments/sweeps/beta.yaml has one")
    command = [str(part) for part in command]
    known = ("${env}", "${interpreter}", "${args}", *(["${program}"] if program else []))
    for part in command:
        if re.search(r"\$\{", part) and part not in known:
            raise UserError(f"'{part}' in field 'command' is not understood here; {', '.join(known)} are")
    metric = tree.get("metric", METRIC)
    if metric != METRIC:
        raise UserError(f"metric is {metric}; runs are compared by dev/tradeoff, with goal minimize")
    run_cap = tree.get("run_cap")
    if run_cap is not None and (type(run_cap) is not int or run_cap < 1):
        raise UserError(f"run_cap is {run_cap}; it must be a whole number from 1")
    for name, given in tree["parameters"].items():
        _check(str(name), given, method)
    parameters = {str(name): given for name, given in tree["parameters"].items()}
    return SweepFile(path, method, command, parameters, program, run_cap, "early_terminate" in tree)


def _uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(rng.uniform(low, high))


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _whole(low: float, high: float, rng: np.random.Generator) -> int:
    return int(rng.integers(int(low), int(high), endpoint=True))


_RANGES: dict[str, Callable[[float, float, np.random.Generator], float]] = {
    "uniform": _uniform,
    "log_uniform_values": _log_uniform,
    "int_uniform": _whole,
}


def _check(name: str, given: Any, method: str) -> None:
    """Refuse the description of a parameter that cannot be drawn from here."""
    field = f"parameter '{name}'"
    if not isinstance(given, dict):
        raise UserError(f"{field} is {given}; write value, values, or distribution with min and max")
    if "parameters" in given:
        raise UserError(f"{field} is nested; write its dotted name, such as model.init_args.beta")
    distribution = _distribution(given)
    if distribution == "constant" and given.keys() <= {"distribution", "value"} and "value" in given:
        return
    if distribution == "categorical" and given.keys() <= {"distribution", "values"}:
        if isinstance(given.get("values"), list) and given["values"]:
            return
        raise UserError(f"{field} has no list of values")
    if distribution not in _RANGES or not given.keys() <= {"distribution", "min", "max"}:
        extra = sorted(given.keys() - {"distribution", "min", "max", "value", "values"})
        what = f"distribution '{distribution}'" if distribution not in _RANGES else f"field '{(extra or ['value'])[0]}'"
        raise UserError(f"{field} has {what}, which is not drawn from here; {_SERVER} with {', '.join(_RANGES)}")
    if method == "grid":
        raise UserError(f"{field} is a range, of which a grid has no end; give values, or method random")
    for end in ("min", "max"):
        value = given.get(end)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            hint = "; YAML takes 1e-5 as text, write 1.0e-5" if isinstance(value, str) else ""
            raise UserError(f"{field} has {end} '{value}', which is no number{hint}")
        if distribution == "int_uniform" and value != int(value):
            raise UserError(f"{field} has {end} {value}; distribution int_uniform takes whole numbers")
    if given["min"] > given["max"] or (distribution == "log_uniform_values" and given["min"] <= 0):
        above = " and above 0" if distribution == "log_uniform_values" else ""
        raise UserError(f"{field} has min {given['min']} and max {given['max']}; min must not be larger{above}")


def _distribution(given: dict[str, Any]) -> str:
    """As W&B infers it where it is not named."""
    if "distribution" in given:
        return str(given["distribution"])
    if "value" in given:
        return "constant"
    if "values" in given:
        return "categorical"
    return "int_uniform" if isinstance(given.get("min"), int) and isinstance(given.get("max"), int) else "uniform"


def _choices(given: dict[str, Any]) -> list[Any]:
    return [given["value"]] if "value" in given else list(given["values"])


def _draw(given: dict[str, Any], rng: np.random.Generator) -> Any:
    if "min" in given:
        return _RANGES[_distribution(given)](given["min"], given["max"], rng)
    choices = _choices(given)
    return choices[int(rng.integers(len(choices)))]
