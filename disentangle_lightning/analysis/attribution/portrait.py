"""One utterance on one axis of time: waveform and words, attention, Integrated Gradients, pitch and intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from disentangle_lightning.analysis.attribution.alignment import Alignment
from disentangle_lightning.analysis.attribution.explanation import Explanation
from disentangle_lightning.analysis.attribution.prosody import Prosody
from disentangle_lightning.analysis.attribution.waveform import WaveformExplanation
from disentangle_lightning.corpus.audio import SAMPLE_RATE
from disentangle_lightning.report.figures import Drawing, render_drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

TEXTUAL, ACOUSTIC, SOUND = "#c8661a", "#0b5394", "#3a8a5c"

_COLUMNS = 900
"""Of the waveform: more than a screen shows, and far fewer than samples."""

_LETTERS_A_ROW = 80
"""As many as stand side by side over the waveform; more words take turns in several rows."""


@dataclass(frozen=True)
class Portrait:
    """Everything there is to see of one utterance.

    Attributes:
        task, predicted, label: what was asked, the class that was given, and the true one; None where unknown.
        samples: the waveform at 16 kHz.
        alignment: None where there is no transcription or it is infeasible.
        waveform: None where the encoder is not at hand.
    """

    id: str
    task: str
    predicted: str
    label: str | None
    samples: Floats
    frame_rate: float
    explanation: Explanation
    prosody: Prosody
    alignment: Alignment | None
    waveform: WaveformExplanation | None

    @property
    def verdict(self) -> str:
        """The class that was given, and whether it is right."""
        if self.label is None:
            return f"{self.task}: {self.predicted}"
        right = "which is right" if self.label == self.predicted else f"which is wrong: it is {self.label}"
        return f"{self.task}: {self.predicted}, {right}"


def draw_portrait(portrait: Portrait, prefix: str) -> Drawing:
    """The drawing of an utterance; `prefix` keeps its ids apart from those of other drawings on a page."""
    scores, rate = portrait.explanation.scores, portrait.frame_rate
    seconds = len(portrait.samples) / SAMPLE_RATE
    panels = 5 if portrait.waveform else 4

    def draw(figure: Figure) -> None:
        axes: Sequence[Axes] = figure.subplots(
            panels, 1, sharex=True, gridspec_kw={"height_ratios": [1.5, *[1] * (panels - 1)]}
        )
        _waveform(axes[0], portrait)
        streams = {"z_textual": ("textual", TEXTUAL), "z_acoustic": ("acoustic", ACOUSTIC)}
        for label, (stream, colour) in streams.items():
            _steps(axes[1], scores[f"attention_{stream}"], rate, colour, label)
            _steps(axes[2], scores[f"ig_{stream}"], rate, colour, label)
        axes[1].axhline(1 / len(scores["ig"]), color="#9a9a9a", lw=0.7, ls=":")
        most = max(scores[f"attention_{stream}"].max() for stream in ("textual", "acoustic"))
        axes[1].set(ylabel="attention", ylim=(0, 1.15 * most))
        axes[2].set(ylabel="IG (nats)")
        if portrait.waveform:
            _steps(axes[3], portrait.waveform.scores, rate, SOUND, "waveform")
            axes[3].set(ylabel="IG (nats)")
        for panel in axes[2:-1]:
            panel.axhline(0, color="#9a9a9a", lw=0.7)
        for panel in axes[1:-1]:
            panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1.05), fontsize=8.5, handlelength=1.2)
        _prosody(axes[-1], portrait.prosody, rate)
        axes[-1].set(xlabel="seconds", xlim=(0, seconds))
        for word in portrait.alignment.words if portrait.alignment else []:
            for panel in axes:
                panel.axvspan(word.begin / rate, word.end / rate, color="#f1f1ee", lw=0, zorder=0)
        figure.align_ylabels(axes)

    traced = " The fourth panel goes back through the encoder to the waveform." if portrait.waveform else ""
    caption = (
        f"{portrait.id}. {portrait.verdict}. Waveform with the words where Stage 1 reads them (shaded); the attention "
        "of either stream (dotted: the same for each frame); what each frame says for the class, or below zero against "
        f"it, by Integrated Gradients (IG).{traced} Last, pitch and intensity."
    )
    return render_drawing(prefix, (11.0, 1.35 * panels + 0.6), draw, caption)


def _waveform(axes: Axes, portrait: Portrait) -> None:
    samples = portrait.samples
    columns = np.array_split(samples, min(_COLUMNS, len(samples)))
    time = np.linspace(0, len(samples) / SAMPLE_RATE, len(columns), endpoint=False)
    low, high = [column.min() for column in columns], [column.max() for column in columns]
    axes.fill_between(time, low, high, color="#6b7680", lw=0.3, rasterized=True)
    words = portrait.alignment.words if portrait.alignment else []
    rows = 1 + sum(len(word.text) + 1 for word in words) // _LETTERS_A_ROW
    limit = 1.05 * float(np.abs(samples).max())
    axes.set(ylabel="waveform", ylim=(-limit, (1.3 + 0.3 * rows) * limit), yticks=[])
    for i, word in enumerate(words):
        middle = (word.begin + word.end) / 2 / portrait.frame_rate
        height = 1.3 + 0.3 * (rows - 1 - i % rows)
        axes.text(middle, height * limit, word.text, ha="center", va="center", fontsize=8.5)


def _steps(axes: Axes, values: Floats, rate: float, colour: str, label: str) -> None:
    axes.stairs(values, np.arange(len(values) + 1) / rate, color=colour, lw=1.3, label=label, baseline=None)


def _prosody(axes: Axes, prosody: Prosody, rate: float) -> None:
    middles = (np.arange(len(prosody.pitch)) + 0.5) / rate
    axes.plot(middles, prosody.pitch, ".", color="#222222", ms=3.5)
    axes.set(ylabel="pitch (Hz, dots)")
    loudness = axes.twinx()
    loudness.plot(middles, prosody.intensity, color="#8e4b9e", lw=1.2)
    loudness.set_ylabel("intensity (dB, line)", color="#8e4b9e")
    loudness.spines["right"].set_visible(True)
