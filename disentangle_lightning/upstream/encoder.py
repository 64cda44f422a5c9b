"""FrozenSpeechEncoder: waveforms in, the hidden states of every layer out."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from disentangle_lightning.errors import UserError
from disentangle_lightning.upstream.families import SAMPLE_RATE
from disentangle_lightning.upstream.loading import Checkpoint, load_checkpoint

Precision = Literal["fp32", "bf16"]

_ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""What autocast computes in bfloat16 from weights of its own."""


class FrozenSpeechEncoder(nn.Module):
    """A pretrained speech encoder that never changes, with its family's conventions applied.

    A clip's features are those that the published model gives for that clip alone: a batch holds clips of one
    length, so nothing is padded (many encoders give other features for a padded clip, even with a mask). The
    encoder stays in evaluation mode whatever `train` is called with, and no gradient reaches it.

    >>> encoder = FrozenSpeechEncoder.from_pretrained("embedded")
    >>> features = encoder(torch.randn(2, 16_000))  # two clips of one second
    >>> features.shape == (2, encoder.frames(16_000), encoder.num_layers, encoder.dim)
    True

    Attributes:
        num_layers: Transformer blocks L; layer index i holds block i + 1, the last the model's final output.
        dim: width of the hidden states.
        frame_rate: frames per second.
        minimum_samples: the shortest clip that gives a frame, in samples at 16 kHz.
        maximum_samples: the longest clip, in samples; None where the family has no input window.
        precision: what the encoder computes in; the features are float32 in both cases.
        identity: which encoder this is, in plain types: name, revision (the commit on the hub, None for a
            folder), family, fingerprint (SHA-256 over the weights), layers, dim, frame_rate, window_seconds
            (None where the family has no input window), transformers (its version).
    """

    encoder: Any

    def __init__(self, name: str, checkpoint: Checkpoint, precision: Precision = "fp32") -> None:
        import transformers

        super().__init__()
        self.encoder = checkpoint.encoder
        self.family = checkpoint.family
        self.precision = precision
        _settle_weights(self.encoder, precision)
        config = self.encoder.config
        self.num_layers: int = getattr(config, self.family.layers_field)
        self.dim: int = config.hidden_size
        self.frame_rate = SAMPLE_RATE / self.family.samples_per_frame
        self.minimum_samples = self.family.minimum_samples
        self.maximum_samples = self.family.maximum_samples
        self.identity: dict[str, str | int | float | None] = {
            "name": name,
            "revision": checkpoint.revision,
            "family": checkpoint.model_type,
            "fingerprint": checkpoint.fingerprint,
            "layers": self.num_layers,
            "dim": self.dim,
            "frame_rate": self.frame_rate,
            "window_seconds": None if self.maximum_samples is None else self.maximum_samples / SAMPLE_RATE,
            "transformers": transformers.__version__,
        }

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        revision: str | None = None,
        precision: Precision = "fp32",
        window_seconds: float | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Load an encoder.

        Args:
            name: a Hugging Face hub id, a local folder in its layout, or `embedded`: the package's own.
            revision: branch, tag or commit on the hub; None is the newest.
            precision: `bf16` computes as autocast does, on weights that are rounded once: faster where the hardware
                has it, about 1.5 % off.
            window_seconds: for Whisper, a shorter input window than the published 30 s: cheaper, and close to
                the published features only for clips that nearly fill it (figures at `families.Whisper`).
            device: where the encoder computes, and where `forward` returns its features.

        Raises:
            UserError: there is no such encoder, its family is not supported, its files are broken or missing,
                or an argument does not fit it.
        """
        if precision not in ("fp32", "bf16"):
            raise UserError(f"precision is {precision!r}; it can be 'fp32' or 'bf16'")
        checkpoint = load_checkpoint(name, revision)
        if window_seconds is not None:
            checkpoint.family.shorten_window(checkpoint.encoder, window_seconds)
        return cls(name, checkpoint, precision).to(device)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def frames(self, samples: int) -> int:
        """How many frames a clip of so many samples gives, exactly; 0 below `minimum_samples`.

        Raises:
            UserError: the clip is longer than the input window.
        """
        if self.maximum_samples is not None and samples > self.maximum_samples:
            raise UserError(
                f"a clip of {samples / SAMPLE_RATE:g} s does not fit the encoder's input window of "
                f"{self.maximum_samples / SAMPLE_RATE:g} s: cut it with start and duration in the manifest"
            )
        return self.family.frames(samples)

    @torch.no_grad()  # not inference_mode: a learned layer mixer saves the features for its backward pass
    def forward(self, waveforms: Tensor) -> Tensor:
        """Encode clips of one length; threads may do so at once.

        Args:
            waveforms: [B, samples] float32 at 16 kHz, none of it padding.

        Returns:
            [B, frames, layers, dim] float32, on the encoder's device; a view of [B, layers, frames, dim], as clips are
            stored.

        Raises:
            UserError: the clips are shorter than `minimum_samples` or longer than the input window.
        """
        samples = waveforms.shape[1]
        frames = self.frames(samples)
        if frames == 0:
            raise UserError(
                f"a clip of {samples} samples gives no frame, this encoder needs {self.minimum_samples}: "
                "leave it out of the manifest or lengthen its duration"
            )
        return self.hidden_states(self.family.inputs(waveforms.to(self.device)), frames)

    def hidden_states(self, inputs: Tensor, frames: int) -> Tensor:
        """What `forward` returns, from the model's own input; a gradient may flow back to that.

        Args:
            inputs: what `family.inputs` makes of clips of one length.
            frames: how many such a clip gives.
        """
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.encoder(inputs, output_hidden_states=True)
        # transformers puts the embedding output first; in some families its last is before the final norm.
        layers = [*output.hidden_states[1:-1], output.last_hidden_state]
        features = torch.empty(len(inputs), len(layers), frames, self.dim, device=self.device)
        for place, layer in enumerate(layers):
            features[:, place] = self.family.on_frame_grid(layer, frames)
        return features.transpose(1, 2)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a parent module that starts to train must not switch dropout on here."""
        return super().train(False)


def _settle_weights(encoder: Any, precision: Precision) -> None:
    """Do once what the frozen weights need, and not at every call: the same features, bit for bit.

    Autocast rounds the weights of linear maps and convolutions, and only those, and drops them again after each call:
    a tenth of the time of a short clip. Norm layers stay in float32. A weight that is computed from others
    (the positional convolution's, by weight norm) is computed here.
    """
    for module in encoder.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
        if precision == "bf16" and isinstance(module, _ROUNDED):
            module.to(torch.bfloat16)
