"""The planted corpus (tests/planted.py), and the settings of a short Stage 1 on it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from planted import ALPHABET, Planted, plant


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def settings(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A settings file for `fit`: two epochs of nine steps on the CPU, logged to W&B too."""
    stage1: dict[str, Any] = {
        "model": {
            "class_path": "disentangle_lightning.tasks.stage1.Stage1VIB",
            "init_args": {"latent_dim": 4, "beta": 0.01, "learning_rate": 0.02},
        },
        "data": {
            "manifest": planted.manifest,
            "store": planted.store,
            "labels": ["emotion"],
            "max_utterances": 4,
            "alphabet": ALPHABET,
        },
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "log_every_n_steps": 1,
            "logger": {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"project": "tests"}},
        },
        "checkpoint": {"monitor": "dev/objective"},
    }
    file = tmp_path_factory.mktemp("settings") / "stage1.yaml"
    file.write_text(yaml.safe_dump(stage1))
    return str(file)
