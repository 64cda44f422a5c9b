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
    encoder = load_encoder(settings.encoder, settings.revision, settings.precision, settings.window_seconds)
    encoder.to(_available(settings.device))
    return encode(settings.manifest, encoder, settings.store, settings.dtype, settings.layers)


def load_encoder(name: str, revision: str | None, precision: str, window_seconds: float | None) -> FrozenSpeechEncoder:
    """The encoder of these settings, on the CPU.

    Raises:
        UserError: see `FrozenSpeechEncoder.from_pretrained`.
    """
    # A folder is remembered by its full path: the trained model must find its encoder from anywhere.
    folder = Path(name)
    return FrozenSpeechEncoder.from_pretrained(
        str(folder.resolve()) if folder.is_dir() else name, revision, cast(Precision, precision), window_seconds
    )


def _available(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # the latter from a PyTorch without CUDA
        raise UserError(f"field 'device' is '{device}', which PyTorch cannot use here; try auto") from None
    return device
