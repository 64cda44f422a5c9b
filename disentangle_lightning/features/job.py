"""`encode`: the settings of one encoding, carried out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch

from disentangle_lightning.errors import UserError
from disentangle_lightning.features.extract import EncodeSummary, corpus_and_header, encode
from disentangle_lightning.features.merge import merge
from disentangle_lightning.features.parts import Part
from disentangle_lightning.memory import keep_freed_memory
from disentangle_lightning.settings import EncodeSettings
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder, Precision


def run_encode(settings: EncodeSettings) -> EncodeSummary:
    """Load the encoder and encode the manifest (or a part) into the store; goes on where an earlier run stopped.

    Raises:
        UserError: see `FrozenSpeechEncoder.from_pretrained`, `extract.encode` and `merge.merge`.
    """
    for name in ("manifest", "store"):
        if not getattr(settings, name):
            raise UserError(f"field '{name}' is missing; give it in the settings file or as --{name}")
    part = None if settings.shard in (None, "merge") else Part.parse(str(settings.shard))
    keep_freed_memory()
    encoder = load_encoder(settings.encoder, settings.revision, settings.precision, settings.window_seconds)
    what = (settings.manifest, encoder, settings.store, settings.dtype, settings.layers)
    if settings.shard == "merge":
        return merge(*what)
    device = _available(settings.device)
    encoder.to(device)
    if device == "cpu":
        return encode(*what, part)
    # While one batch is copied to memory, the next is computed.
    return encode(*what, part, batch_seconds=60.0, streams=2)


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


def expected_header(settings: EncodeSettings) -> dict[str, Any]:
    """What a store of these settings says of itself.

    Raises:
        UserError: see `load_encoder` and `extract.corpus_and_header`.
    """
    encoder = load_encoder(settings.encoder, settings.revision, settings.precision, settings.window_seconds)
    return corpus_and_header(settings.manifest, encoder, settings.dtype, settings.layers)[1]


def _available(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # the latter from a PyTorch without CUDA
        raise UserError(f"field 'device' is '{device}', which PyTorch cannot use here; try auto") from None
    return device
