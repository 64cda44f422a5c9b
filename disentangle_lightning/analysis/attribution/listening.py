"""A page of its own in which utterances can be looked at and listened to; nothing on it is loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from disentangle_lightning.analysis.attribution.findings import over_words
from disentangle_lightning.analysis.attribution.portrait import Portrait
from disentangle_lightning.corpus.audio import SAMPLE_RATE
from disentangle_lightning.report.figures import Drawing
from disentangle_lightning.report.page import template, write_page
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import number, percent

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Heard:
    """One utterance on the page.

    Attributes:
        anchor: its id there.
        audio: the sound, as a `data:` URI.
        words: what each of its words contributed; None where they could not be aligned.
    """

    anchor: str
    title: str
    verdict: str
    audio: str
    drawing: Drawing
    words: Table | None


def write_listening_page(file: Path, run_name: str, portraits: Sequence[tuple[Portrait, Drawing]]) -> Path:
    """Write the page of these utterances, whole or not at all."""
    heard = [
        Heard(f"utterance{i}", p.id, p.verdict, as_data_uri(p.samples), drawing, word_table(p))
        for i, (p, drawing) in enumerate(portraits)
    ]
    return write_page(file, template("attribution.html.j2").render(name=run_name, heard=heard))


def as_data_uri(samples: Floats) -> str:
    """A waveform at 16 kHz as FLAC inside a `data:` URI: about 20 kB a second."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def word_table(portrait: Portrait) -> Table | None:
    """Rows: the words of an utterance. Columns: where they are, and how much of each attribution falls on them."""
    if portrait.alignment is None:
        return None
    table = Table(
        f"Words of {portrait.id}",
        "Where Stage 1 reads each word, and how sure it is of its letters. Attention: the share of either stream's "
        "that falls on its frames. IG: what its frames say for the class, in nats, or below zero against it. Frames "
        "between words belong to none.",
        ["word", "seconds", "letters", "attention, textual", "attention, acoustic", "IG, textual", "IG, acoustic"],
    )
    scores = portrait.explanation.scores
    sums = {
        name: over_words(scores[name], portrait.alignment) * [w.end - w.begin for w in portrait.alignment.words]
        for name in ("attention_textual", "attention_acoustic", "ig_textual", "ig_acoustic")
    }
    for i, word in enumerate(portrait.alignment.words):
        begin, end = (number(place / portrait.frame_rate) for place in (word.begin, word.end))
        cells = [Cell(f"{begin} to {end}"), Cell(percent(word.probability))]
        cells += [
            Cell(percent(values[i]) if name.startswith("attention") else number(values[i]))
            for name, values in sums.items()
        ]
        table.rows.append((word.text, cells))
    return table
