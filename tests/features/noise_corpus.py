"""A tiny corpus of noise, and an encoder that is quick and exact.

Not in conftest.py: test modules import it, and every test folder has a module of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from disentangle_lightning.corpus.manifest import Utterance, write_manifest

SPLITS = ("train", "train", "probe", "dev", "test")


class FakeEncoder:
    """Frames of 20 ms, each projected by a fixed matrix: a deterministic function of the waveform alone."""

    num_layers = 4
    dim = 6
    frame_rate = 50.0
    minimum_samples = 400
    maximum_samples: int | None = 32_000

    def __init__(self, fingerprint: str = "aaaa", name: str = "fake", precision: str = "fp32", scale: float = 1.0):
        self.precision = precision
        self.scale = scale
        self.identity: dict[str, Any] = {
            "name": name,
            "revision": None,
            "family": "fake",
            "fingerprint": fingerprint,
            "layers": self.num_layers,
            "window_seconds": None,
            "transformers": "5",
        }
        self.matrix = torch.randn(400, self.num_layers * self.dim, generator=torch.Generator().manual_seed(0))
        self.calls = 0
        self.before_call: Callable[[int], None] = lambda call: None

    def __call__(self, waveforms: Tensor) -> Tensor:
        call = self.calls
        self.calls = call + 1  # at once: of two streams none is to find the other's number, nor to skip one
        self.before_call(call)
        # Clip by clip: a product over two of them may differ from that over one in the last bits.
        # In float64, so that rounding hides in which order a thread adds up.
        products = [waveform.double().unfold(0, 400, 320) @ self.matrix.double() for waveform in waveforms]
        frames = torch.stack(products).float() * self.scale
        return frames.reshape(*frames.shape[:2], self.num_layers, self.dim)


def write_corpus(
    folder: Path,
    samples: Sequence[int],
    change: Callable[[Utterance, int], Utterance] = lambda utterance, i: utterance,
) -> Path:
    """Write noise of these numbers of samples, and the manifest that lists it; `change` edits utterances."""
    rng = np.random.default_rng(0)
    utterances = []
    for i, count in enumerate(samples):
        audio = folder / f"clip{i:03d}.wav"
        soundfile.write(audio, rng.uniform(-0.5, 0.5, count).astype(np.float32), 16_000, subtype="FLOAT")
        utterance = Utterance(
            id=f"u{i:03d}",
            audio=audio,
            transcription=("A CAB", "IT'S, TRUE!", "dusk")[i % 3],
            speaker=f"s{i % 2}",
            split=SPLITS[i % len(SPLITS)],
            labels={"emotion": ("sad", "happy")[i // len(SPLITS) % 2]},
        )
        utterances.append(change(utterance, i))
    manifest = folder / "manifest.jsonl"
    write_manifest(manifest, utterances)
    return manifest
