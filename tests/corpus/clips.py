"""Sound files for the miniatures of published corpora."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def write_clip(path: Path, seconds: float = 0.1, rate: int = 16_000, channels: int = 1) -> Path:
    """A tone in the format that the file's name says; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.stack([tone.astype(np.float32)] * channels, axis=1), rate)
    return path


def write_clips(folder: Path, *names: str, rate: int = 16_000) -> None:
    """A hundredth of a second of tone under each name."""
    for name in names:
        write_clip(folder / name, 0.01, rate)
