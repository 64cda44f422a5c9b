"""The corpus of noise (noise_corpus.py), as it is and encoded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from noise_corpus import FakeEncoder, write_corpus

from disentangle_lightning.features.extract import encode


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def make_manifest(tmp_path: Path) -> Callable[..., Path]:
    return partial(write_corpus, tmp_path)


@pytest.fixture(scope="session")
def encoded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    manifest = write_corpus(folder, [1600 + 640 * (i % 8) for i in range(40)])
    encode(manifest, FakeEncoder(), folder / "store", shard_megabytes=0.005, workers=1)
    return folder


@pytest.fixture
def corpus(encoded_once: Path, tmp_path: Path) -> tuple[str, str]:
    """(manifest, store): forty utterances of eight lengths, encoded in small shards; a copy to spoil at will."""
    folder = shutil.copytree(encoded_once, tmp_path / "corpus")
    return str(folder / "manifest.jsonl"), str(folder / "store")
