"""From a prediction back through the frozen encoder to the waveform."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disentangle_lightning.analysis.attribution.explanation import log_odds
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder

Floats = NDArray[np.float64]

_AT_ONCE = 10
"""Points of the path that the encoder takes in one batch."""


@dataclass(frozen=True)
class WaveformExplanation:
    """What the samples of each of T frames said for a class.

    Attributes:
        scores: [T], in nats of log-odds.
        completeness_error: the nats by which they miss the change of the log-odds, as a share of that change.
    """

    scores: Floats
    completeness_error: float


def explain_waveform(
    stage: Stage2ConditionalVIB, encoder: FrozenSpeechEncoder, waveform: Tensor, target: int, steps: int
) -> WaveformExplanation:
    """Integrated Gradients (arXiv 1703.01365) of a class's log-odds with respect to the encoder's input.

    The input is the waveform as the encoder takes it, or where it takes one (Whisper, Wav2Vec2-BERT) its log-mel
    spectrogram; the scores of all inputs that belong to a frame are summed. The baseline is one draw of white noise as
    loud as the clip, and not silence: encoders normalise loudness away, so on the way from silence nothing happens but
    near its very beginning, where no quadrature finds it. (With the embedded encoder, the error after 100 steps was as
    large as the change to be explained from silence, and 0.00003 % of it from noise.)

    Not to be trusted where the completeness error is more than a few per cent.

    Args:
        encoder: in float32, on the CPU; with the weights that the stage was trained on.
        waveform: [samples] at 16 kHz.
        target: the place of the class.
        steps: points of the Gauss-Legendre quadrature.
    """
    from captum.attr import IntegratedGradients

    frames = encoder.frames(len(waveform))
    layers = [number - 1 for number in stage.inputs["feature_header"]["layers"]]
    noise = torch.randn(waveform.shape, generator=torch.Generator().manual_seed(0)) * waveform.std()
    inputs, baseline = (encoder.family.inputs(w[None]) for w in (waveform, noise))

    def odds(inputs: Tensor) -> Tensor:
        count = len(inputs)
        features = encoder.hidden_states(inputs, frames)[:, :, layers].flatten(0, 1)
        segments = Segments.from_lengths(torch.full((count,), frames), count * frames, frames)
        textual, acoustic = (s.latent_encoder(features, segments).mean for s in (stage.stage1, stage))
        return log_odds(stage.read(textual, acoustic, segments)[0], target)

    with torch.no_grad():
        change = float(odds(inputs) - odds(baseline))
    attributed: Tensor = IntegratedGradients(odds).attribute(
        inputs, baseline, n_steps=steps, internal_batch_size=_AT_ONCE
    )
    by_step = attributed.movedim(encoder.family.time_axis, 0).flatten(1).sum(1).double()
    frame = (torch.arange(len(by_step)) // encoder.family.steps_per_frame).clamp(max=frames - 1)
    scores = by_step.new_zeros(frames).index_add(0, frame, by_step).numpy()
    return WaveformExplanation(scores, abs(float(scores.sum()) - change) / abs(change))
