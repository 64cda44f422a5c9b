"""The settings of every analysis, as they stand in YAML: plain data that imports nothing."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class InformationSettings:
    """How much either latent carries, and how much the two share.

    Attributes:
        permutations: how often utterances are paired at random for the null distributions.
        frames: of each utterance, evenly spaced, for what is measured frame by frame.
        utterances: at most so many of a split for what the two latents share; more are drawn from at random.
    """

    permutations: int = 200
    frames: int = 8
    utterances: int = 2000


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
class AttributionSettings:
    """Which frames a prediction rests on, by attention and Integrated Gradients, and how far either can be believed.

    Attributes:
        utterances: at most so many of the test split are explained, evenly spread over it.
        shown: so many of those are drawn, can be listened to, and are traced back to the waveform.
        steps: points on the path of Integrated Gradients to the latents.
        waveform_steps: the same to the waveform, each of them once through the speech encoder and back.
        random_orders: how many orders the deletion and insertion curves of random order are the mean of.
        word_scores: a JSON file {utterance id: [a score for each word]} that attributions are compared with, such as
            how much each word tells of an emotion; null for none.
    """

    utterances: int = 200
    shown: int = 3
    steps: int = 50
    waveform_steps: int = 50
    random_orders: int = 10
    word_scores: str | None = None


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
    share_of_epochs: float = 0.15
    stage1_run: str | None = None
    beside: list[str] = field(default_factory=list)


@dataclass
class MixersSettings:
    """What learning the layer weights is worth, and whether they can be trusted.

    Attributes:
        share_of_epochs: how long each training is, as a share of the run's own epochs; 1 is as long.
    """

    share_of_epochs: float = 0.07


@dataclass
class AblationsSettings:
    """The protocol beside variants that lack or change a part of it.

    Attributes:
        variants: which of them; null takes all that the run's labels allow. See `analysis.ablations.variants`.
        other: a label beside the first task, for one Stage 2 of both and for a third stage; null takes the last label.
        share_of_epochs: how long each training is, as a share of the run's own epochs; 1 is as long.
        latent_dim: of the variant with small latents.
        beta_factor: how many times dearer both bottlenecks are in the variant with a high beta (or, where the run
            asks for a rate, so many times lower a rate).
    """

    variants: list[str] | None = None
    other: str | None = None
    share_of_epochs: float = 0.1
    latent_dim: int = 8
    beta_factor: float = 10.0


@dataclass
class ErasureSettings:
    """Labels erased from the hidden states in closed form (LEACE), as a baseline of z_textual.

    Attributes:
        share_of_epochs: how long the probes that read words are trained, as a share of the epochs of the run's own.
    """

    share_of_epochs: float = 0.3


@dataclass
class PrivacySettings:
    """What attackers, retrained on the latents, find out about a speaker; verification with equal error rates.

    Attributes:
        trials: the most pairs of one speaker, and of two, that verification is asked about.
    """

    trials: int = 20_000


@dataclass
class TransferSettings:
    """What the trained stages make of noise, of rooms, and of other corpora, languages and tasks.

    Attributes:
        utterances: how many of the run's test split, and of its probe split, are spoilt and encoded anew.
        noise: white, and babble of other utterances.
        snr: signal-to-noise ratios of the noise, in dB.
        rt60: reverberation times of the rooms, in seconds.
        others: finished runs with the same encoder, on whose speech and labels the stages are tested, too.
    """

    utterances: int = 100
    noise: list[str] = field(default_factory=lambda: ["white", "babble"])
    snr: list[float] = field(default_factory=lambda: [20.0, 10.0, 0.0])
    rt60: list[float] = field(default_factory=lambda: [0.3, 0.9])
    others: list[str] = field(default_factory=list)


@dataclass
class CostSettings:
    """What both stages cost beside a plain probe and beside training the encoder on.

    Attributes:
        steps: how many steps of each stage and probe are timed.
        fine_tuning_steps: how many steps of fine-tuning; they take the longest.
    """

    steps: int = 20
    fine_tuning_steps: int = 5


ANALYSES: dict[str, type] = {
    "information": InformationSettings,
    "acoustics": AcousticsSettings,
    "attribution": AttributionSettings,
    "layers": LayersSettings,
    "mixers": MixersSettings,
    "ablations": AblationsSettings,
    "erasure": ErasureSettings,
    "privacy": PrivacySettings,
    "transfer": TransferSettings,
    "cost": CostSettings,
}
"""The analyses in the order in which `analyze all` makes them. NAME is the module or package analysis/NAME, whose
function `analyze(run, settings, folder)` returns an `AnalysisResult`."""
