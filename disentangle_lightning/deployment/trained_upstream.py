"""The speech encoder that stages were trained on, and no other."""

from __future__ import annotations

from typing import Any

from disentangle_lightning.errors import UserError
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder
from disentangle_lightning.upstream.loading import load_checkpoint

IDENTITY = ("name", "revision", "family", "fingerprint", "window_seconds")
"""What is kept of a `FrozenSpeechEncoder.identity`: which weights, under which window."""

FEATURES = ("precision", "layers", "frame_rate")
"""What is kept of the feature store's header: what of the encoder the stages were trained on."""


def load_trained_upstream(identity: dict[str, Any], moved_to: str | None) -> FrozenSpeechEncoder:
    """Load the encoder again, as it was in training.

    Args:
        identity: the entries of `IDENTITY`, and the precision it computed in.
        moved_to: the folder or hub id under which it is known now; None where that has not changed.

    Raises:
        UserError: it is not there, or its weights are other ones.
    """
    name, revision = identity["name"], identity["revision"]
    if moved_to is not None:
        name, revision = moved_to, None
    try:
        checkpoint = load_checkpoint(name, revision)
    except UserError as error:
        hint = " (if this model's encoder has moved, hand its folder in as `upstream`)" if moved_to is None else ""
        raise UserError(f"{error}{hint}") from None
    # Before the window: an encoder of another family has none, and that would be a puzzling thing to say.
    if checkpoint.fingerprint != identity["fingerprint"]:
        raise UserError(
            f"encoder {name!r} is not the one that this model was trained on: the fingerprint of its weights is "
            f"{checkpoint.fingerprint[:12]}, not {identity['fingerprint'][:12]}"
        )
    if identity["window_seconds"] is not None:
        checkpoint.family.shorten_window(checkpoint.encoder, identity["window_seconds"])
    return FrozenSpeechEncoder(name, checkpoint, identity["precision"])
