"""Tiny random checkpoints of every family, in the Hugging Face layout."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import VARIANTS


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small lose more to handing work between threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make (once per session) the folder of a variant of `VARIANTS`; keywords override its configuration."""
    import transformers

    made: dict[str, Path] = {}

    def make(variant: str, head: str = "", **overrides: Any) -> Path:
        key = f"{variant} {head} {overrides}"
        if key in made:
            return made[key]
        model_class, extractor_class, config, extractor = VARIANTS[variant]
        model_class = model_class.replace("Model", head) if head else model_class
        torch.manual_seed(0)
        model = getattr(transformers, model_class)
        model = model(model.config_class(**(config | overrides)))
        with torch.no_grad():
            for parameter in model.parameters():  # so that no norm is the identity and no bias is zero
                parameter.add_(0.1 * torch.randn_like(parameter))
        folder = tmp_path_factory.mktemp("checkpoint")
        model.save_pretrained(folder)
        getattr(transformers, extractor_class)(**extractor).save_pretrained(folder)
        made[key] = folder
        return folder

    return make


@pytest.fixture
def copied_checkpoint(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A Wav2Vec2 checkpoint to damage."""
    return Path(shutil.copytree(make_checkpoint("wav2vec2"), tmp_path / "checkpoint"))
