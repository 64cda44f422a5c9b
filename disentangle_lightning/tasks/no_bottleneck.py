"""The control: the same stage without a bottleneck, and the errors that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from disentangle_lightning.errors import UserError
from disentangle_lightning.report.run_directory import read_curves

NO_BOTTLENECK: dict[str, Any] = {
    "deterministic": True,
    "schedule": "fixed",
    "rate": None,
    "distance": None,
    "control": None,
}
"""The arguments of a stage that make it its own control."""


def control_errors(run_dir: str | Path) -> list[float]:
    """The dev error of a control in each dev epoch of its training.

    Args:
        run_dir: of its `fit`, which is over.

    Raises:
        UserError: it is no run directory of a stage trained with `deterministic: true`, or the training is not over.
    """
    run_dir = Path(run_dir)
    if not (run_dir / "summary.json").is_file() or not (run_dir / "config.yaml").is_file():
        raise UserError(
            f"control {run_dir} is no run directory of a finished fit; train the same stage with deterministic: true "
            "and schedule: fixed, and name its run_dir"
        )
    config = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    if config["model"].get("init_args", {}).get("deterministic") is not True:
        raise UserError(f"control {run_dir} was trained with a bottleneck; name a run with deterministic: true")
    errors = [error for _, error in read_curves(run_dir / "metrics.csv").get("dev/error", [])]
    if not errors:
        raise UserError(f"control {run_dir} has no dev/error in metrics.csv; train it anew")
    return errors
