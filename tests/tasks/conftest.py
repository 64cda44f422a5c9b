"""The planted corpus (tests/planted.py) and stages trained on it, made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from planted import Planted, plant, run_fit

from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def replant(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Planted]:
    """The same corpus by another encoder (`fingerprint`), or with other `layers`."""
    return lambda **options: plant(tmp_path_factory.mktemp("replanted"), **options)


@pytest.fixture(scope="session")
def stage1_checkpoint(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Stage 1 that can transcribe."""
    folder = tmp_path_factory.mktemp("stage1")
    data = planted.data()
    torch.manual_seed(0)
    run_fit(Stage1VIB(data.inputs, latent_dim=6, beta=1e-3, learning_rate=0.02), data, folder, epochs=25)
    return str(folder / "last.ckpt")


@pytest.fixture(scope="session")
def stage2_checkpoint(planted: Planted, stage1_checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Stage 2 for emotion on that Stage 1; its latents have another size than Stage 1's."""
    folder = tmp_path_factory.mktemp("stage2")
    data = planted.data()
    torch.manual_seed(1)
    stage2 = Stage2ConditionalVIB(data.inputs, "emotion", stage1_checkpoint, latent_dim=4, learning_rate=0.01)
    run_fit(stage2, data, folder, epochs=8)
    return str(folder / "last.ckpt")
