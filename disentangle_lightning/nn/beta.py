"""How the weight of the KL grows over training."""

from __future__ import annotations

from typing import Literal

from disentangle_lightning.errors import UserError

BetaSchedule = Literal["fixed", "incremental", "warmup", "rate", "within"]
"""The first three are functions of progress: `beta_at`. "rate" is a `RateControl`, "within" a `DistanceControl`."""


def beta_at(progress: float, beta: float, schedule: BetaSchedule, start: float = 0.1, ramp: float = 0.9) -> float:
    """The weight of the KL at one moment of training.

    Args:
        progress: how much of training is over, from 0 to 1.
        beta: the weight at the end.
        schedule: "fixed": beta throughout. "incremental": from `start` to beta in a straight line over the
            first `ramp` of training, then held (arXiv 2410.03037: 0.1 to 1.0 over 90 %). "warmup": the same
            from zero.
        start: where "incremental" begins.
        ramp: the share of training that the line takes; 0 is "fixed".

    Raises:
        UserError: the schedule is no function of progress.

    >>> beta_at(0.45, beta=1.0, schedule="incremental")
    0.55
    """
    match schedule:
        case "fixed":
            return beta
        case "incremental":
            origin = start
        case "warmup":
            origin = 0.0
        case _:
            raise UserError(
                f"beta schedule '{schedule}' is no function of progress; expected fixed, incremental or warmup"
            )
    return beta if progress >= ramp else origin + (beta - origin) * progress / ramp
