"""Packed utterances: the frames of a batch end to end, without padding; sums and softmaxes within each.

    lengths = [2, 3]
    frames     a0 a1 b0 b1 b2        N = 5, the sum of the lengths
    index       0  0  1  1  1        whose frame it is
    position    0  1  0  1  2        where it is in its utterance

Nothing here waits for the device: sizes that the host must know are handed in, never read back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Which frame of a packed batch belongs to which utterance.

    Attributes:
        lengths: [B] int64, frames of each utterance; zero is allowed.
        index: [N] int64, the utterance of each frame.
        position: [N] int64, the frame's place within its utterance, from 0.
        max_length: the longest utterance in frames, known to the host.
    """

    lengths: Tensor
    index: Tensor
    position: Tensor
    max_length: int

    @classmethod
    def from_lengths(cls, lengths: Tensor, total: int, max_length: int) -> Segments:
        """Lay utterances of these lengths end to end.

        Args:
            lengths: [B] integers, on the device where the frames are.
            total: their sum.
            max_length: their maximum, or anything longer.

        `total` and `max_length` must be true: a check here would make the host wait for the device.
        """
        lengths = lengths.long()
        index = torch.repeat_interleave(lengths, output_size=total)
        starts = lengths.cumsum(0) - lengths
        position = torch.arange(total, device=lengths.device) - starts[index]
        return cls(lengths, index, position, max_length)

    def __len__(self) -> int:
        return self.lengths.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Segments:
        """The same segments on another device."""
        return Segments(
            self.lengths.to(device, non_blocking=non_blocking),
            self.index.to(device, non_blocking=non_blocking),
            self.position.to(device, non_blocking=non_blocking),
            self.max_length,
        )


def segment_sum(x: Tensor, segments: Segments) -> Tensor:
    """The sum over each utterance's frames: [N, ...] -> [B, ...] in x's dtype; zeros for an empty one."""
    return x.new_zeros(len(segments), *x.shape[1:]).index_add(0, segments.index, x)


def segment_mean(x: Tensor, segments: Segments) -> Tensor:
    """The mean over each utterance's frames: [N, ...] -> [B, ...]; zeros for an empty utterance."""
    frames = segments.lengths.clamp(min=1).view(-1, *[1] * (x.dim() - 1))
    return segment_sum(x, segments) / frames


def segment_softmax(scores: Tensor, segments: Segments) -> Tensor:
    """The softmax of scores over each utterance's frames: [N, ...] -> [N, ...] float32, summing to one over each."""
    scores = scores.float()
    # Shifted by each utterance's own maximum, so that exp neither overflows nor leaves a sum of zero.
    # Softmax does not change with the shift, so the shift needs no gradient.
    lowest = scores.new_full((len(segments), *scores.shape[1:]), -torch.inf)
    index = segments.index.view(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
    highest = lowest.scatter_reduce(0, index, scores.detach(), "amax")
    exponentials = torch.exp(scores - highest[segments.index])
    return exponentials / segment_sum(exponentials, segments)[segments.index]


def pad_packed(x: Tensor, segments: Segments, value: float) -> Tensor:
    """Spread packed frames into a rectangle: [N, ...] -> [B, max_length, ...], `value` after each end."""
    padded = x.new_full((len(segments), segments.max_length, *x.shape[1:]), value)
    return padded.index_put((segments.index, segments.position), x)
