"""A run of the pipeline over planted features (tests/planted.py), as analyses see it; its own trainings are empty.

Not in conftest.py: test modules import it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from planted import ALPHABET, Planted
from tiny_pipeline import EXPERIMENTS

from disentangle_lightning.analysis.trained_run import TrainedRun

FAST = {
    "stage1": {"latent_dim": 6, "beta": 1.0e-3, "learning_rate": 0.02, "mixer_rate": 5.0, "dropout": 0.0},
    "stage2": {"latent_dim": 4, "learning_rate": 0.01},
    "probe": {"learning_rate": 0.02},
}
"""Settings with which a stage or probe learns what is planted in a few epochs."""


def planted_run(folder: Path, planted: Planted, epochs: dict[str, int], **changed: Any) -> Path:
    """Write the run directory FOLDER with the task emotion and the label speaker; keywords replace settings."""
    folder.mkdir(parents=True)
    shutil.copy(planted.manifest, folder / "manifest.jsonl")
    (folder / "features").symlink_to(planted.store)
    settings: dict[str, Any] = {
        "run_dir": str(folder),
        "alphabet": ALPHABET,
        "tasks": ["emotion"],
        "labels": ["speaker"],
    }
    for kind, arguments in FAST.items():
        trainer = {"logger": False, "max_epochs": epochs[kind], "accelerator": "cpu", "enable_progress_bar": False}
        model = {"init_args": arguments}
        data = {"max_utterances": 4}
        config = str(EXPERIMENTS / kind / "default.yaml")
        settings[kind] = {"config": config, "set": {"trainer": trainer, "model": model, "data": data}}
    settings |= changed
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    for seed in settings.get("seeds", [0]):
        for step in ["stage1", *(f"stage2_{task}" for task in settings["tasks"])]:
            (folder / f"seed{seed}" / step).mkdir(parents=True)
            (folder / f"seed{seed}" / step / "summary.json").write_text("{}")
    (folder / "provenance.json").write_text('{"finished": ""}')
    return folder


def train_stage1(run: Path) -> None:
    """Give seed 0 of such a run a Stage 1 that has learnt something."""
    trained = TrainedRun(run)
    (run / "seed0" / "stage1" / "summary.json").unlink()
    trained.fit(run / "seed0" / "stage1", 0, "stage1")
