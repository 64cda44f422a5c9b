"""The test utterances that are looked at, and what is known of them whatever the stages make of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from disentangle_lightning.analysis.attribution.prosody import Prosody, measure_prosody
from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.analysis.progress import track
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.errors import UserError

Floats = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class Clip:
    """A test utterance.

    Attributes:
        frames: where its frames are among those of the split.
        transcription: normalised; None where there is none.
        word_scores: one for each of its words; None where none were given.
    """

    id: str
    frames: slice
    prosody: Prosody
    transcription: str | None
    word_scores: Floats | None


def choose(run: TrainedRun, most: int, word_scores: str | None) -> list[Clip]:
    """At most so many utterances of the test split, evenly spread over it.

    Args:
        word_scores: the file of `AttributionSettings`.

    Raises:
        UserError: the file of scores is bad, or an utterance has another number of scores than of words.
    """
    latents = run.latents(run.seeds[0], "test")
    given = {} if word_scores is None else _read_scores(Path(word_scores))
    slices = frames_of(latents)
    clips = []
    for place in track(evenly(range(len(latents)), most), "attribution: pitch and intensity"):
        id, frames, text = latents.ids[place], slices[place], latents.transcriptions[place]
        scores = given.get(id)
        words = len((text or "").split())
        if scores is not None and len(scores) != words:
            raise UserError(f"{word_scores}: utterance '{id}' has {len(scores)} scores, but {words} words")
        waveform = load_utterance(run.utterances[id])
        prosody = measure_prosody(waveform, frames.stop - frames.start, run.frame_rate)
        clips.append(Clip(id, frames, prosody, text, scores))
    return clips


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly spread."""
    places = np.unique(np.linspace(0, len(items) - 1, min(len(items), most)).astype(int))
    return [items[place] for place in places.tolist()]


def frames_of(latents: SplitLatents) -> list[slice]:
    """Where the frames of each utterance are."""
    ends = latents.segments.lengths.cumsum(0).tolist()
    return [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]


def _read_scores(file: Path) -> dict[str, Floats]:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        return {str(id): np.array(scores, dtype=float).reshape(len(scores)) for id, scores in content.items()}
    except OSError as error:
        raise UserError(f"word_scores {file} cannot be read: {error.strerror}") from None
    except (AttributeError, TypeError, ValueError):
        raise UserError(f'word_scores {file} must be JSON: {{"utterance id": [a number for each word], ...}}') from None
