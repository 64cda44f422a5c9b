"""Eight bits a value: a scale for every frame of every layer, so that a loud layer costs a quiet one nothing."""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 127
"""Values are whole multiples of the scale, from -127 to 127."""

DEQUANTIZED = torch.float16
"""What quantised features are read as."""


def quantize(features: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to 127 steps either way of its largest magnitude.

    Args:
        features: [..., dim] float32, finite.

    Returns:
        Values [..., dim] int8, and scales [...] float32, the size of a step. A value times its scale is off by half a
        step at most.
    """
    # Never zero, and never so small that the division loses digits: a row of zeros stays zeros.
    scales = (features.abs().amax(dim=-1) / STEPS).clamp_(min=torch.finfo(torch.float32).tiny)
    return (features / scales.unsqueeze(-1)).round_().to(torch.int8), scales


def dequantize(values: Tensor, scales: Tensor, out: Tensor | None = None) -> Tensor:
    """Values [..., dim] int8 and scales [...] -> [..., dim] float16, multiplied in float32.

    Args:
        out: where to put them; None makes a new tensor.
    """
    exact = values.float().mul_(scales.unsqueeze(-1))
    return exact.to(DEQUANTIZED) if out is None else out.copy_(exact)
