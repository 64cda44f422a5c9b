"""`encode`: the settings of one encoding, carried out."""

from __future__ import annotations

from typing import cast

import torch

from disentangle_lightning.errors import UserError
from disentangle_lightning.features.extract import EncodeSummary, encode
from disentangle_lightning.settings import EncodeSettings
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder, Precision


def run_encode(settings: EncodeSettings) -> EncodeSummary:
    """Load the encoder and encode the manifest into the store; goes on where an earlier run stopped.

    Raises:
        UserError: see `FrozenSpeechEncoder.from_pretrained` and `extract.encode`.
    """
    for name in ("manifest", "store"):
        if not getattr(settings, name):
            raise UserError(f"field '{name}' is missing; give it in the settings file or as --{name}")
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device is '{device}', but PyTorch sees no GPU; use cpu or auto")
    encoder = FrozenSpeechEncoder.from_pretrained(
        settings.encoder,
        revision=settings.revision,
        precision=cast(Precision, settings.precision),
        window_seconds=settings.window_seconds,
        device=device,
    )
    return encode(settings.manifest, encoder, settings.store, settings.dtype, settings.layers)
