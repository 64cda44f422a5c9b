"""`encode`: the settings of one encoding, carried out."""

from __future__ import annotations

from pathlib import Path
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
    # A folder is remembered by its full path: the trained model must find its encoder from anywhere.
    folder = Path(settings.encoder)
    encoder = FrozenSpeechEncoder.from_pretrained(
        str(folder.resolve()) if folder.is_dir() else settings.encoder,
        revision=settings.revision,
        precision=cast(Precision, settings.precision),
        window_seconds=settings.window_seconds,
        device=_available(settings.device),
    )
    return encode(settings.manifest, encoder, settings.store, settings.dtype, settings.layers)


def _available(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # the latter from a PyTorch without CUDA
        raise UserError(f"field 'device' is '{device}', which PyTorch cannot use here; try auto") from None
    return device
