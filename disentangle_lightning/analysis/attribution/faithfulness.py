"""Whether a prediction rests on the frames that an attribution ranks first: it is watched while they are taken away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

Floats = NDArray[np.float64]
Order = NDArray[np.int64]

BINS = (0.01, 0.05, 0.1, 0.2, 0.5)
"""The shares of frames over which sufficiency and comprehensiveness are averaged, as in arXiv 1911.03429."""

SHARES = sorted({*BINS, *(i / 20 for i in range(21))})
"""The shares of frames at which the curves are drawn."""


@dataclass(frozen=True)
class Curves:
    """The probability of the predicted class while frames go and come, at each of `SHARES`.

    Attributes:
        counts: the frames that each share is, rounded up.
        deletion: without those that come first in the order.
        insertion: with nothing but those.
    """

    counts: NDArray[np.int64]
    deletion: Floats
    insertion: Floats

    @property
    def figures(self) -> dict[str, float]:
        """Areas under the curves (arXiv 1806.07421), and means over `BINS` (arXiv 1911.03429); all from -1 to 1.

        deletion: over the share of frames that are gone. The smaller, the better the order.
        insertion: over the share that is there. The larger, the better.
        comprehensiveness: p(all frames) - p(without the first). The larger, the better.
        sufficiency: p(all frames) - p(the first alone). The smaller, the better.

        They compare orders on the same utterances. By themselves they say little, for they hang on how sure the stage
        is and on how much its frames repeat each other; and a stage never learnt from pieces of utterances.
        """
        share = self.counts / self.counts[-1]
        bins = [SHARES.index(size) for size in BINS]
        whole = float(self.deletion[0])
        return {
            "deletion": float(np.trapezoid(self.deletion, share)),
            "insertion": float(np.trapezoid(self.insertion, share)),
            "comprehensiveness": whole - float(self.deletion[bins].mean()),
            "sufficiency": whole - float(self.insertion[bins].mean()),
        }


def frames_at_shares(frames: int) -> NDArray[np.int64]:
    """How many of an utterance's frames each of `SHARES` is, rounded up."""
    exact = np.round(np.array(SHARES) * frames, 6)  # or 0.55 of 100 would be 56, for 0.55 is a little more than that
    counts: NDArray[np.int64] = np.ceil(exact).astype(np.int64)
    return counts


@torch.no_grad()
def trace(stage: Stage2ConditionalVIB, textual: Tensor, acoustic: Tensor, target: int, order: Order) -> Curves:
    """Take frames out of both streams of an utterance in this order, and put them in.

    A frame that is gone is gone from the attention pooling: the weights of the others grow to sum to one. Where all
    are gone, the pooled vectors are zero.

    Args:
        stage: the frozen Stage 2.
        textual, acoustic: [T, d] each.
        target: the class to watch.
        order: [T], the places of the frames.
    """
    frames = len(order)
    counts = frames_at_shares(frames)
    rank = np.empty(frames, np.int64)
    rank[order] = np.arange(frames)
    first = rank[None] < counts[:, None]
    kept = torch.from_numpy(np.concatenate([~first, first]))
    subset, place = kept.nonzero(as_tuple=True)
    segments = Segments.from_lengths(kept.sum(1), len(subset), frames)
    logits, _, _ = stage.read(textual[place], acoustic[place], segments)
    deletion, insertion = logits.double().softmax(1)[:, target].numpy().reshape(2, -1)
    return Curves(counts, deletion, insertion)


def trace_random(
    stage: Stage2ConditionalVIB, textual: Tensor, acoustic: Tensor, target: int, orders: int, rng: np.random.Generator
) -> Curves:
    """The mean over random orders: what an attribution has to beat."""
    traces = [trace(stage, textual, acoustic, target, rng.permutation(len(textual))) for _ in range(orders)]
    deletion, insertion = (np.mean([getattr(t, name) for t in traces], axis=0) for name in ("deletion", "insertion"))
    return Curves(traces[0].counts, deletion, insertion)


def order_of(scores: Floats, rng: np.random.Generator) -> Order:
    """The places of the frames from the highest score to the lowest; equal ones in random order.

    Else a constant attribution would take frames away from left to right, which is an order of its own.
    """
    shuffled = rng.permutation(len(scores))
    order: Order = shuffled[np.argsort(-scores[shuffled], kind="stable")]
    return order
