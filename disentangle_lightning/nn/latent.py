"""From the hidden states of a frozen encoder to a latent: the core that both stages share."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from disentangle_lightning.nn.bottleneck import Posterior, Variance, VIBBottleneck
from disentangle_lightning.nn.context import FrameContext
from disentangle_lightning.nn.dropout import Dropout
from disentangle_lightning.nn.layer_mixer import LayerMixer, Mixing
from disentangle_lightning.nn.segments import Segments


class LatentEncoder(nn.Module):
    """A `LayerMixer`, dropout, a `FrameContext` where one is asked for, then a `VIBBottleneck`.

    Args:
        num_layers: L, how many layers the features hold.
        input_dim: D, the size of a hidden state.
        latent_dim: d.
        mixer, layer: how layers are averaged, see `LayerMixer`.
        variance, deterministic: see `VIBBottleneck`.
        dropout: the share of the averaged hidden state's dimensions that training leaves out, frame by frame.
        context: how many frames on either side a latent may depend on; 0, as in arXiv 2410.03037, is the frame alone.

    >>> import torch
    >>> encoder = LatentEncoder(num_layers=12, input_dim=768, latent_dim=128)
    >>> posterior = encoder(torch.randn(50, 12, 768))
    >>> encoder.latent(posterior).shape, posterior.kl().shape
    (torch.Size([50, 128]), torch.Size([50, 128]))
    """

    def __init__(
        self,
        num_layers: int,
        input_dim: int,
        latent_dim: int,
        mixer: Mixing = "learned",
        layer: int | None = None,
        variance: Variance = "log_variance",
        deterministic: bool = False,
        dropout: float = 0.0,
        context: int = 0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "num_layers": num_layers,
            "input_dim": input_dim,
            "latent_dim": latent_dim,
            "mixer": mixer,
            "layer": layer,
            "variance": variance,
            "deterministic": deterministic,
            "dropout": dropout,
            "context": context,
        }
        """Plain types only: `LatentEncoder(**config)` and the state dict make the same encoder again."""
        self.mixer = LayerMixer(num_layers, mixer, layer)
        self.dropout = Dropout(dropout)
        self.context = FrameContext(input_dim, context) if context else None
        self.bottleneck = VIBBottleneck(input_dim, latent_dim, variance, deterministic)

    def forward(self, features: Tensor, segments: Segments | None = None) -> Posterior:
        """The posterior of each frame: [N, L, D] of any float dtype -> N distributions over d dimensions.

        Args:
            features: the frames.
            segments: whose frame each one is; only an encoder with context needs to know.
        """
        x = self.dropout(self.mixer(features))
        if self.context is not None:
            if segments is None:
                raise ValueError("an encoder with context needs segments, or frames would look into other utterances")
            x = self.context(x, segments)
        posterior: Posterior = self.bottleneck(x)
        return posterior

    def latent(self, posterior: Posterior) -> Tensor:
        """What is handed on, [N, d]: a sample in training, the mean in evaluation."""
        return self.bottleneck.latent(posterior)
