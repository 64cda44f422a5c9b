"""Connectionist temporal classification (Graves et al., 2006) on packed logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from disentangle_lightning.nn.segments import Segments, pad_packed

BLANK = 0


def ctc_losses(logits: Tensor, segments: Segments, targets: Tensor, target_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The negative log-likelihood of each utterance's letters, summed over alignments.

    CTC emits at most one letter a frame and needs a blank between equal neighbours. An utterance with fewer
    frames than that has no alignment: its loss would be infinite and its gradient turn every weight into NaN.
    Such an utterance is infeasible, and so is one without letters (no transcription): its loss is 0, it gives
    no gradient, and the flag lets the caller count it and leave it out of means.

    Args:
        logits: [N, V] of any float dtype, packed, not normalised; class 0 is the blank.
        segments: which frame is whose.
        targets: [sum of target_lengths] int64, the letters of all utterances end to end, without blanks.
        target_lengths: [B] int64.

    Returns:
        losses [B] float32, in nats per utterance, and feasible [B] bool.

    Computed in float32 outside autocast: CPUs have no half-precision CTC. On a GPU, PyTorch's CTC itself
    copies the two [B] lengths to the host; nothing else here waits.
    """
    feasible = _feasible(segments, targets, target_lengths)
    with torch.autocast(logits.device.type, enabled=False):
        log_probabilities = pad_packed(F.log_softmax(logits.float(), dim=-1), segments, 0.0)
        losses = F.ctc_loss(
            log_probabilities.transpose(0, 1),
            targets,
            segments.lengths,
            target_lengths,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,  # inside the kernel: a mask after it would leave NaN in the gradient
        )
        return torch.where(feasible, losses, 0.0), feasible


def greedy_decode(logits: Tensor, segments: Segments) -> list[list[int]]:
    """The best class of every frame, repeats collapsed and blanks left out: [N, V] -> B lists of ids.

    Waits for the device, for lists live on the host.
    """
    best = logits.argmax(dim=-1)
    starts = (best != best.roll(1)) | (segments.position == 0)
    spoken = starts & (best != BLANK)
    letters = best[spoken].tolist()
    counts = torch.bincount(segments.index[spoken], minlength=len(segments)).cumsum(0).tolist()
    return [letters[start:end] for start, end in zip([0, *counts], counts, strict=False)]


def _feasible(segments: Segments, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """[B] bool: there are letters, and frames for each of them and for a blank between equal neighbours."""
    utterance = torch.repeat_interleave(target_lengths, output_size=targets.shape[0])
    repeats = (targets[1:] == targets[:-1]) & (utterance[1:] == utterance[:-1])
    needed = target_lengths.index_add(0, utterance[1:], repeats.to(target_lengths.dtype))
    return (target_lengths > 0) & (segments.lengths >= needed)
