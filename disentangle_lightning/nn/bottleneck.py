"""The variational information bottleneck: a noisy code per frame, and what it costs in nats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from disentangle_lightning.errors import UserError

Variance = Literal["softplus", "log_variance"]

LOG_VARIANCE_RANGE = (-15.0, 10.0)
"""Where a predicted log-variance is clamped: standard deviations from 0.0006 to 150.

A bound passes no gradient, so both lie where training does not go: at the upper one a dimension costs ten
thousand nats, at the lower one the noise is too small for the task to gain from less.
"""


@dataclass(frozen=True)
class Posterior:
    """A normal distribution with independent dimensions for each of N frames, or a point for each.

    Attributes:
        mean: [N, d] float32.
        log_variance: [N, d] float32; -inf for points.
        deterministic: points, the control without a bottleneck: nothing is drawn and nothing is paid.
    """

    mean: Tensor
    log_variance: Tensor
    deterministic: bool = False

    def sample(self) -> Tensor:
        """One draw per frame, by the reparameterisation trick: [N, d]; the mean where deterministic."""
        if self.deterministic:
            return self.mean
        return self.mean + torch.exp(0.5 * self.log_variance) * torch.randn_like(self.mean)

    def kl(self) -> Tensor:
        """KL(posterior || N(0, I)) in nats per frame and dimension, [N, d]; zeros where deterministic."""
        if self.deterministic:
            return torch.zeros_like(self.mean)
        return 0.5 * (self.mean.square() + self.log_variance.exp() - self.log_variance - 1)


class VIBBottleneck(nn.Module):
    """Linear(D, D) GELU Linear(D, D) GELU, then a Linear(D, d) each for mean and variance (arXiv 2410.03037).

    Args:
        input_dim: D.
        latent_dim: d.
        variance: what the second head predicts. "softplus": variance = softplus(head), the paper's own.
            "log_variance": its logarithm, clamped to `LOG_VARIANCE_RANGE`.
        deterministic: no noise, no KL and no variance head: the control without a bottleneck.

    Raises:
        UserError: `variance` is unknown.
    """

    def __init__(
        self,
        input_dim: int,
        latent_dim: int,
        variance: Variance = "log_variance",
        deterministic: bool = False,
    ) -> None:
        super().__init__()
        if variance not in get_args(Variance):
            raise UserError(f"variance '{variance}' is unknown; expected one of {', '.join(get_args(Variance))}")
        self.variance = variance
        self.net = nn.Sequential(
            nn.Linear(input_dim, input_dim),
            nn.GELU(),
            nn.Linear(input_dim, input_dim),
            nn.GELU(),
        )
        self.mean_head = nn.Linear(input_dim, latent_dim)
        # A head without a gradient would stop data-parallel training, hence none where it has no use.
        self.variance_head = None if deterministic else nn.Linear(input_dim, latent_dim)

    def forward(self, x: Tensor) -> Posterior:
        """The posterior of each frame, [N, D] -> [N, d]; float32 under autocast too."""
        hidden = self.net(x)
        mean = self.mean_head(hidden).float()
        if self.variance_head is None:
            return Posterior(mean, torch.full_like(mean, -torch.inf), deterministic=True)
        raw = self.variance_head(hidden).float()
        if self.variance == "softplus":
            return Posterior(mean, _log_softplus(raw))
        return Posterior(mean, raw.clamp(*LOG_VARIANCE_RANGE))

    def latent(self, posterior: Posterior) -> Tensor:
        """What is handed on, [N, d]: a sample in training, the mean in evaluation."""
        return posterior.sample() if self.training else posterior.mean


def _log_softplus(x: Tensor) -> Tensor:
    """log(softplus(x)), also where softplus(x) underflows to zero.

    Below -20 it is x, to within e^-20 / 2: far less than float32 tells apart there.
    """
    return torch.where(x < -20, x, F.softplus(x.clamp(min=-20)).log())
