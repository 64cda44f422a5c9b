"""What a frame may know of its neighbours."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from disentangle_lightning.errors import UserError
from disentangle_lightning.nn.segments import Segments


class FrameContext(nn.Module):
    """A depthwise convolution over a few frames on either side, within each utterance: y_t = sum_k w_k * x_(t + k).

    Frames beyond either end of an utterance count as zeros. It starts as the identity: a w of one for the frame itself.

    Args:
        dim: D.
        reach: how many frames on either side.

    Raises:
        UserError: `reach` is less than one frame.

    >>> import torch
    >>> segments = Segments.from_lengths(torch.tensor([2, 3]), total=5, max_length=3)
    >>> FrameContext(dim=4, reach=2)(torch.randn(5, 4), segments).shape
    torch.Size([5, 4])
    """

    def __init__(self, dim: int, reach: int) -> None:
        super().__init__()
        if reach < 1:
            raise UserError(f"context {reach} is out of range; give the number of frames on either side, from 1")
        self.reach = reach
        weight = torch.zeros(2 * reach + 1, dim)
        weight[reach] = 1.0
        self.weight = nn.Parameter(weight)
        """[2 reach + 1, D], from the earliest frame to the latest."""

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        """[N, D] -> [N, D]."""
        lengths = segments.lengths[segments.index]
        y = x * self.weight[self.reach]
        for offset in range(-self.reach, self.reach + 1):
            if offset:
                neighbour = segments.position + offset
                inside = (neighbour >= 0) & (neighbour < lengths)
                # Rolled, frames of other utterances stand where there is no neighbour; there the weight is zero.
                weights = inside[:, None] * self.weight[self.reach + offset]
                y = torch.addcmul(y, x.roll(-offset, 0), weights)
        return y
