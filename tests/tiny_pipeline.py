"""A corpus of forty tones, an encoder of three small layers, and a pipeline over both that takes a few seconds.

Not in conftest.py: test modules import it, and every test folder has a module of that name.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

import disentangle_lightning.tasks.training  # noqa: F401  # its libraries set environment variables: before any test
from disentangle_lightning import cli

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
WORDS = ("ONE", "TWO", "THREE", "FOUR", "FIVE")
RATE = 16_000

Row = dict[str, str]


def tone(seconds: float, pitch: float = 200.0, tremolo: float = 3.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[samples] at `RATE`."""
    time = np.arange(int(RATE * seconds)) / RATE
    return 0.3 * np.sin(2 * np.pi * pitch * time) * (1 + 0.5 * np.sin(2 * np.pi * tremolo * time))


def corpus_rows(clips: int = 40) -> list[Row]:
    """What metadata.csv says: two speakers and two emotions, crossed, and two words a clip."""
    return [
        {
            "file_name": f"{i:02d}.wav",
            "transcription": f"{WORDS[i % 5]} {WORDS[i // 5 % 5]}",
            "speaker": f"s{i % 2}",
            "emotion": ("calm", "glad")[i // 2 % 2],
        }
        for i in range(clips)
    ]


def write_corpus(folder: Path, rows: Sequence[Mapping[str, str]] | None = None) -> Path:
    """An AudioFolder: a tone for every row whose file is not there yet, and metadata.csv."""
    rows = corpus_rows() if rows is None else rows
    folder.mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(rows):
        if not (folder / row["file_name"]).exists():
            pitch, tremolo = 200 + 100 * (i % 2), 3 + 5 * (i // 2 % 2)
            soundfile.write(folder / row["file_name"], tone(0.3 + 0.05 * (i % 5), pitch, tremolo), RATE)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_encoder(folder: Path, seed: int = 0, family: str = "Wav2Vec2") -> Path:
    """A random encoder (Wav2Vec2 or Hubert) of three layers of 32, at 50 frames a second."""
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        conv_dim=(16, 16, 16),
        conv_kernel=(10, 8, 8),
        conv_stride=(5, 8, 8),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        vocab_size=8,
    )
    getattr(transformers, f"{family}Model")(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def write_settings(base: Path, **changed: Any) -> Path:
    """BASE/pipeline.yaml, over BASE/corpus and BASE/encoder into BASE/run; keywords replace whole fields."""
    training = {
        "trainer": {"logger": False, "max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False},
    }
    stage = {"set": training | {"model": {"init_args": {"latent_dim": 4}}}}
    settings: dict[str, Any] = {
        "run_dir": str(base / "run"),
        "corpus": {"class_path": "AudioFolder", "init_args": {"folder": str(base / "corpus")}},
        "splits": {"fractions": {"train": 0.4, "probe": 0.2, "dev": 0.2, "test": 0.2}, "stratify": "emotion"},
        "encode": {"encoder": str(base / "encoder"), "device": "cpu"},
        "tasks": ["emotion"],
        "labels": ["speaker"],
        "stage1": {"config": str(EXPERIMENTS / "stage1" / "default.yaml")} | stage,
        "stage2": {"config": str(EXPERIMENTS / "stage2" / "default.yaml")} | stage,
        "probe": {"config": str(EXPERIMENTS / "probe" / "default.yaml"), "set": training},
    }
    file = base / "pipeline.yaml"
    file.write_text(yaml.safe_dump(settings | changed), encoding="utf-8")
    return file


def prepare(base: Path) -> Path:
    """Corpus, encoder and settings under BASE; returns the settings file."""
    write_corpus(base / "corpus")
    write_encoder(base / "encoder")
    return write_settings(base)


def command(*arguments: str | Path) -> tuple[int, str]:
    """Run a command line in this process: its exit status, and what it wrote to standard error."""
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
    return status, errors.getvalue()


def refused(*arguments: str | Path) -> str:
    """Run a command line that must end in status 2 and one sentence; returns the sentence."""
    status, errors = command(*arguments)
    lines = errors.splitlines()
    assert status == 2, errors
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], errors
    assert "Traceback" not in errors
    return lines[-1]


@functools.cache
def _finished(base: Path) -> Path:
    status, errors = command("pipeline", "--config", prepare(base))
    assert status == 0, errors
    return base / "run"


def finished_run(factory: pytest.TempPathFactory) -> Path:
    """The run directory of an uninterrupted run, made once for all tests; not to be changed."""
    return _finished(factory.getbasetemp() / "finished")
