"""One vector per utterance from its frames, by attention."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from disentangle_lightning.errors import UserError
from disentangle_lightning.nn.segments import Segments, segment_softmax, segment_sum

QueryInit = Literal["zeros", "ones"]


class AttentionPooling(nn.Module):
    """A weighted average over each utterance's frames x_t: softmax_t(query . x_t), with one learned query.

    A query of zeros gives every frame the same weight: training starts from mean pooling and goes on from
    there. The paper's query is all ones, its scores unscaled (`init="ones", scaled=False`). A sum of d values
    of unit variance has standard deviation sqrt(d), and a softmax over such scores is nearly one-hot: at
    d = 1024 it looks at about one frame of 300 from the first step, and a small learning rate cannot undo it.

    Args:
        dim: d, the size of a frame's vector.
        init: the query at the start.
        scaled: divide scores by sqrt(d), as in dot-product attention.

    Raises:
        UserError: `init` is unknown.
    """

    def __init__(self, dim: int, init: QueryInit = "zeros", scaled: bool = True) -> None:
        super().__init__()
        if init not in get_args(QueryInit):
            raise UserError(f"query init '{init}' is unknown; expected one of {', '.join(get_args(QueryInit))}")
        self.query = nn.Parameter(torch.zeros(dim) if init == "zeros" else torch.ones(dim))
        self.scale = 1 / math.sqrt(dim) if scaled else 1.0

    def forward(self, x: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
        """Pool each utterance: [N, d] -> pooled [B, d] and weights [N], summing to one over each; float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            weights = segment_softmax((x @ self.query) * self.scale, segments)
            return segment_sum(weights[:, None] * x, segments), weights
