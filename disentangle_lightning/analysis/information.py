"""How much either latent carries, and how much the two share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.analysis.settings import InformationSettings
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.nn.segments import segment_sum
from disentangle_lightning.report.analysis_result import AnalysisResult
from disentangle_lightning.report.tables import Cell, Table
from disentangle_lightning.report.wording import interval, number, representation_name
from disentangle_lightning.summary import aggregate
from disentangle_lightning.tasks.metrics import ACTIVE_NATS, bits_per_second, bootstrap_ratio


def analyze(run: TrainedRun, settings: InformationSettings, folder: Path) -> AnalysisResult:
    """See `AnalysisResult.explanation`."""
    figures = aggregate([rates(run.latents(seed, "test"), run.frame_rate) for seed in run.seeds])
    result = AnalysisResult(
        "Information in the latents",
        "Rate is what passes a bottleneck, in bits for each second of test speech.",
        figures,
    )
    table = Table("Rates", result.explanation, ["latent", "rate (bits/s)", "active dimensions"])
    for name in run.latents(run.seeds[0], "test").kl:
        rate, active = (result.measurements[f"information.{name}.{kind}"] for kind in ("rate", "active_dimensions"))
        row = [Cell(number(rate.value, 1), interval(rate, digits=1)), Cell(number(active.value, 0))]
        table.rows.append((representation_name(name), row))
    return AnalysisResult(result.title, result.explanation, figures, [table])


def rates(latents: SplitLatents, frame_rate: float) -> dict[str, float]:
    """`information.REP.rate` in bits per second with its interval over utterances, and `.active_dimensions`."""
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
