"""How much each frame of an utterance mattered to the class that Stage 2 gave it: attention, Integrated Gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

Floats = NDArray[np.float64]

METHODS = {
    "attention_textual": "attention over z_textual",
    "attention_acoustic": "attention over z_acoustic",
    "ig_textual": "IG of z_textual",
    "ig_acoustic": "IG of z_acoustic",
    "ig": "IG of both",
}
"""Every attribution of frames, and what a reader calls it."""


@dataclass(frozen=True)
class Explanation:
    """Why one utterance of T frames was given its class.

    Attributes:
        target: the place of the class that was predicted.
        log_odds: of that class, in nats.
        from_nothing: the log-odds of that class where no frame says anything, in nats.
        scores: {name of `METHODS`: [T]}. Either attention sums to one over the frames. Integrated Gradients are in
            nats of log-odds, signed: what the frame said for the class, or below zero against it.
    """

    target: int
    log_odds: float
    from_nothing: float
    scores: dict[str, Floats]

    @property
    def completeness_error(self) -> float:
        """By how many nats the Integrated Gradients of both streams miss the log-odds that they are to explain."""
        return abs(float(self.scores["ig"].sum()) - (self.log_odds - self.from_nothing))


def explain(stage: Stage2ConditionalVIB, textual: Tensor, acoustic: Tensor, steps: int) -> Explanation:
    """Attention and Integrated Gradients of each frame for the predicted class.

    Integrated Gradients (arXiv 1703.01365) of the log-odds F with respect to the latents z:

        IG_t = sum_i (z_ti - z0_ti) * integral over a in [0, 1] of dF(z0 + a (z - z0)) / dz_ti

    summed over the dimensions i of a frame, never over frames; both streams go along the path together, so that all
    their frames sum to F(z) - F(z0) (completeness). The baseline z0 is zero, the mean of the prior that the bottleneck
    is measured by: a frame that says nothing. Log-odds, unlike a probability, do not level off where a stage is sure,
    and unlike a logit do not move with what all classes share.

    Not to be trusted where the completeness error is more than a few per cent; and a frame's score is that of its
    latent, into which the encoder may have drawn what was said elsewhere in the clip.

    Args:
        stage: the frozen Stage 2.
        textual, acoustic: [T, d] each, posterior means of one utterance.
        steps: points of the Gauss-Legendre quadrature.
    """
    from captum.attr import IntegratedGradients

    with torch.no_grad():
        logits, textual_attention, acoustic_attention = stage.read(textual, acoustic, _copies(1, len(textual)))
        nothing, _, _ = stage.read(torch.zeros_like(textual), torch.zeros_like(acoustic), _copies(1, len(textual)))
    target = int(logits[0].argmax())

    def odds(textual: Tensor, acoustic: Tensor) -> Tensor:
        copies = _copies(*textual.shape[:2])
        return log_odds(stage.read(textual.flatten(0, 1), acoustic.flatten(0, 1), copies)[0], target)

    of_textual, of_acoustic = (
        part[0].sum(1).double().numpy()
        for part in IntegratedGradients(odds).attribute((textual[None], acoustic[None]), n_steps=steps)
    )
    scores = {
        "attention_textual": textual_attention.double().numpy(),
        "attention_acoustic": acoustic_attention.double().numpy(),
        "ig_textual": of_textual,
        "ig_acoustic": of_acoustic,
        "ig": of_textual + of_acoustic,
    }
    return Explanation(target, float(log_odds(logits, target)), float(log_odds(nothing, target)), scores)


def log_odds(logits: Tensor, target: int) -> Tensor:
    """log p / (1 - p) of one class from logits [B, classes], in nats: [B]."""
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    return logits[:, target] - others.logsumexp(1)


def _copies(count: int, frames: int) -> Segments:
    """Of so many utterances with the same number of frames."""
    return Segments.from_lengths(torch.full((count,), frames), count * frames, frames)
