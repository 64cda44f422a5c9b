"""A beta that finds itself: the one at which a bottleneck lets a chosen rate through."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

OPENING = 4.0
"""How many times the chosen rate is aimed at in the beginning.

A stage has to learn its task before its code is made cheap: 250 bits per second, aimed at from the first step, cost
16 % of the words of spoken digits; coming down from four times as many, 5 % (experiments/frontier).
"""

OPEN_FOR = 0.5
"""The share of training over which the aim comes down to the chosen rate."""

GAIN = 0.01
"""How far the logarithm of beta moves in a step for each unit that the logarithm of the rate is off.

The rate follows beta within some dozen steps, so a loop that takes a few hundred does not overshoot.
"""

REACH = 20.0
"""How far it can move in a whole training at least: in a short one, GAIN is raised to that."""


class RateControl(nn.Module):
    """Lagrange's multiplier for KL = target, by gradient ascent on its logarithm (as GECO, arXiv 1810.00597).

    After a step with KL r and aim a:  log beta += gain * clamp(log(r / a), -1, 1).

    Beta falls wherever less than the aim goes through, so a bottleneck cannot stay collapsed. All of its state is
    one buffer, which a checkpoint of the stage carries.

    Args:
        target: the KL to end at, in nats per frame.
        beta: where beta starts.
    """

    log_beta: Tensor

    def __init__(self, target: float, beta: float) -> None:
        super().__init__()
        self.target = target
        self.register_buffer("log_beta", torch.tensor(math.log(beta)))

    @property
    def beta(self) -> Tensor:
        """The weight of the KL now, a scalar; it stays on the device."""
        return self.log_beta.exp()

    def aim(self, progress: float) -> float:
        """The KL aimed at when so much of training is over, in nats per frame.

        >>> control = RateControl(target=2.0, beta=0.01)
        >>> control.aim(0.0), control.aim(0.25), control.aim(0.5), control.aim(1.0)
        (8.0, 5.0, 2.0, 2.0)
        """
        return self.target * (1 + (OPENING - 1) * max(0.0, 1 - progress / OPEN_FOR))

    @torch.no_grad()
    def update(self, kl: Tensor, progress: float, steps: int) -> None:
        """Move beta after a step.

        Args:
            kl: of the step's batches on all processes, in nats per frame; a scalar.
            progress: how much of training is over.
            steps: of the whole training.
        """
        off = (kl.clamp(min=1e-6) / self.aim(progress)).log().clamp(-1, 1)
        self.log_beta += max(GAIN, REACH / steps) * off.nan_to_num()
