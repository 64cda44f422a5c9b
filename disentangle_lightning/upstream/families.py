"""The conventions of each family of speech encoders: its input, its frame grid, and what its layers mean.

Everywhere a layer is the output of one Transformer block, l = 1..L: the embedding output (index 0 in
transformers) is left out, and the last layer is `last_hidden_state`, so after the final LayerNorm if any.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from disentangle_lightning.errors import UserError

SAMPLE_RATE = 16_000
"""Hz; every family here was trained at it."""


class Family(ABC):
    """What one family expects and returns; built from a checkpoint's config and feature extractor.

    Attributes:
        samples_per_frame: the hop between frames, in samples.
        steps_per_frame: the same in steps of the model's input.
        minimum_samples: the shortest clip that gives a frame.
        maximum_samples: the longest clip that fits the input window; None where there is no window.
    """

    model_class: ClassVar[str]
    extractor_class: ClassVar[str]
    encoder_attribute: ClassVar[str | None] = None
    """Where the model is more than its speech encoder: the attribute that holds the encoder."""
    layers_field: ClassVar[str] = "num_hidden_layers"
    overrides: ClassVar[Mapping[str, Any]] = {}
    """Config fields that leave out parts of the model behind the frame features (decoder, length adapter)."""

    time_axis: ClassVar[int] = -1
    """The axis of the model's input along which time runs."""

    samples_per_frame: int
    steps_per_frame: int
    minimum_samples: int
    maximum_samples: int | None = None

    @abstractmethod
    def __init__(self, config: Any, extractor: Any) -> None: ...

    @classmethod
    def default_extractor(cls, config: Any) -> Any:
        """The feature extractor of a checkpoint that comes without a preprocessor_config.json."""
        import transformers

        return getattr(transformers, cls.extractor_class)(**cls.extractor_defaults(config))

    @classmethod
    def extractor_defaults(cls, config: Any) -> dict[str, Any]:
        """Where a family's own default differs from that of its feature extractor's class."""
        return {}

    @abstractmethod
    def frames(self, samples: int) -> int:
        """How many frames so many samples give; 0 below `minimum_samples`."""

    @abstractmethod
    def inputs(self, waveforms: Tensor) -> Tensor:
        """[B, samples] at 16 kHz to the model's input."""

    def on_frame_grid(self, layer: Tensor, frames: int) -> Tensor:
        """One layer's output [B, T, dim] to [B, frames, dim], the frame grid of `last_hidden_state`."""
        return layer[:, :frames]

    def shorten_window(self, encoder: Any, seconds: float) -> None:
        """Cut the fixed input window of the encoder to so many seconds.

        Raises:
            UserError: the family has no window, or a shorter one.
        """
        raise UserError("window_seconds is for Whisper, the only family with a fixed input window: leave it out here")


class Waveform(Family):
    """Wav2Vec2, HuBERT, WavLM, data2vec, UniSpeech: raw samples through convolutions without padding."""

    extractor_class = "Wav2Vec2FeatureExtractor"
    overrides: ClassVar[Mapping[str, Any]] = {"add_adapter": False}

    def __init__(self, config: Any, extractor: Any) -> None:
        self.normalize: bool = extractor.do_normalize
        self.kernels, self.strides = self.convolutions(config)
        self.samples_per_frame = self.steps_per_frame = math.prod(self.strides)
        self.minimum_samples = self.shortest_clip(1)

    def convolutions(self, config: Any) -> tuple[list[int], list[int]]:
        """The kernel sizes and strides of the stack, first to last."""
        return list(config.conv_kernel), list(config.conv_stride)

    def shortest_clip(self, frames: int) -> int:
        """The fewest samples that give so many frames."""
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            frames = (frames - 1) * stride + kernel
        return frames

    def frames(self, samples: int) -> int:
        if samples < self.minimum_samples:
            return 0
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def inputs(self, waveforms: Tensor) -> Tensor:
        """Zero mean and unit variance per clip, where the checkpoint's feature extractor does so."""
        if not self.normalize:
            return waveforms
        centred = waveforms - waveforms.mean(dim=1, keepdim=True)
        return centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-7)


class Wav2Vec2(Waveform):
    """Also MMS and XLS-R, which are large Wav2Vec2."""

    model_class = "Wav2Vec2Model"


class Hubert(Waveform):
    model_class = "HubertModel"


class WavLM(Waveform):
    model_class = "WavLMModel"


class Data2VecAudio(Waveform):
    model_class = "Data2VecAudioModel"


class UniSpeech(Waveform):
    model_class = "UniSpeechModel"


class UniSpeechSat(Waveform):
    model_class = "UniSpeechSatModel"


class SEW(Waveform):
    """SEW squeezes the sequence before its Transformer and stretches it again after.

    Its last layer here is the stretched `last_hidden_state`; each frame of the other layers, at half the rate
    (1 / squeeze_factor), is repeated to lie on the same grid. Of an odd number of frames, the left-over one
    repeats the frame before it, but for the last layer, which SEW itself pads with zeros.
    """

    model_class = "SEWModel"

    def __init__(self, config: Any, extractor: Any) -> None:
        super().__init__(config, extractor)
        self.squeeze: int = config.squeeze_factor
        self.minimum_samples = self.shortest_clip(self.squeeze)

    def on_frame_grid(self, layer: Tensor, frames: int) -> Tensor:
        if layer.shape[1] == frames:
            return layer
        index = torch.arange(frames, device=layer.device) // self.squeeze
        return layer[:, index.clamp(max=layer.shape[1] - 1)]


class Moonshine(Waveform):
    """Three convolutions of fixed size, 41.7 frames a second; the samples are taken as they are."""

    model_class = "MoonshineModel"
    encoder_attribute = "encoder"
    layers_field = "encoder_num_hidden_layers"
    overrides: ClassVar[Mapping[str, Any]] = {"decoder_num_hidden_layers": 0}

    @classmethod
    def extractor_defaults(cls, config: Any) -> dict[str, Any]:
        return {"do_normalize": False}

    def convolutions(self, config: Any) -> tuple[list[int], list[int]]:
        return [127, 7, 3], [64, 3, 2]


class Whisper(Family):
    """Log-mel of a fixed window (30 s as published), the clip followed by silence.

    Only the frames that overlap the clip are kept: ceil(samples / 320). A shorter window drops the positions
    behind it, and with them most of the cost; the clip's own frames keep theirs.

    A shorter window is not the published encoder: attention sees less silence, and the shorter the clip and the
    later the layer, the more that changes. For whisper-tiny.en, 5 s against 30 s, on spoken digits (one alone,
    four or ten of one speaker joined), the mean cosine between frames was:

        clips   mean length   all layers   last layer
          150        0.43 s        0.976        0.936
           30        1.7 s         0.987        0.966
           30        4.2 s         0.992        0.981

    Single frames can differ entirely (the lowest cosine was -0.14), so features of different windows do not mix.
    """

    model_class = "WhisperModel"
    extractor_class = "WhisperFeatureExtractor"
    encoder_attribute = "encoder"
    layers_field = "encoder_layers"
    overrides: ClassVar[Mapping[str, Any]] = {"decoder_layers": 0}

    def __init__(self, config: Any, extractor: Any) -> None:
        self.extractor = extractor
        self.steps_per_frame = 2  # the second convolution halves the log-mel frames
        self.samples_per_frame = self.steps_per_frame * extractor.hop_length
        self.minimum_samples = 1
        self.maximum_samples = config.max_source_positions * self.samples_per_frame

    @classmethod
    def extractor_defaults(cls, config: Any) -> dict[str, Any]:
        return {"feature_size": config.num_mel_bins}

    def frames(self, samples: int) -> int:
        return math.ceil(samples / self.samples_per_frame)

    def inputs(self, waveforms: Tensor) -> Tensor:
        """[B, mel bins, window]; computed on the CPU by the checkpoint's own feature extractor."""
        features: Tensor = self.extractor(
            waveforms.cpu().numpy(),
            sampling_rate=SAMPLE_RATE,
            padding="max_length",
            max_length=self.maximum_samples,
            return_tensors="pt",
        ).input_features
        return features.to(waveforms.device)

    def shorten_window(self, encoder: Any, seconds: float) -> None:
        positions = round(seconds * SAMPLE_RATE / self.samples_per_frame)
        published = encoder.config.max_source_positions
        if not 1 <= positions <= published:
            longest = published * self.samples_per_frame / SAMPLE_RATE
            raise UserError(f"window_seconds is {seconds:g}, but this encoder's window can last up to {longest:g} s")
        weight = encoder.embed_positions.weight[:positions].clone()
        encoder.embed_positions = nn.Embedding(positions, weight.shape[1], _weight=weight, _freeze=True)
        encoder.config.max_source_positions = positions
        self.maximum_samples = positions * self.samples_per_frame


class Wav2Vec2Bert(Family):
    """Log-mel frames of 25 ms every 10 ms, normalised per clip and mel bin, then joined in pairs.

    A last log-mel frame without a partner is left out: the published model pads it, then masks it.
    """

    model_class = "Wav2Vec2BertModel"
    extractor_class = "SeamlessM4TFeatureExtractor"
    overrides: ClassVar[Mapping[str, Any]] = {
        "add_adapter": False,
        "use_intermediate_ffn_before_adapter": False,
    }
    mel_window: ClassVar[int] = 400
    mel_hop: ClassVar[int] = 160
    time_axis = 1
    steps_per_frame = 1

    def __init__(self, config: Any, extractor: Any) -> None:
        self.extractor = extractor
        self.samples_per_frame = self.mel_hop * extractor.stride
        self.minimum_samples = self.mel_window + self.mel_hop * (extractor.stride - 1)

    def frames(self, samples: int) -> int:
        if samples < self.minimum_samples:
            return 0
        return ((samples - self.mel_window) // self.mel_hop + 1) // int(self.extractor.stride)

    def inputs(self, waveforms: Tensor) -> Tensor:
        """[B, frames, stride * mel bins]; computed on the CPU by the checkpoint's own feature extractor."""
        features: Tensor = self.extractor(
            waveforms.cpu().numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt"
        ).input_features
        return features[:, : self.frames(waveforms.shape[1])].to(waveforms.device)


FAMILIES: dict[str, type[Family]] = {
    "wav2vec2": Wav2Vec2,
    "hubert": Hubert,
    "wavlm": WavLM,
    "data2vec-audio": Data2VecAudio,
    "unispeech": UniSpeech,
    "unispeech-sat": UniSpeechSat,
    "sew": SEW,
    "moonshine": Moonshine,
    "whisper": Whisper,
    "wav2vec2-bert": Wav2Vec2Bert,
}
"""By the `model_type` of a checkpoint's config.json."""
