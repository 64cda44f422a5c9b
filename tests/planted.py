"""A corpus of features in which letters and labels are planted, so small that a stage learns them in a second.

Two layers of 16 dimensions at 50 frames/s. Layer 1 says the letters (three frames each, then one of silence),
layer 2 the emotion and the speaker, in directions of their own; both under noise. `coin` is planted nowhere.

Not in conftest.py: test modules import it, and every test folder has a module of that name.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from disentangle_lightning.corpus.manifest import Utterance, audio_hash, read_manifest, write_manifest
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.layout import FORMAT
from disentangle_lightning.features.writer import StoreWriter
from disentangle_lightning.tasks.base import TaskModule

ALPHABET = "ABC"
DIM, FRAMES_PER_LETTER = 16, 4
SPLIT_SIZES = {"train": 32, "probe": 24, "dev": 8, "test": 24}


@dataclass(frozen=True)
class Planted:
    """Where the corpus lies."""

    manifest: str
    store: str

    def data(self, labels: Sequence[str] = ("emotion",), **options: Any) -> FrameFeatureDataModule:
        """Its data module, with batches of four unless told otherwise."""
        settings: dict[str, Any] = {"max_utterances": 4, "alphabet": ALPHABET} | options
        return FrameFeatureDataModule(self.manifest, self.store, list(labels), **settings)


def plant(folder: Path, fingerprint: str = "aaaa", layers: Sequence[int] = (1, 2)) -> Planted:
    """Write the manifest and its feature store."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0] * 8
    symbols, emotions, speakers = directions[:5], directions[5:7], directions[7:10]
    utterances, features = [], []
    for split, size in SPLIT_SIZES.items():
        for i in range(size):
            spoken = [*rng.integers(2, 5, 2), 1, *rng.integers(2, 5, rng.integers(2, 5))]
            emotion, speaker = i % 2, i % 3
            frames = np.zeros((len(spoken) * FRAMES_PER_LETTER, 2, DIM))
            for place, symbol in enumerate(spoken):
                start = place * FRAMES_PER_LETTER
                frames[start : start + FRAMES_PER_LETTER - 1, 0] = symbols[symbol]
                frames[start + FRAMES_PER_LETTER - 1, 0] = symbols[0]
            frames[:, 1] = emotions[emotion] + speakers[speaker]
            frames += rng.normal(size=frames.shape)
            features.append(torch.from_numpy(frames[:, [layer - 1 for layer in layers]]).half())
            utterances.append(
                Utterance(
                    id=f"{split}{i:02d}",
                    audio=folder / f"{split}{i:02d}.wav",
                    transcription="".join(("", " ", *ALPHABET)[symbol] for symbol in spoken),
                    speaker=f"s{speaker}",
                    split=split,
                    labels={"emotion": ("happy", "sad")[emotion], "coin": ("heads", "tails")[int(rng.integers(2))]},
                )
            )
    write_manifest(folder / "manifest.jsonl", utterances)
    write_store(folder / "store", folder / "manifest.jsonl", features, fingerprint, layers)
    return Planted(str(folder / "manifest.jsonl"), str(folder / "store"))


def write_store(
    store: Path, manifest: Path, features: Sequence[Tensor], fingerprint: str, layers: Sequence[int]
) -> None:
    """What `encode` would write for an encoder that makes these features [frames, layers, DIM] of the manifest."""
    utterances = read_manifest(manifest)
    header = {
        "format": FORMAT,
        "encoder": {"name": "planted", "fingerprint": fingerprint, "layers": 2, "window_seconds": None},
        "precision": "fp32",
        "layers": list(layers),
        "dtype": "float16",
        "dim": DIM,
        "frame_rate": 50.0,
        "manifest_sha256": audio_hash(utterances, manifest.parent),
        "versions": {},
    }
    with StoreWriter(store, header, shard_bytes=1_000_000) as writer:
        writer.add([(utterance.id, part) for utterance, part in zip(utterances, features, strict=True)])
        writer.finish([])


def run_fit(
    module: TaskModule, data: FrameFeatureDataModule, folder: Path, epochs: int = 10, **options: Any
) -> Trainer:
    """Train as `train` does, without its command line and on the CPU if not told otherwise; save `folder`/last.ckpt."""
    settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "gradient_clip_val": 1.0}
    settings |= {"accelerator": "cpu"}
    trainer = Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **settings | options,
    )
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return trainer


def weights_of(module: LightningModule) -> dict[str, Tensor]:
    """A copy of every weight and buffer."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def read_rows(metrics: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv."""
    with metrics.open(newline="") as lines:
        return list(csv.DictReader(lines))


class Payload:
    """What a forged checkpoint would do when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)
