"""A beta that finds itself: the largest at which a stage makes hardly more errors than one without a bottleneck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor, nn

OPENING = 30.0
"""How many times smaller than the expected beta the first is, which is also the least.

A stage has to learn its task before its code is made cheap; and while it does, beta has nowhere to fall. (Ten times
smaller, a tenth of the demo ended at the same beta, but with 1,290 bits per second in place of 1,110: what was let
through in the beginning takes time to be squeezed out.)
"""

AHEAD = 0.25
"""The share of training over which the control's errors are averaged."""

SCALE = 0.01
"""How far the error has to be off for beta to move at full speed: a point."""

MEMORY = 0.04
"""The share of training over which errors are remembered: a dev set of a hundred words has a spread of over a point.

An error that is further off than SCALE counts as that far off, so that one epoch in which much went wrong, as the
first, is soon forgotten.
"""

REACH = 20.0
"""How far the logarithm of beta moves in a training that is at full speed throughout.

On the way up the speed falls from twice that in a straight line to zero, as the learning rate does: errors follow beta
within some epochs, and a loop as fast as it has to be in the beginning would swing about its end. On the way down it is
the same throughout, so that there is always time to come back into what is allowed.
"""


class DistanceControl(nn.Module):
    """Lagrange's multiplier for the least KL at which error <= allowed (GECO, arXiv 1810.00597, turned around).

    After a dev epoch with error e:  slack += (1 - exp(-share / MEMORY)) * (clamp((allowed - e) / SCALE, -1, 1) - slack)
    After a step at progress p:      log beta += (2 * (1 - p) if slack > 0 else 1) * REACH / steps * slack

    What is allowed is the control's error, at the same point of its own training, and the distance: late in training
    everybody makes fewer errors. All of its state is in buffers, which a checkpoint of the stage carries.

    Args:
        control: the dev errors of the control, ratios, evenly spaced over its training.
        distance: how much more is allowed.
        beta: about where it is expected to end; it starts at beta / OPENING, and never goes below that.
    """

    log_beta: Tensor
    slack: Tensor
    seen: Tensor

    def __init__(self, control: Sequence[float], distance: float, beta: float) -> None:
        super().__init__()
        self.control = list(control)
        self.distance = distance
        self.least = math.log(beta / OPENING)
        self.register_buffer("log_beta", torch.tensor(self.least))
        self.register_buffer("slack", torch.tensor(-1.0))
        self.register_buffer("seen", torch.tensor(0.0, dtype=torch.float64))

    @property
    def beta(self) -> Tensor:
        """The weight of the KL now, a scalar; it stays on the device."""
        return self.log_beta.exp()

    def allowed(self, progress: float) -> float:
        """The error to stay at or below when so much of training is over.

        The control's is its mean over the quarter of training that begins there, or over the last one: a single epoch
        of a small dev set is lucky or not by more than a point.

        >>> control = DistanceControl([1.0, 0.4, 0.1, 0.1, 0.06, 0.06, 0.04, 0.02], distance=0.01, beta=0.01)
        >>> [round(control.allowed(progress), 3) for progress in (0.0, 0.5, 0.75, 1.0)]
        [0.71, 0.07, 0.04, 0.04]
        """
        count = len(self.control)
        quarter = max(1, round(AHEAD * count))
        begin = min(round(progress * count), count - quarter)
        return self.distance + fmean(self.control[begin : begin + quarter])

    @torch.no_grad()
    def see(self, error: float, progress: float) -> None:
        """Take in the error of a dev epoch.

        Args:
            error: of all processes' dev utterances, a ratio.
            progress: how much of training is over.
        """
        now = max(-1.0, min(1.0, (self.allowed(progress) - error) / SCALE))
        self.slack += (now - self.slack) * (1 - math.exp(-(progress - float(self.seen)) / MEMORY))
        self.seen.fill_(progress)

    @torch.no_grad()
    def update(self, progress: float, steps: int) -> None:
        """Move beta after a step.

        Args:
            progress: how much of training is over.
            steps: of the whole training.
        """
        self.log_beta += torch.where(self.slack > 0, 2 * (1 - progress), 1.0) * REACH / steps * self.slack
        self.log_beta.clamp_(min=self.least)

    def excess(self, error: float) -> float:
        """How much above what is allowed in the end an error is, or those that are remembered, if that is more."""
        return max(0.0, error - self.allowed(1.0), -SCALE * float(self.slack))
