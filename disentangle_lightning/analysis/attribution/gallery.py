"""A few utterances in full: traced back to the waveform, drawn, and put where they can be listened to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from disentangle_lightning.analysis.attribution.alignment import Alignment
from disentangle_lightning.analysis.attribution.clips import Clip
from disentangle_lightning.analysis.attribution.explanation import Explanation
from disentangle_lightning.analysis.attribution.portrait import Portrait
from disentangle_lightning.analysis.attribution.similarity import mean_with_interval, spearman
from disentangle_lightning.analysis.attribution.waveform import explain_waveform
from disentangle_lightning.analysis.progress import track
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.job import load_encoder
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder


def exact_encoder(run: TrainedRun) -> FrozenSpeechEncoder:
    """The encoder that made the features, in float32 whatever it computed in then.

    Gradients in bfloat16 would be too coarse to sum up to anything.

    Raises:
        UserError: it is not to be had any more, or has other weights.
    """
    made = run.settings.encode
    encoder = load_encoder(made.encoder, made.revision, "fp32", made.window_seconds)
    if encoder.identity["fingerprint"] != run.header["encoder"]["fingerprint"]:
        raise UserError(f"encoder {made.encoder} has other weights than the one that made the features")
    return encoder


def portraits_of(
    run: TrainedRun,
    task: str,
    shown: Sequence[tuple[Clip, Explanation]],
    alignments: Mapping[str, Alignment],
    encoder: FrozenSpeechEncoder | None,
    steps: int,
) -> list[Portrait]:
    """Portraits of these utterances, by the stages of the first seed.

    Args:
        encoder: None leaves the waveform out.
        steps: of Integrated Gradients on the waveform.
    """
    stage = run.stage2(run.seeds[0], task)
    portraits = []
    for clip, explanation in track(shown, f"attribution: portraits ({task})"):
        utterance = run.utterances[clip.id]
        waveform = load_utterance(utterance)
        traced = explain_waveform(stage, encoder, waveform, explanation.target, steps) if encoder else None
        portraits.append(
            Portrait(
                id=clip.id,
                task=task,
                predicted=stage.classes[explanation.target],
                label=utterance.label(task),
                samples=waveform.double().numpy(),
                frame_rate=run.frame_rate,
                explanation=explanation,
                prosody=clip.prosody,
                alignment=alignments.get(clip.id),
                waveform=traced,
            )
        )
    return portraits


def waveform_figures(name: str, portraits: Sequence[Portrait]) -> dict[str, float]:
    """`NAME.waveform.completeness_error`, and `NAME.waveform.ig`: its rank correlation with IG of the latents.

    Means over so few utterances that their intervals are rough.
    """
    traced = [(p.waveform, p.explanation.scores["ig"]) for p in portraits if p.waveform is not None]
    errors = np.array([w.completeness_error for w, _ in traced])
    alike = np.array([spearman(w.scores, ig) for w, ig in traced])
    figures = mean_with_interval(f"{name}.waveform.completeness_error", errors)
    return figures | mean_with_interval(f"{name}.waveform.ig", alike)
