"""What the stages of one seed make of the utterances: where the words are, which frames matter, how faithfully."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from disentangle_lightning.analysis.attribution.alignment import Alignment, align
from disentangle_lightning.analysis.attribution.clips import Clip, frames_of
from disentangle_lightning.analysis.attribution.explanation import METHODS, Explanation, explain
from disentangle_lightning.analysis.attribution.faithfulness import Curves, order_of, trace, trace_random
from disentangle_lightning.analysis.attribution.findings import RANDOM
from disentangle_lightning.analysis.progress import track
from disentangle_lightning.analysis.settings import AttributionSettings
from disentangle_lightning.analysis.trained_run import TrainedRun


class Explained(NamedTuple):
    """The chosen utterances by the Stage 2 of one seed and task.

    Attributes:
        explanations: one for each utterance.
        traces: {name of `METHODS`, or `RANDOM`: one for each utterance}.
    """

    explanations: list[Explanation]
    traces: dict[str, list[Curves]]


def explain_clips(
    run: TrainedRun, seed: int, task: str, clips: Sequence[Clip], settings: AttributionSettings
) -> Explained:
    """Explain the utterances, and watch the prediction of each in the order of every attribution."""
    stage, latents = run.stage2(seed, task), run.latents(seed, "test")
    rng = np.random.default_rng(0)
    explanations = []
    traces: dict[str, list[Curves]] = {method: [] for method in [*METHODS, RANDOM]}
    for clip in track(clips, f"attribution: {task}, seed {seed}"):
        textual = latents.frames["textual"][clip.frames]
        acoustic = latents.frames[f"acoustic_{task}"][clip.frames]
        explanation = explain(stage, textual, acoustic, settings.steps)
        explanations.append(explanation)
        for method, scores in explanation.scores.items():
            traces[method].append(trace(stage, textual, acoustic, explanation.target, order_of(scores, rng)))
        traces[RANDOM].append(trace_random(stage, textual, acoustic, explanation.target, settings.random_orders, rng))
    return Explained(explanations, traces)


def align_split(run: TrainedRun, seed: int) -> dict[str, Alignment | None]:
    """{id: where its words are, or None where that is infeasible}, of all test utterances with a transcription."""
    stage, latents = run.stage1(seed), run.latents(seed, "test")
    alignments = {}
    for id, text, frames in zip(latents.ids, latents.transcriptions, frames_of(latents), strict=True):
        if text is not None:
            alignments[id] = align(stage.ctc_head(latents.frames["textual"][frames]), text, stage.tokenizer)
    return alignments
