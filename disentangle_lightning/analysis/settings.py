"""The settings of every analysis, as they stand in YAML: plain data that imports nothing."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class InformationSettings:
    """How much either latent carries, and how much the two share.

    Attributes:
        permutations: how often utterances are paired at random for the null distributions.
    """

    permutations: int = 200


@dataclass
class AcousticsSettings:
    """How well pitch, intensity, jitter, shimmer and duration can be read from either latent.

    Attributes:
        factors: labels of the manifest to read as well, where it has them: the voice quality of synthetic speech.
        share_of_epochs: how long a probe is trained, as a share of the epochs of the run's own.
    """

    factors: list[str] = field(default_factory=lambda: ["breath", "voicing"])
    share_of_epochs: float = 0.5


@dataclass
class LayersSettings:
    """What words and voice contribute to each task, layer by layer of the encoder.

    Attributes:
        layers: which of them, from 1; null takes all that are stored.
        share_of_epochs: how long each training is, as a share of the run's own epochs; 1 is as long.
        stage1_run: a run on another corpus whose analysis `layers` is done: each layer's Stage 1 is taken from there,
            as where the run's own came from elsewhere.
        beside: other runs whose analysis `layers` is done, such as of a fine-tuned encoder; their curves stand beside.
    """

    layers: list[int] | None = None
    share_of_epochs: float = 0.2
    stage1_run: str | None = None
    beside: list[str] = field(default_factory=list)


ANALYSES: dict[str, type] = {
    "information": InformationSettings,
    "acoustics": AcousticsSettings,
    "layers": LayersSettings,
}
"""The analyses in the order in which `analyze all` makes them. NAME is the module or package analysis/NAME, whose
function `analyze(run, settings, folder)` returns an `AnalysisResult`."""
