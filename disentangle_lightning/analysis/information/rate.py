"""What passes each bottleneck, in bits per second."""

from __future__ import annotations

import numpy as np

from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.nn.segments import segment_sum
from disentangle_lightning.tasks.metrics import ACTIVE_NATS, bits_per_second, bootstrap_ratio


def rates(latents: SplitLatents, frame_rate: float) -> dict[str, float]:
    """`information.REP.rate` in bits per second with its interval over utterances, and `.active_dimensions`.

    The rate is KL(posterior || N(0, I)) per frame, times frames per second, over ln 2: an upper bound of what the noisy
    code says of the speech (arXiv 1612.00410). It says nothing of the posterior means without their noise.
    """
    figures: dict[str, float] = {}
    frames = latents.segments.lengths.double().numpy()
    for name, kl in latents.kl.items():
        of_utterance = segment_sum(kl.double().sum(1), latents.segments).numpy()
        low, high = bootstrap_ratio(of_utterance, frames)
        figures[f"information.{name}.rate"] = bits_per_second(float(of_utterance.sum() / frames.sum()), frame_rate)
        figures[f"information.{name}.rate.ci_low"] = bits_per_second(low, frame_rate)
        figures[f"information.{name}.rate.ci_high"] = bits_per_second(high, frame_rate)
        figures[f"information.{name}.active_dimensions"] = float(np.sum(kl.mean(0).numpy() > ACTIVE_NATS))
    return figures
